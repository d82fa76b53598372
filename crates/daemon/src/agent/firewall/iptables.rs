//! Chains of iptables. Its program no longer prints a table that holds a rule of nftables' own kind,
//! so it has to write the rule itself.

use std::fmt;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, bail};
use nft::{Opened, SERVICES_COMMENT};

use crate::agent::leftovers::first_line;

/// A chain of table `filter`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct IptablesChain {
    program: &'static str,
    chain: String,
}

/// The program of each family, and its number in nf_tables (`NFPROTO_*`).
const PROGRAMS: [(&str, u8); 2] = [("iptables", 2), ("ip6tables", 10)];
/// What `iptables` answers when there is no such chain or rule.
const ABSENT: i32 = 1;

impl fmt::Display for IptablesChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.program, self.chain)
    }
}

impl IptablesChain {
    /// `iptables/FORWARD` or the like.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (program, chain) = text.split_once('/')?;
        let (program, _) = PROGRAMS.into_iter().find(|(known, _)| *known == program)?;
        let is_name = !chain.is_empty() && !chain.contains('/') && !chain.starts_with('-');
        is_name.then(|| Self { program, chain: chain.to_owned() })
    }

    /// The table that iptables keeps it in, unless it is the legacy kind.
    pub(super) fn table(&self) -> (u8, String) {
        let number = PROGRAMS.iter().find(|(program, _)| *program == self.program);
        (number.map_or(0, |(_, number)| *number), "filter".to_owned())
    }

    pub(super) fn let_services_pass(&self) -> anyhow::Result<Opened> {
        if self.has_rule()? {
            return Ok(Opened::Already);
        }
        let exists = self.run(&["-S"])?;
        if exists.status.code() == Some(ABSENT) {
            return Ok(Opened::Missing);
        }
        let output = self.run(&[&["-I"][..], &RULE].concat())?;
        if !output.status.success() {
            bail!("{}", first_line(&output.stderr));
        }
        Ok(Opened::Now)
    }

    pub(super) fn take_back(&self) -> anyhow::Result<()> {
        while self.has_rule()? {
            let output = self.run(&[&["-D"][..], &RULE].concat())?;
            if !output.status.success() {
                bail!("{}", first_line(&output.stderr));
            }
        }
        Ok(())
    }

    fn has_rule(&self) -> anyhow::Result<bool> {
        let output = self.run(&[&["-C"][..], &RULE].concat())?;
        match output.status.code() {
            Some(0) => Ok(true),
            Some(ABSENT) => Ok(false),
            _ => bail!("{}", first_line(&output.stderr)),
        }
    }

    /// The first argument is the command; the chain follows it.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let (command, rest) = arguments.split_at(1);
        Command::new(self.program)
            .args(["--wait", "5"])
            .args(command)
            .arg(&self.chain)
            .args(rest)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {}", self.program))
    }
}

/// The chains that hold our rule. Without the program nobody has put it there.
pub(super) fn find() -> Vec<IptablesChain> {
    let mut found = Vec::new();
    for (program, _) in PROGRAMS {
        let save = Command::new(format!("{program}-save"))
            .args(["-t", "filter"])
            .stdin(Stdio::null())
            .output();
        let Ok(output) = save else { continue };
        let text = String::from_utf8_lossy(&output.stdout);
        found.extend(chains(&text).map(|chain| IptablesChain { program, chain }));
    }
    found
}

/// From what `iptables-save` prints.
fn chains(text: &str) -> impl Iterator<Item = String> {
    text.lines()
        .filter(|line| line.contains(SERVICES_COMMENT))
        .filter_map(|line| line.strip_prefix("-A ")?.split(' ').next().map(str::to_owned))
}

const RULE: [&str; 10] = [
    "-m",
    "conntrack",
    "--ctstate",
    "DNAT",
    "-m",
    "comment",
    "--comment",
    SERVICES_COMMENT,
    "-j",
    "ACCEPT",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_by_program_and_chain() {
        let parsed = |text: &str| IptablesChain::parse(text).map(|chain| chain.to_string());
        assert_eq!(parsed("iptables/FORWARD").as_deref(), Some("iptables/FORWARD"));
        assert_eq!(parsed("ip6tables/my-chain").as_deref(), Some("ip6tables/my-chain"));
        for wrong in ["iptables", "iptables/", "iptables/-F", "iptables/a/b", "inet/filter/x"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn our_rules_are_found_in_what_is_saved() {
        let text = format!(
            "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m conntrack --ctstate DNAT -m comment \
             --comment \"{SERVICES_COMMENT}\" -j ACCEPT\n-A INPUT -j ACCEPT\nCOMMIT\n"
        );
        assert_eq!(chains(&text).collect::<Vec<_>>(), ["FORWARD"]);
    }
}
