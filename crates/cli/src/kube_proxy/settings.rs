//! From kube-proxy's words to the agent's settings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, bail};
use daemon::agent::{AgentConfig, Conntrack, NodePorts};
use ipnet::IpNet;
use model::NodeName;
use plan::DetectorMode;

use super::{Configuration, Flags};

/// Default ports, as kube-proxy's.
const HEALTHZ_PORT: u16 = 10256;
const METRICS_PORT: u16 = 10249;

/// What a configuration means.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The configuration, as it was understood.
    pub(crate) configuration: Configuration,
    /// What has no effect, one line each.
    pub(crate) warnings: Vec<String>,
}

impl Settings {
    /// From a file and flags, or from flags alone.
    ///
    /// # Errors
    /// When the file cannot be read, or a field or flag makes no sense.
    pub(crate) fn read(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let (configuration, mut warnings) = match file {
            Some(path) => {
                let mut configuration = Configuration::read(path)?;
                let warnings = flags.override_file(&mut configuration)?;
                (configuration, warnings)
            }
            None => (flags.configuration()?, Vec::new()),
        };
        warnings.extend(configuration.unsupported());
        Ok(Self { configuration, warnings })
    }

    /// The name that the Node was given, if any.
    pub(crate) fn node_name(&self) -> anyhow::Result<Option<NodeName>> {
        let name = self.configuration.text("hostnameOverride");
        match name.trim() {
            "" if name.is_empty() => Ok(None),
            "" => bail!("hostnameOverride is blank: give the Node's name"),
            name => Ok(Some(name.to_lowercase().into())),
        }
    }

    /// `logging.verbosity`.
    pub(crate) fn verbosity(&self) -> i64 {
        self.configuration.number("logging.verbosity")
    }

    /// `oomScoreAdj`, when it was set.
    pub(crate) fn oom_score_adj(&self) -> Option<i64> {
        self.configuration.get("oomScoreAdj").as_i64()
    }

    /// The agent's settings for a node. Adds to the warnings what turns out on the way.
    ///
    /// # Errors
    /// When a value makes no sense.
    pub(crate) fn agent(&mut self, node: NodeName, from_file: bool) -> anyhow::Result<AgentConfig> {
        let mut config = AgentConfig::new(node);
        let bit = self.section("masqueradeBit");
        let all = self.section("masqueradeAll");
        let period = self.section("syncPeriod");
        self.mode()?;
        let this = &self.configuration;
        let kubeconfig = this.text("clientConnection.kubeconfig");
        config.kubeconfig = (!kubeconfig.is_empty()).then(|| kubeconfig.into());
        config.masquerade_bit = u8::try_from(this.number(&bit)).context("read masqueradeBit")?;
        config.masquerade_all = this.truth(&all);
        config.sync_period = this.duration(&period);
        config.conntrack = conntrack(this)?;
        config.bind_hard_fail = this.truth("bindAddressHardFail");
        let (bind, own) = bind_address(&this.text("bindAddress"))?;
        config.node_ips.extend(own);
        config.health_bind =
            bind_to(this, "healthzBindAddress", default_bind(bind, HEALTHZ_PORT, false))?;
        config.metrics_bind =
            bind_to(this, "metricsBindAddress", default_bind(bind, METRICS_PORT, true))?;
        config.node_ports = node_ports(&this.list("nodePortAddresses"))?;
        config.node_ports.loopback |= this.truth("iptables.localhostNodePorts");
        config.configuration = this.to_json();
        config.detector = self.detector(from_file)?;
        Ok(config)
    }

    /// The path of a field in the section of the mode: `nftables` when that is asked for, `iptables`
    /// otherwise, as with kube-proxy.
    fn section(&self, name: &str) -> String {
        let nftables = self.configuration.text("mode") == "nftables";
        let other = format!("nftables.{name}");
        let of_iptables = format!("iptables.{name}");
        if nftables
            || (self.configuration.is_set(&other) && !self.configuration.is_set(&of_iptables))
        {
            other
        } else {
            of_iptables
        }
    }

    fn mode(&mut self) -> anyhow::Result<()> {
        match self.configuration.text("mode").as_str() {
            "" | "nftables" => Ok(()),
            mode @ ("iptables" | "ipvs") => {
                self.warnings.push(format!(
                    "mode {mode} is served by nftables: see docs/migrating-from-kube-proxy.md for \
                     what differs"
                ));
                Ok(())
            }
            mode => bail!("mode {mode:?} is not nftables, iptables or ipvs"),
        }
    }

    /// D13.
    fn detector(&mut self, from_file: bool) -> anyhow::Result<DetectorMode> {
        let this = &self.configuration;
        let networks = networks("clusterCIDR", this.text("clusterCIDR").split(','))?;
        let required = |field: &str, mode: &str| {
            let text = this.text(field);
            if text.is_empty() {
                bail!("detectLocalMode {mode} needs {field}");
            }
            Ok(text)
        };
        Ok(match this.text("detectLocalMode").as_str() {
            "" | "ClusterCIDR" if !networks.is_empty() => DetectorMode::ClusterCidr(networks),
            "" if !from_file => DetectorMode::NodeCidr,
            mode @ ("" | "ClusterCIDR") => {
                if mode.is_empty() || from_file {
                    self.warnings.push(
                        "clusterCIDR is not set: traffic from outside to cluster IPs keeps its \
                         source, and pods do not reach all endpoints under policy Local (set \
                         clusterCIDR, or detectLocalMode: NodeCIDR)"
                            .to_owned(),
                    );
                    return Ok(DetectorMode::None);
                }
                bail!("--detect-local-mode ClusterCIDR needs --cluster-cidr");
            }
            "NodeCIDR" => DetectorMode::NodeCidr,
            mode @ "BridgeInterface" => {
                DetectorMode::BridgeInterface(required("detectLocal.bridgeInterface", mode)?)
            }
            mode @ "InterfaceNamePrefix" => {
                DetectorMode::InterfacePrefix(required("detectLocal.interfaceNamePrefix", mode)?)
            }
            "None" => DetectorMode::None,
            mode => bail!(
                "detectLocalMode {mode:?} is not ClusterCIDR, NodeCIDR, BridgeInterface, \
                 InterfaceNamePrefix or None"
            ),
        })
    }
}

fn conntrack(this: &Configuration) -> anyhow::Result<Conntrack> {
    let number =
        |field: &str| u32::try_from(this.number(field)).with_context(|| format!("read {field}"));
    Ok(Conntrack {
        max_per_core: number("conntrack.maxPerCore")?,
        min: number("conntrack.min")?,
        tcp_established_timeout: this.duration("conntrack.tcpEstablishedTimeout"),
        tcp_close_wait_timeout: this.duration("conntrack.tcpCloseWaitTimeout"),
        tcp_be_liberal: this.truth("conntrack.tcpBeLiberal"),
        udp_timeout: this.duration("conntrack.udpTimeout"),
        udp_stream_timeout: this.duration("conntrack.udpStreamTimeout"),
    })
}

/// `bindAddress`: the family that servers bind to by default, and the node's own address.
fn bind_address(text: &str) -> anyhow::Result<(IpAddr, Option<IpAddr>)> {
    let address: IpAddr =
        text.parse().with_context(|| format!("bindAddress {text:?} is not an IP address"))?;
    Ok((address, (!address.is_unspecified()).then_some(address)))
}

fn default_bind(bind: IpAddr, port: u16, loopback: bool) -> SocketAddr {
    let address: IpAddr = match (bind, loopback) {
        (IpAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
        (IpAddr::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address, port)
}

/// An address with or without a port; empty means nowhere.
fn bind_to(
    this: &Configuration,
    field: &str,
    default: SocketAddr,
) -> anyhow::Result<Option<SocketAddr>> {
    let value = this.get(field);
    let Some(text) = value.as_str() else { return Ok(Some(default)) };
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(address, default.port())));
    }
    let address = text.parse().with_context(|| {
        format!("{field} {text:?} is not ADDRESS:PORT (IPv6 addresses in brackets)")
    })?;
    Ok(Some(address))
}

/// D30: networks and keywords. Nothing means the Node's own addresses.
fn node_ports(items: &[String]) -> anyhow::Result<NodePorts> {
    let mut ports = NodePorts { primary: items.is_empty(), ..NodePorts::default() };
    for item in items {
        match item.as_str() {
            "primary" => ports.primary = true,
            "localhost" => ports.loopback = true,
            "all" => ports.networks.extend(networks("all", ["0.0.0.0/0", "::/0"])?),
            network => ports.networks.extend(networks("nodePortAddresses", [network])?),
        }
    }
    Ok(ports)
}

fn networks<'a>(
    field: &str,
    texts: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<Vec<IpNet>> {
    let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
    let network = |text: &str| {
        text.parse::<IpNet>()
            .map(|network| network.trunc())
            .with_context(|| format!("{field}: {text:?} is not a network such as 10.244.0.0/16"))
    };
    texts.map(network).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings(given: &[(&'static str, &str)]) -> Settings {
        let given = given.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
        Settings::read(None, &Flags { given }).unwrap()
    }

    fn agent(given: &[(&'static str, &str)]) -> AgentConfig {
        settings(given).agent("a".into(), false).unwrap()
    }

    fn refusal(given: &[(&'static str, &str)]) -> String {
        format!("{:#}", settings(given).agent("a".into(), false).unwrap_err())
    }

    #[test]
    fn defaults_are_upstreams_but_for_the_detector() {
        let config = agent(&[]);
        assert_eq!(config.health_bind, Some("0.0.0.0:10256".parse().unwrap()));
        assert_eq!(config.metrics_bind, Some("127.0.0.1:10249".parse().unwrap()));
        assert_eq!(config.detector, DetectorMode::NodeCidr);
        assert_eq!(config.masquerade_bit, 14);
        assert_eq!(config.sync_period, Duration::from_secs(30));
        assert_eq!(config.conntrack, Conntrack::default());
        assert!(config.node_ports.primary && !config.node_ports.loopback);
    }

    #[test]
    fn an_ipv6_bind_address_moves_the_servers_and_names_the_node() {
        let config = agent(&[("bind-address", "fd00::5")]);
        assert_eq!(config.health_bind, Some("[::]:10256".parse().unwrap()));
        assert_eq!(config.metrics_bind, Some("[::1]:10249".parse().unwrap()));
        assert_eq!(config.node_ips, ["fd00::5".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn servers_are_moved_and_turned_off() {
        let config = agent(&[("healthz-bind-address", "::1"), ("metrics-bind-address", "")]);
        assert_eq!(config.health_bind, Some("[::1]:10256".parse().unwrap()));
        assert_eq!(config.metrics_bind, None);
        let config = agent(&[("metrics-bind-address", "0.0.0.0:9")]);
        assert_eq!(config.metrics_bind, Some("0.0.0.0:9".parse().unwrap()));
        assert!(refusal(&[("metrics-bind-address", "here")]).contains("is not ADDRESS:PORT"));
    }

    #[test]
    fn the_detector_follows_what_is_given() {
        let cidr: IpNet = "10.0.0.0/8".parse().unwrap();
        let config = agent(&[("cluster-cidr", "10.0.0.0/8")]);
        assert_eq!(config.detector, DetectorMode::ClusterCidr(vec![cidr]));
        let config =
            agent(&[("detect-local-mode", "BridgeInterface"), ("pod-bridge-interface", "cni0")]);
        assert_eq!(config.detector, DetectorMode::BridgeInterface("cni0".to_owned()));
        assert!(refusal(&[("detect-local-mode", "ClusterCIDR")]).contains("--cluster-cidr"));
        assert!(refusal(&[("detect-local-mode", "BridgeInterface")]).contains("needs detectLocal"));
        let mut file = settings(&[]);
        let config = file.agent("a".into(), true).unwrap();
        assert_eq!(config.detector, DetectorMode::None, "as upstream does with an empty file");
        assert!(file.warnings[0].starts_with("clusterCIDR is not set"), "{:?}", file.warnings);
    }

    #[test]
    fn node_ports_answer_where_the_list_says() {
        let ports = agent(&[("nodeport-addresses", "192.0.2.0/24,primary,localhost")]).node_ports;
        assert!(ports.primary && ports.loopback);
        assert_eq!(ports.networks, ["192.0.2.0/24".parse::<IpNet>().unwrap()]);
        let ports = agent(&[("nodeport-addresses", "all")]).node_ports;
        assert_eq!(ports.networks.len(), 2);
        assert!(!ports.primary);
        assert!(refusal(&[("nodeport-addresses", "some")]).contains("is not a network"));
    }

    #[test]
    fn the_mode_chooses_the_section() {
        assert_eq!(agent(&[("iptables-masquerade-bit", "5")]).masquerade_bit, 5);
        assert_eq!(agent(&[("nftables-masquerade-bit", "6")]).masquerade_bit, 6);
        let nftables = [("proxy-mode", "nftables"), ("iptables-masquerade-bit", "5")];
        assert_eq!(agent(&nftables).masquerade_bit, 14);
        let mut ipvs = settings(&[("proxy-mode", "ipvs")]);
        ipvs.agent("a".into(), false).unwrap();
        assert!(ipvs.warnings[0].contains("served by nftables"), "{:?}", ipvs.warnings);
        assert!(refusal(&[("proxy-mode", "kernelspace")]).contains("kernelspace"));
    }

    #[test]
    fn a_node_name_is_trimmed_and_lowered() {
        let name = settings(&[("hostname-override", " Node1 ")]).node_name().unwrap();
        assert_eq!(name, Some("node1".into()));
        assert!(settings(&[("hostname-override", " ")]).node_name().is_err());
        assert_eq!(settings(&[]).node_name().unwrap(), None);
    }
}
