//! What a kube-proxy has left in the kernel: found, told, and removed when that is wanted.
//!
//! kube-proxy leaves its rules behind when it ends, so that traffic goes on. Next to ours they do
//! no harm while they are fresh; later they send traffic to endpoints that are gone. They are
//! removed only after our own rules do their work: a connection always finds one or the other.

mod interface;
mod iptables;

use model::Family;
use nft::ForeignTables;

/// Name of the tables of kube-proxy's nftables mode.
const TABLE: &str = "kube-proxy";

/// Something of kube-proxy's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Leftover {
    /// Tables of its nftables mode.
    Tables(Vec<Family>),
    /// Chains and rules of its iptables or IPVS mode.
    Chains(iptables::Rules),
    /// The interface of its IPVS mode.
    Interface,
}

impl std::fmt::Display for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tables(families) => {
                let name = |family: &Family| match family {
                    Family::V4 => format!("ip {TABLE}"),
                    Family::V6 => format!("ip6 {TABLE}"),
                };
                let names: Vec<String> = families.iter().map(name).collect();
                write!(f, "nftables tables {}", names.join(", "))
            }
            Self::Chains(rules) => write!(f, "{rules}"),
            Self::Interface => write!(f, "interface {} of mode ipvs", interface::NAME),
        }
    }
}

/// Looks for everything. What cannot be looked for is told in the log.
pub(crate) fn find() -> Vec<Leftover> {
    let mut found = Vec::new();
    match ForeignTables::open(TABLE).and_then(|mut tables| tables.find()) {
        Ok(families) if families.is_empty() => {}
        Ok(families) => found.push(Leftover::Tables(families)),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot look for tables of a kube-proxy");
        }
    }
    found.extend(iptables::find().into_iter().map(Leftover::Chains));
    if interface::is_there() {
        found.push(Leftover::Interface);
    }
    found
}

impl Leftover {
    /// Removes it.
    ///
    /// # Errors
    /// When the kernel or the program that is needed refuses, or the program is missing.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        match self {
            Self::Tables(families) => Ok(ForeignTables::open(TABLE)?.delete(families)?),
            Self::Chains(rules) => rules.remove(),
            Self::Interface => interface::remove(),
        }
    }
}

/// What a program that failed says first.
pub(super) fn first_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    text.lines().next().unwrap_or("it failed and did not say why").to_owned()
}
