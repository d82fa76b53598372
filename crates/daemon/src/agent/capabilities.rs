//! What the agent needs of the kernel and of its own rights, and what does not work without (D47).

use super::AgentConfig;

/// Numbers of `linux/capability.h`.
const NET_ADMIN: u8 = 12;
const NET_RAW: u8 = 13;

/// The oldest kernel with all that our tables use.
const KERNEL: (u32, u32) = (5, 13);

/// One line for each thing that is missing and wanted, saying what will not work.
pub(crate) fn missing(config: &AgentConfig) -> Vec<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut missing: Vec<String> = old_kernel(release.trim()).into_iter().collect();
    missing.extend(missing_capabilities(config));
    missing
}

/// Why a kernel of this release may not do; `None` when it will, or cannot be told.
fn old_kernel(release: &str) -> Option<String> {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    let version = (numbers.next()?, numbers.next()?);
    (version < KERNEL).then(|| {
        let (major, minor) = KERNEL;
        format!("kernel {release} is older than {major}.{minor}: nf_tables may refuse our tables")
    })
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
    if !has(NET_ADMIN) {
        missing.push(
            "CAP_NET_ADMIN is missing: nftables and conntrack cannot be changed, so no Service \
             works through this node"
                .to_owned(),
        );
    }
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
        assert!(missing_of(1 << NET_ADMIN, &config).is_empty());
        assert!(missing_of(0, &config)[0].contains("CAP_NET_ADMIN"));
        config.announce_interface = Some("eth0".to_owned());
        assert!(missing_of(1 << NET_ADMIN, &config)[0].contains("eth0"));
        assert!(missing_of(1 << NET_ADMIN | 1 << NET_RAW, &config).is_empty());
    }

    #[test]
    fn an_old_kernel_is_named() {
        assert_eq!(old_kernel("5.13.0"), None);
        assert_eq!(old_kernel("6.1.0-13-amd64"), None);
        assert!(old_kernel("5.10.0-8-amd64").unwrap().contains("older than 5.13"));
        assert_eq!(old_kernel("unknown"), None);
    }

    #[test]
    fn the_effective_set_is_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000003000\n"), Some(0x3000));
        assert!(effective(&std::fs::read_to_string("/proc/self/status").unwrap()).is_some());
    }
}
