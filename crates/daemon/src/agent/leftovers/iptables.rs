//! kube-proxy's chains, read and removed by the programs that know both kinds of iptables.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use model::Family;
use nft::ForeignTables;

use super::first_line;

/// The kinds of iptables and the families, by the beginning of their programs' names: rules written
/// by one kind are invisible to the other.
const PROGRAMS: [&str; 4] =
    ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];
/// To which packets come first.
const SERVICES: &str = "KUBE-SERVICES";
/// kube-proxy's chains; what the kubelet makes (KUBE-FIREWALL, KUBE-KUBELET-CANARY,
/// KUBE-IPTABLES-HINT) stays.
const CHAINS: [&str; 14] = [
    SERVICES,
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-MARK-DROP",
    "KUBE-FORWARD",
    "KUBE-PROXY-FIREWALL",
    "KUBE-PROXY-CANARY",
    "KUBE-LOAD-BALANCER",
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
];
/// Chains of single Services and endpoints.
const PREFIXES: [&str; 6] =
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-", "KUBE-SEP-"];

/// What one program sees of kube-proxy's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    program: &'static str,
    tables: BTreeMap<String, Table>,
}

/// Of one table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Table {
    /// kube-proxy's chains.
    chains: Vec<String>,
    /// Rules of other chains that lead to them, such as `PREROUTING -j KUBE-SERVICES`.
    jumps: Vec<String>,
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains: usize = self.tables.values().map(|table| table.chains.len()).sum();
        let tables: Vec<&str> = self.tables.keys().map(String::as_str).collect();
        let s = if chains == 1 { "" } else { "s" };
        write!(f, "{chains} KUBE-* chain{s} ({}: {})", self.program, tables.join(", "))
    }
}

/// What every kind of iptables that is here sees. Where a program is missing, as in a small image, the
/// kernel itself is asked for the chain in which everything begins; that of iptables-legacy only its
/// own program finds.
pub(crate) fn find() -> Vec<Rules> {
    let mut found = Vec::new();
    for program in PROGRAMS {
        match save(program) {
            Ok(Some(text)) => {
                let tables = parse(&text);
                if !tables.is_empty() {
                    found.push(Rules { program, tables });
                }
            }
            Ok(None) if has_services_chain(program) => {
                let table = Table { chains: vec![SERVICES.to_owned()], jumps: Vec::new() };
                found.push(Rules { program, tables: [("nat".to_owned(), table)].into() });
            }
            Ok(None) => {
                tracing::debug!("the program {program}-save is not here: nothing is seen of it");
            }
            Err(error) => {
                tracing::warn!("cannot look for a kube-proxy's chains with {program}: {error:#}");
            }
        }
    }
    found
}

/// Whether the kernel holds kube-proxy's first chain, where iptables-nft would have put it.
fn has_services_chain(program: &str) -> bool {
    let family = match program {
        "iptables-nft" => Family::V4,
        "ip6tables-nft" => Family::V6,
        _ => return false,
    };
    let asked = ForeignTables::open("nat").and_then(|mut nat| nat.has_chain(family, SERVICES));
    asked.unwrap_or_else(|error| {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "cannot look for chains of a kube-proxy");
        false
    })
}

impl Rules {
    /// Removes the jumps, then the chains, each table at once.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let program = format!("{}-restore", self.program);
        let mut child = Command::new(&program)
            .args(["--noflush", "--wait", "5"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("run {program} (install iptables here, or run kube-proxy --cleanup once)")
            })?;
        if let Some(mut input) = child.stdin.take() {
            let text = removal(&self.tables);
            input.write_all(text.as_bytes()).with_context(|| format!("write to {program}"))?;
        }
        let output = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
        if !output.status.success() {
            bail!("{program}: {}", first_line(&output.stderr));
        }
        Ok(())
    }
}

/// The output of `PROGRAM-save`; `None` when there is no such program.
fn save(program: &str) -> anyhow::Result<Option<String>> {
    let program = format!("{program}-save");
    let output = match Command::new(&program).stdin(Stdio::null()).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        output => output.with_context(|| format!("run {program}"))?,
    };
    if !output.status.success() {
        bail!("{program}: {}", first_line(&output.stderr));
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn is_kube_proxys(chain: &str) -> bool {
    CHAINS.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// kube-proxy's part of what `iptables-save` printed; tables without one are left out.
fn parse(text: &str) -> BTreeMap<String, Table> {
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table.trim();
        } else if let Some(chain) = line.strip_prefix(':') {
            let chain = chain.split(' ').next().unwrap_or_default();
            if is_kube_proxys(chain) {
                tables.entry(name.to_owned()).or_default().chains.push(chain.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let chain = rule.split(' ').next().unwrap_or_default();
            if !is_kube_proxys(chain) && target(rule).is_some_and(is_kube_proxys) {
                tables.entry(name.to_owned()).or_default().jumps.push(rule.to_owned());
            }
        }
    }
    tables
}

/// Where a rule leads to. Comments are quoted, so an unquoted `-j` or `-g` is the real one.
fn target(rule: &str) -> Option<&str> {
    let mut quoted = false;
    let mut words = rule.split(' ').filter(|word| {
        let inside = quoted;
        quoted ^= word.matches('"').count() % 2 == 1;
        !inside
    });
    words.find(|word| ["-j", "-g"].contains(word))?;
    words.next()
}

/// What `iptables-restore --noflush` has to be told. Naming a chain empties it; a chain can be
/// deleted once no rule leads to it.
fn removal(tables: &BTreeMap<String, Table>) -> String {
    let mut text = String::new();
    for (name, table) in tables {
        text += &format!("*{name}\n");
        for chain in &table.chains {
            text += &format!(":{chain} - [0:0]\n");
        }
        for jump in &table.jumps {
            text += &format!("-D {jump}\n");
        }
        for chain in &table.chains {
            text += &format!("-X {chain}\n");
        }
        text += "COMMIT\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = "\
# Generated by iptables-save
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-AAAA - [0:0]
:KUBER-MINE - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A PREROUTING -m comment --comment \"a -j KUBE-SERVICES b\" -j KUBER-MINE
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SEP-AAAA
COMMIT
*filter
:INPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
COMMIT
";

    #[test]
    fn only_what_is_kube_proxys_is_removed() {
        let tables = parse(SAVED);
        let rules = Rules { program: "iptables-nft", tables: tables.clone() };
        assert_eq!(rules.to_string(), "3 KUBE-* chains (iptables-nft: nat)");
        let wanted = "\
*nat
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SEP-AAAA - [0:0]
-D PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-D POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-X KUBE-POSTROUTING
-X KUBE-SERVICES
-X KUBE-SEP-AAAA
COMMIT
";
        assert_eq!(removal(&tables), wanted);
    }
}
