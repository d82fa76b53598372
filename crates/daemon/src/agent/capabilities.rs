//! What the agent needs of the kernel and of its own rights, and what does not work without (D47).

use model::{Family, Node};

use super::AgentConfig;

/// `linux/capability.h`.
const NET_RAW: u8 = 13;

/// One line for each thing that is missing and wanted, saying what will not work.
pub(crate) fn missing(config: &AgentConfig) -> Vec<String> {
    let mut missing: Vec<String> = nft::missing().iter().map(ToString::to_string).collect();
    missing.extend(missing_capabilities(config));
    missing
}

/// One line for each family that a node has and whose packets it does not forward. Network plug-ins may
/// change that at any time.
pub(crate) fn not_forwarding(node: &Node) -> Vec<String> {
    let has = |family: Family| node.internal_ips.iter().any(|ip| Family::of(*ip) == family);
    let lacks = nft::not_forwarding().into_iter().filter(|lack| has(lack.family));
    lacks.map(|lack| lack.to_string()).collect()
}

fn missing_capabilities(config: &AgentConfig) -> Vec<String> {
    match std::fs::read_to_string("/proc/thread-self/status") {
        Ok(status) => missing_of(effective(&status).unwrap_or(u64::MAX), config),
        Err(error) => {
            tracing::warn!(%error, "cannot tell which capabilities this process has");
            Vec::new()
        }
    }
}

/// The effective set, from the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing_of(effective: u64, config: &AgentConfig) -> Vec<String> {
    let has = |capability: u8| effective & (1 << capability) != 0;
    let mut missing = Vec::new();
    if let Some(interface) = &config.announce_interface
        && !has(NET_RAW)
    {
        missing.push(format!(
            "CAP_NET_RAW is missing: load balancer addresses cannot be announced on {interface}"
        ));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wanted_is_missed() {
        let mut config = AgentConfig::new("a".into());
        assert!(missing_of(0, &config).is_empty());
        config.announce_interface = Some("eth0".to_owned());
        assert!(missing_of(0, &config)[0].contains("eth0"));
        assert!(missing_of(1 << NET_RAW, &config).is_empty());
    }

    #[test]
    fn the_effective_set_is_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000003000\n"), Some(0x3000));
        assert!(effective(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some());
    }
}
