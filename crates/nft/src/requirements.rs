//! What the dataplane needs of the machine (D47).

use std::fs;

/// Something that the machine lacks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// The kernel is older than 5.13: its nf_tables lacks lookups that load several fields.
    #[error("the kernel is {found}, but 5.13 or later is needed")]
    Kernel {
        /// `uname -r`.
        found: String,
    },
    /// The process may not change the network.
    #[error(
        "the process lacks CAP_NET_ADMIN: run it as root, or give its pod or unit that capability"
    )]
    NetAdmin,
    /// Packets between pods and outside would not pass through.
    #[error("net.{key} is {found}, so this node forwards no packets of that family; set it to 1")]
    Forwarding {
        /// Below `/proc/sys/net`, with dots.
        key: &'static str,
        /// What is there.
        found: String,
    },
}

/// What this machine and this process lack, in the current network namespace. What cannot be found
/// out does not count as missing.
pub fn missing() -> Vec<Missing> {
    let read = |file: &str| fs::read_to_string(file).ok();
    let release = read("/proc/sys/kernel/osrelease");
    let status = read("/proc/thread-self/status");
    let kernel = release.and_then(|text| old_kernel(text.trim()));
    let capability = status.and_then(|text| lacks_net_admin(&text).then_some(Missing::NetAdmin));
    let forwarding = ["ipv4.ip_forward", "ipv6.conf.all.forwarding"];
    let forwarding = forwarding.into_iter().filter_map(|key| {
        let found = read(&format!("/proc/sys/net/{}", key.replace('.', "/")))?;
        (found.trim() == "0").then(|| Missing::Forwarding { key, found: found.trim().to_owned() })
    });
    kernel.into_iter().chain(capability).chain(forwarding).collect()
}

/// A release such as `6.1.0-13-amd64` that is too old.
fn old_kernel(release: &str) -> Option<Missing> {
    let mut numbers = release.split(['.', '-']).map(|text| text.parse::<u32>().ok());
    let version = (numbers.next()??, numbers.next()??);
    (version < (5, 13)).then(|| Missing::Kernel { found: release.to_owned() })
}

/// Whether `/proc/…/status` tells that CAP_NET_ADMIN is not effective.
fn lacks_net_admin(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    effective.is_some_and(|bits| bits & 1 << CAP_NET_ADMIN == 0)
}

/// `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_and_capabilities_are_told() {
        for release in ["5.13.0", "6.1.0-13-amd64", "6.18.44-fc", "10.0", "5.15-rc1", "odd"] {
            assert_eq!(old_kernel(release), None, "{release}");
        }
        for release in ["5.12.19", "4.19.0-26-cloud", "3.10.0-1160.el7.x86_64"] {
            let found = release.to_owned();
            assert_eq!(old_kernel(release), Some(Missing::Kernel { found }));
        }
        assert!(!lacks_net_admin("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!lacks_net_admin("CapEff:\t0000000000001000\n"));
        assert!(lacks_net_admin("CapEff:\t00000000a80425fb\n"), "what a container gets");
        assert!(!lacks_net_admin("Name:\tx\n"), "unknown is not missing");
    }
}
