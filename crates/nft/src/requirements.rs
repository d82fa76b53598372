//! What the dataplane needs of the machine (D47).

use std::collections::BTreeSet;
use std::fs;
use std::io;

use model::Family;

use crate::expr::Expr;
use crate::ruleset::{Base, ChainKind, Op};

/// Something that the machine lacks.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Missing {
    /// The kernel is older than 5.13: its nf_tables lacks lookups that load several fields.
    #[error("the kernel is {found}: Services need 5.13 or later")]
    Kernel {
        /// `uname -r`.
        found: String,
    },
    /// The process may not change the network.
    #[error(
        "the process lacks CAP_NET_ADMIN: it can neither read nor change the kernel's tables; run it \
         as root, or give its pod or unit that capability"
    )]
    NetAdmin,
}

/// What this machine and this process lack, in the current network namespace. What cannot be found
/// out does not count as missing.
pub fn missing() -> Vec<Missing> {
    let read = |file: &str| fs::read_to_string(file).ok();
    let release = read("/proc/sys/kernel/osrelease");
    let status = read("/proc/thread-self/status");
    let kernel = release.and_then(|text| old_kernel(text.trim()));
    let capability = status.and_then(|text| lacks_net_admin(&text).then_some(Missing::NetAdmin));
    kernel.into_iter().chain(capability).collect()
}

/// A family of which this node passes no packets on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "this node forwards no {} packets: its own processes reach Services, pods and outside clients do \
     not (sysctl -w net.{}=1)",
    family.as_str(),
    key.replace('/', ".")
)]
pub struct NotForwarding {
    /// Which.
    pub family: Family,
    /// The setting, below `/proc/sys/net`.
    key: &'static str,
}

/// Families of which packets are not forwarded in the current network namespace. What cannot be found
/// out does not count.
pub fn not_forwarding() -> Vec<NotForwarding> {
    let keys = [(Family::V4, "ipv4/ip_forward"), (Family::V6, "ipv6/conf/all/forwarding")];
    let is_off = |key: &str| {
        fs::read_to_string(format!("/proc/sys/net/{key}")).is_ok_and(|found| found.trim() == "0")
    };
    let off = keys.into_iter().filter(|(_, key)| is_off(key));
    off.map(|(family, key)| NotForwarding { family, key }).collect()
}

/// Which parts of the kernel an operation needs, when the kernel has refused it with an error by which
/// it tells that a part is missing: in words that go on after the operation, or nothing.
///
/// The kernel loads its modules by itself when they are first used, so that nobody can say before what
/// it has.
pub(crate) fn lacking(operation: &Op, refusal: &io::Error) -> String {
    let missing = [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT];
    let options = options(operation);
    if options.is_empty() || !refusal.raw_os_error().is_some_and(|code| missing.contains(&code)) {
        return String::new();
    }
    let options: Vec<&str> = options.into_iter().collect();
    format!(", for which it needs {}", options.join(", "))
}

/// The kernel's build options behind an operation, beyond CONFIG_NF_TABLES.
fn options(operation: &Op) -> BTreeSet<&'static str> {
    match operation {
        Op::AddTable(Family::V4) => ["CONFIG_NF_TABLES_IPV4"].into(),
        Op::AddTable(Family::V6) => ["CONFIG_NF_TABLES_IPV6"].into(),
        Op::AddChain(_, _, Some(Base { kind: ChainKind::Nat, .. })) => ["CONFIG_NFT_NAT"].into(),
        Op::AddRule(family, _, rule) => rule
            .iter()
            .filter_map(|expression| match (expression, family) {
                (Expr::Ct { .. }, _) => Some("CONFIG_NFT_CT"),
                (Expr::FibType { .. }, Family::V4) => Some("CONFIG_NFT_FIB_IPV4"),
                (Expr::FibType { .. }, Family::V6) => Some("CONFIG_NFT_FIB_IPV6"),
                (Expr::Numgen { .. }, _) => Some("CONFIG_NFT_NUMGEN"),
                (Expr::Dnat { .. }, _) => Some("CONFIG_NFT_NAT"),
                (Expr::Masquerade, _) => Some("CONFIG_NFT_MASQ"),
                (Expr::Reject { .. }, _) => Some("CONFIG_NFT_REJECT"),
                _ => None,
            })
            .collect(),
        _ => BTreeSet::new(),
    }
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
    fn what_does_not_work_without_forwarding_is_said() {
        let lack = NotForwarding { family: Family::V6, key: "ipv6/conf/all/forwarding" };
        let text = lack.to_string();
        assert!(text.starts_with("this node forwards no IPv6 packets"), "{text}");
        assert!(text.ends_with("(sysctl -w net.ipv6.conf.all.forwarding=1)"), "{text}");
    }

    #[test]
    fn a_refusal_for_want_of_a_module_names_it() {
        let rule = vec![Expr::Masquerade];
        let add = Op::AddRule(Family::V4, "postrouting".into(), rule);
        let refusal = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(lacking(&add, &refusal), ", for which it needs CONFIG_NFT_MASQ");
        let refusal = io::Error::from_raw_os_error(libc::EPERM);
        assert_eq!(lacking(&add, &refusal), "", "rights are not modules");
        let delete = Op::DeleteTable(Family::V4);
        let refusal = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(lacking(&delete, &refusal), "");
    }

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
