//! Every field of `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1) with its flag, its
//! default and what becomes of it: the one table that parsing, flags, warnings and
//! docs/migrating-from-kube-proxy.md follow.

use serde_json::{Value, json};

use self::Kind::{Bool, Duration, Float, Int, List, Map, Modules, Period, Quantity, Text};
use self::Support::{Ignored, Used};

/// One field.
#[derive(Debug)]
pub(crate) struct Field {
    /// Where it stands, such as `conntrack.maxPerCore`.
    pub(crate) path: &'static str,
    /// Name of the flag that sets it, without dashes; empty when there is none.
    pub(crate) flag: &'static str,
    /// What it holds.
    pub(crate) kind: Kind,
    /// Its default.
    pub(crate) default: Preset,
    /// What becomes of it.
    pub(crate) support: Support,
}

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A number from a range.
    Int(i64, i64),
    /// A number.
    Float,
    /// Go's notation of a duration, such as `1m30s`.
    Duration,
    /// The same, or a number of nanoseconds.
    Period,
    /// Texts; separated by commas in a flag.
    List,
    /// Names with `true` or `false`.
    Map,
    /// Log levels by module.
    Modules,
    /// A quantity such as `64Ki`.
    Quantity,
}

/// A default.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Preset {
    /// Not set.
    Unset,
    /// Not set by default; its zero value means the same.
    Zero,
    /// A number.
    Number(i64, ZeroMeans),
    /// A text.
    Words(&'static str, ZeroMeans),
    /// A boolean.
    Truth(bool),
}

/// What an explicit zero (or empty text) means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ZeroMeans {
    /// Zero.
    Zero,
    /// The default, as if it were not there.
    Default,
}

/// What becomes of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Support {
    /// It is followed; this is what it does.
    Used(&'static str),
    /// It has no effect, and why.
    Ignored(&'static str),
}

impl Field {
    /// The field at a path.
    pub(crate) fn at(path: &str) -> Option<&'static Self> {
        FIELDS.iter().find(|field| field.path == path)
    }

    /// The default as JSON.
    pub(crate) fn default_value(&self) -> Value {
        match self.default {
            Preset::Unset => Value::Null,
            Preset::Zero => self.zero(),
            Preset::Number(number, _) => number.into(),
            Preset::Words(text, _) => text.into(),
            Preset::Truth(truth) => truth.into(),
        }
    }

    /// What is meant by a value that was written down.
    pub(crate) fn resolve(&self, value: Value) -> Value {
        let zero_is_default = match self.default {
            Preset::Number(_, zero) | Preset::Words(_, zero) => zero == ZeroMeans::Default,
            Preset::Zero => true,
            Preset::Unset => self.kind == Text,
            Preset::Truth(_) => false,
        };
        if value.is_null() || (zero_is_default && value == self.zero()) {
            self.default_value()
        } else {
            value
        }
    }

    fn zero(&self) -> Value {
        match self.kind {
            Text => "".into(),
            Bool => false.into(),
            Int(..) | Float => 0.into(),
            Duration | Period => "0s".into(),
            List | Modules => json!([]),
            Map => json!({}),
            Quantity => "0".into(),
        }
    }
}

const fn field(
    path: &'static str,
    flag: &'static str,
    kind: Kind,
    default: Preset,
    support: Support,
) -> Field {
    Field { path, flag, kind, default, support }
}

const fn words(text: &'static str) -> Preset {
    Preset::Words(text, ZeroMeans::Default)
}

const fn number(number: i64) -> Preset {
    Preset::Number(number, ZeroMeans::Default)
}

/// A default that zero overrides: a pointer in upstream's type.
const fn or_zero(number: i64) -> Preset {
    Preset::Number(number, ZeroMeans::Zero)
}

const SIGNED: Kind = Int(i32::MIN as i64, i32::MAX as i64);
const UNSIGNED: Kind = Int(0, i32::MAX as i64);
const BIT: Kind = Int(0, 31);
const OFF: Preset = Preset::Truth(false);
const EMPTY: Preset = Preset::Zero;

const IPVS: Support = Ignored("there is no IPVS mode: nftables does the work");
const WINDOWS: Support = Ignored("it is for Windows");
const LOG_BUFFER: Support = Ignored("log lines go to stderr, unbuffered");
const AT_ONCE: Support = Ignored("changes are programmed at once: a sync costs milliseconds");
const MASQUERADE_BIT: Support = Used("bit of the packet mark for traffic to be masqueraded");
const MASQUERADE_ALL: Support = Used("masquerade all traffic to cluster IPs");
const SYNC_PERIOD: Support = Used("longest delay before a refused sync is tried again");

/// The table.
pub(crate) const FIELDS: &[Field] = &[
    field(
        "featureGates",
        "feature-gates",
        Map,
        EMPTY,
        Ignored("there are no feature gates: what kube-proxy gates is on or not there"),
    ),
    field(
        "clientConnection.kubeconfig",
        "kubeconfig",
        Text,
        EMPTY,
        Used("kubeconfig [default: the pod's service account, or $KUBECONFIG]"),
    ),
    field(
        "clientConnection.acceptContentTypes",
        "",
        Text,
        EMPTY,
        Ignored("the agent and the API server talk JSON"),
    ),
    field(
        "clientConnection.contentType",
        "kube-api-content-type",
        Text,
        words("application/vnd.kubernetes.protobuf"),
        Ignored("the agent and the API server talk JSON"),
    ),
    field(
        "clientConnection.qps",
        "kube-api-qps",
        Float,
        number(5),
        Ignored("the agent watches; its few requests are not limited"),
    ),
    field(
        "clientConnection.burst",
        "kube-api-burst",
        SIGNED,
        number(10),
        Ignored("the agent watches; its few requests are not limited"),
    ),
    field("logging.format", "logging-format", Text, words("text"), Ignored("log lines are text")),
    field("logging.flushFrequency", "log-flush-frequency", Period, words("5s"), LOG_BUFFER),
    field("logging.verbosity", "v", UNSIGNED, EMPTY, Used("log level: 4 is debug, 6 is trace")),
    field(
        "logging.vmodule",
        "vmodule",
        Modules,
        EMPTY,
        Ignored("PORTOLAN_LOG sets log levels by module"),
    ),
    field("logging.options.text.splitStream", "log-text-split-stream", Bool, OFF, LOG_BUFFER),
    field(
        "logging.options.text.infoBufferSize",
        "log-text-info-buffer-size",
        Quantity,
        EMPTY,
        LOG_BUFFER,
    ),
    field("logging.options.json.splitStream", "log-json-split-stream", Bool, OFF, LOG_BUFFER),
    field(
        "logging.options.json.infoBufferSize",
        "log-json-info-buffer-size",
        Quantity,
        EMPTY,
        LOG_BUFFER,
    ),
    field(
        "hostnameOverride",
        "hostname-override",
        Text,
        EMPTY,
        Used("name of this Node [default: the host's name]"),
    ),
    field(
        "bindAddress",
        "bind-address",
        Text,
        words("0.0.0.0"),
        Used("this node's address of its family, instead of the Node's InternalIP"),
    ),
    field(
        "healthzBindAddress",
        "healthz-bind-address",
        Text,
        Preset::Unset,
        Used("where /healthz is served [default: 0.0.0.0:10256]; empty turns it off"),
    ),
    field(
        "metricsBindAddress",
        "metrics-bind-address",
        Text,
        Preset::Unset,
        Used("where /metrics is served [default: 127.0.0.1:10249]; empty turns it off"),
    ),
    field(
        "bindAddressHardFail",
        "bind-address-hard-fail",
        Bool,
        OFF,
        Used("end when such an address is taken, instead of trying again"),
    ),
    field(
        "enableProfiling",
        "profiling",
        Bool,
        OFF,
        Ignored("there is no /debug/pprof: it profiles Go programs"),
    ),
    field(
        "showHiddenMetricsForVersion",
        "show-hidden-metrics-for-version",
        Text,
        EMPTY,
        Ignored("no metric is hidden"),
    ),
    field(
        "mode",
        "proxy-mode",
        Text,
        EMPTY,
        Used("kube-proxy's mode (nftables, iptables, ipvs): nftables does the work of each"),
    ),
    field("iptables.masqueradeBit", "iptables-masquerade-bit", BIT, or_zero(14), MASQUERADE_BIT),
    field("iptables.masqueradeAll", "masquerade-all", Bool, OFF, MASQUERADE_ALL),
    field(
        "iptables.localhostNodePorts",
        "iptables-localhost-nodeports",
        Bool,
        Preset::Unset,
        Used("node ports also on 127.0.0.1 and ::1 [default: no]"),
    ),
    field(
        "iptables.snatNodeInternalIP",
        "",
        Bool,
        OFF,
        Ignored("masquerading uses the address of the outgoing interface"),
    ),
    field("iptables.syncPeriod", "iptables-sync-period", Duration, words("30s"), SYNC_PERIOD),
    field("iptables.minSyncPeriod", "iptables-min-sync-period", Duration, words("1s"), AT_ONCE),
    field("ipvs.syncPeriod", "ipvs-sync-period", Duration, words("30s"), IPVS),
    field("ipvs.minSyncPeriod", "ipvs-min-sync-period", Duration, words("1s"), IPVS),
    field("ipvs.scheduler", "ipvs-scheduler", Text, EMPTY, IPVS),
    field("ipvs.excludeCIDRs", "ipvs-exclude-cidrs", List, EMPTY, IPVS),
    field("ipvs.strictARP", "ipvs-strict-arp", Bool, OFF, IPVS),
    field("ipvs.tcpTimeout", "ipvs-tcp-timeout", Duration, EMPTY, IPVS),
    field("ipvs.tcpFinTimeout", "ipvs-tcpfin-timeout", Duration, EMPTY, IPVS),
    field("ipvs.udpTimeout", "ipvs-udp-timeout", Duration, EMPTY, IPVS),
    field("nftables.masqueradeBit", "nftables-masquerade-bit", BIT, or_zero(14), MASQUERADE_BIT),
    field("nftables.masqueradeAll", "masquerade-all", Bool, OFF, MASQUERADE_ALL),
    field("nftables.syncPeriod", "sync-period", Duration, words("30s"), SYNC_PERIOD),
    field("nftables.minSyncPeriod", "min-sync-period", Duration, words("1s"), AT_ONCE),
    field("winkernel.networkName", "", Text, EMPTY, WINDOWS),
    field("winkernel.sourceVip", "", Text, EMPTY, WINDOWS),
    field("winkernel.enableDSR", "", Bool, OFF, WINDOWS),
    field("winkernel.rootHnsEndpointName", "", Text, EMPTY, WINDOWS),
    field("winkernel.forwardHealthCheckVip", "", Bool, OFF, WINDOWS),
    field(
        "detectLocalMode",
        "detect-local-mode",
        Text,
        EMPTY,
        Used(
            "how this node's pods are told from outside: ClusterCIDR, NodeCIDR, \
             BridgeInterface, InterfaceNamePrefix or None [default: ClusterCIDR with \
             --cluster-cidr, else NodeCIDR]",
        ),
    ),
    field(
        "detectLocal.bridgeInterface",
        "pod-bridge-interface",
        Text,
        EMPTY,
        Used("with BridgeInterface: the bridge that pods are joined to"),
    ),
    field(
        "detectLocal.interfaceNamePrefix",
        "pod-interface-name-prefix",
        Text,
        EMPTY,
        Used("with InterfaceNamePrefix: how the names of pods' interfaces start"),
    ),
    field(
        "clusterCIDR",
        "cluster-cidr",
        Text,
        EMPTY,
        Used("with ClusterCIDR: the pods' networks, separated by commas"),
    ),
    field(
        "nodePortAddresses",
        "nodeport-addresses",
        List,
        EMPTY,
        Used(
            "where node ports answer: networks, primary, all, localhost [default: primary, \
             the Node's InternalIPs]",
        ),
    ),
    field(
        "oomScoreAdj",
        "oom-score-adj",
        Int(-1000, 1000),
        Preset::Unset,
        Used("how readily the kernel ends the agent when memory is short"),
    ),
    field(
        "conntrack.maxPerCore",
        "conntrack-max-per-core",
        UNSIGNED,
        or_zero(32 * 1024),
        Used("tracked connections per processor; 0 leaves the kernel's limit"),
    ),
    field(
        "conntrack.min",
        "conntrack-min",
        UNSIGNED,
        or_zero(128 * 1024),
        Used("tracked connections at least"),
    ),
    field(
        "conntrack.tcpEstablishedTimeout",
        "conntrack-tcp-timeout-established",
        Duration,
        Preset::Words("24h0m0s", ZeroMeans::Zero),
        Used("how long an idle TCP connection is tracked; 0 leaves the kernel's"),
    ),
    field(
        "conntrack.tcpCloseWaitTimeout",
        "conntrack-tcp-timeout-close-wait",
        Duration,
        Preset::Words("1h0m0s", ZeroMeans::Zero),
        Used("how long a half-closed TCP connection is tracked"),
    ),
    field(
        "conntrack.tcpBeLiberal",
        "conntrack-tcp-be-liberal",
        Bool,
        OFF,
        Used("track TCP packets outside of the window"),
    ),
    field(
        "conntrack.udpTimeout",
        "conntrack-udp-timeout",
        Duration,
        EMPTY,
        Used("how long an unanswered UDP flow is tracked; 0 leaves the kernel's"),
    ),
    field(
        "conntrack.udpStreamTimeout",
        "conntrack-udp-timeout-stream",
        Duration,
        EMPTY,
        Used("how long an answered UDP flow is tracked; 0 leaves the kernel's"),
    ),
    field(
        "configSyncPeriod",
        "config-sync-period",
        Duration,
        words("15m0s"),
        Ignored("watches deliver every change: nothing has to be refreshed"),
    ),
    field("portRange", "", Text, EMPTY, Ignored("kube-proxy does not use it any more")),
    field("windowsRunAsService", "", Bool, OFF, WINDOWS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_the_default_where_upstream_cannot_tell_them_apart() {
        let of = |path: &str, value: Value| Field::at(path).unwrap().resolve(value);
        assert_eq!(of("iptables.syncPeriod", json!("0s")), json!("30s"));
        assert_eq!(of("clientConnection.qps", json!(0)), json!(5));
        assert_eq!(of("conntrack.maxPerCore", json!(0)), json!(0), "leaves the limit alone");
        assert_eq!(of("conntrack.maxPerCore", Value::Null), json!(32768));
        assert_eq!(of("conntrack.tcpEstablishedTimeout", json!("0s")), json!("0s"));
    }

    #[test]
    fn the_guide_names_every_field_and_flag() {
        let guide = include_str!("../../../../docs/migrating-from-kube-proxy.md");
        for field in FIELDS {
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{}` |", field.path)));
            let row = row.unwrap_or_else(|| panic!("{} is missing", field.path));
            assert!(field.flag.is_empty() || row.contains(&format!("`--{}`", field.flag)), "{row}");
            let word = match field.support {
                Used(_) => "used",
                Ignored(_) => "ignored",
            };
            assert!(row.contains(word), "{row}");
        }
    }
}
