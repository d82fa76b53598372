//! Settings of connection tracking (D41).
//!
//! Unlike kube-proxy, a maximum that the operator has set higher than asked for stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What connection tracking should be set to; `None` leaves a setting alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// At least so many connections (`nf_conntrack_max`).
    pub least_connections: Option<u32>,
    /// How long an idle TCP connection is remembered.
    pub tcp_established: Option<Duration>,
    /// How long a TCP connection that one side has closed is remembered.
    pub tcp_close_wait: Option<Duration>,
    /// How long an unanswered UDP packet is remembered.
    pub udp: Option<Duration>,
    /// How long a UDP connection with answers is remembered.
    pub udp_stream: Option<Duration>,
    /// Packets outside of the TCP window are not INVALID.
    pub tcp_be_liberal: bool,
}

impl Tuning {
    /// kube-proxy's defaults on a machine with that many processors.
    pub fn usual(processors: u32) -> Self {
        const PER_PROCESSOR: u32 = 32 * 1024;
        const LEAST: u32 = 128 * 1024;
        const MOST: u32 = 1024 * 1024;
        let connections = processors.saturating_mul(PER_PROCESSOR).clamp(LEAST, MOST);
        Self {
            least_connections: Some(connections),
            tcp_established: Some(Duration::from_secs(24 * 60 * 60)),
            tcp_close_wait: Some(Duration::from_secs(60 * 60)),
            udp: None,
            udp_stream: None,
            tcp_be_liberal: false,
        }
    }
}

/// A setting that could not be made, and why; Services work without.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {} to {wanted}", file.display())]
pub struct NotSet {
    /// Its file.
    pub file: PathBuf,
    /// What should be in there.
    pub wanted: u64,
    /// Such as a read-only file system, as in containers.
    #[source]
    pub source: io::Error,
}

/// Makes the settings of the current network namespace and returns those that could not be made.
/// What is right already is not written, so that this works without rights when there is nothing
/// to do.
pub fn tune(tuning: &Tuning) -> Vec<NotSet> {
    tune_below(Path::new("/"), tuning)
}

/// Whether packets outside of the TCP window are not INVALID in the current network namespace, so
/// that [`crate::Settings::drop_invalid`] is needless.
pub fn is_liberal() -> bool {
    read(&Path::new("/").join(NETFILTER).join("nf_conntrack_tcp_be_liberal")).is_ok_and(|on| on > 0)
}

/// How long conntrack remembers UDP flows that are idle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpTimeouts {
    /// While only one side has sent.
    pub unanswered: Duration,
    /// Once both have.
    pub answered: Duration,
}

/// Those of the current network namespace; the kernel's own (30 s, 120 s) if they cannot be read.
pub fn udp_timeouts() -> UdpTimeouts {
    let seconds = |name, usual| {
        let found = read(&Path::new("/").join(NETFILTER).join(name));
        Duration::from_secs(found.unwrap_or(usual))
    };
    UdpTimeouts {
        unanswered: seconds("nf_conntrack_udp_timeout", 30),
        answered: seconds("nf_conntrack_udp_timeout_stream", 120),
    }
}

/// Lets processes of this node reach node ports on 127.0.0.0/8, in the current network namespace:
/// the kernel then routes packets from loopback addresses to other interfaces. Call it only after a
/// sync with [`crate::Settings::localhost_node_ports`], whose rules throw away what others send to
/// or as loopback addresses.
///
/// # Errors
/// When the setting cannot be made.
pub fn route_localnet() -> Result<(), NotSet> {
    let file = Path::new("/").join("proc/sys/net/ipv4/conf/all/route_localnet");
    ensure(file, 1, |found| found == 1).map_or(Ok(()), Err)
}

const NETFILTER: &str = "proc/sys/net/netfilter";
const BUCKETS: &str = "sys/module/nf_conntrack/parameters/hashsize";

fn tune_below(root: &Path, tuning: &Tuning) -> Vec<NotSet> {
    let netfilter = root.join(NETFILTER);
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    let exact = [
        ("nf_conntrack_tcp_timeout_established", seconds(tuning.tcp_established)),
        ("nf_conntrack_tcp_timeout_close_wait", seconds(tuning.tcp_close_wait)),
        ("nf_conntrack_udp_timeout", seconds(tuning.udp)),
        ("nf_conntrack_udp_timeout_stream", seconds(tuning.udp_stream)),
        ("nf_conntrack_tcp_be_liberal", tuning.tcp_be_liberal.then_some(1)),
    ];
    let least = tuning.least_connections.map(u64::from);
    // The kernel allows four connections per bucket before lookups get slow.
    let at_least =
        [(netfilter.join("nf_conntrack_max"), least), (root.join(BUCKETS), least.map(|n| n / 4))];
    let exact = exact.into_iter().filter_map(|(name, wanted)| {
        let file = netfilter.join(name);
        wanted.and_then(|wanted| ensure(file, wanted, |found| found == wanted))
    });
    let at_least = at_least.into_iter().filter_map(|(file, wanted)| {
        wanted.and_then(|wanted| ensure(file, wanted, |found| found >= wanted))
    });
    at_least.chain(exact).collect()
}

fn ensure(file: PathBuf, wanted: u64, is_right: impl Fn(u64) -> bool) -> Option<NotSet> {
    let done = match read(&file) {
        Ok(found) if is_right(found) => Ok(()),
        Ok(_) => fs::write(&file, wanted.to_string()),
        Err(error) => Err(error),
    };
    done.err().map(|source| NotSet { file, wanted, source })
}

fn read(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    text.trim().parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str, values: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("portolan-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join(NETFILTER)).unwrap();
        fs::create_dir_all(root.join(BUCKETS).parent().unwrap()).unwrap();
        for (file, value) in values {
            fs::write(root.join(file), value).unwrap();
        }
        root
    }

    const FILES: [&str; 4] = [
        "proc/sys/net/netfilter/nf_conntrack_max",
        "sys/module/nf_conntrack/parameters/hashsize",
        "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established",
        "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait",
    ];

    fn tuned(name: &str, values: [&str; 4]) -> [String; 4] {
        let root = machine(name, &FILES.into_iter().zip(values).collect::<Vec<_>>());
        let failed = tune_below(&root, &Tuning::usual(4));
        assert!(failed.is_empty(), "{failed:?}");
        let result = FILES.map(|file| fs::read_to_string(root.join(file)).unwrap());
        fs::remove_dir_all(root).unwrap();
        result
    }

    #[test]
    fn limits_are_raised_and_never_lowered() {
        // D41.
        let small = tuned("small", ["65536\n", "16384\n", "432000\n", "60\n"]);
        assert_eq!(small, ["131072", "32768", "86400", "3600"]);
        let large = tuned("large", ["4194304\n", "1048576\n", "86400\n", "3600\n"]);
        assert_eq!(large, ["4194304\n", "1048576\n", "86400\n", "3600\n"], "nothing is written");
        assert_eq!(Tuning::usual(64).least_connections, Some(1 << 20));
    }

    #[test]
    fn what_cannot_be_set_is_told_and_the_rest_is_set() {
        let root = machine("partly", &[(FILES[0], "65536"), (FILES[2], "60")]);
        let failed = tune_below(&root, &Tuning::usual(1));
        let files: Vec<_> = failed.iter().map(|one| one.file.clone()).collect();
        assert_eq!(files, [root.join(FILES[1]), root.join(FILES[3])]);
        assert!(failed[0].to_string().contains("hashsize to 32768"), "{}", failed[0]);
        assert_eq!(fs::read_to_string(root.join(FILES[2])).unwrap(), "86400");
        fs::remove_dir_all(root).unwrap();
    }
}
