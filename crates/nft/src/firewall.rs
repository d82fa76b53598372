//! Chains of a host firewall, in which connections to Services are let pass (D40).
//!
//! No table can overrule a drop in another, so the firewall's own chains need the rule. It is put
//! first, is the same in every chain, and is known again by its comment.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::str::FromStr;

use crate::error::Error;
use crate::expr::{Expr, Verdict};
use crate::layout::dnatted;
use crate::netlink::abi::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFT_MSG_DELRULE,
    NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_NEWRULE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_HANDLE, NFTA_RULE_TABLE, NFTA_RULE_USERDATA,
    NFTA_TABLE_NAME, NFTNL_UDATA_RULE_COMMENT,
};
use crate::netlink::batch::{ACK, DUMP, NEW, REQUEST};
use crate::netlink::{Attributes, Message, Writer, expression};
use crate::socket::Socket;

/// Marks the rule as ours, for people and for us.
pub const SERVICES_COMMENT: &str = "portolan: connections to Services";

/// A chain of another program: `inet/filter/forward`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FirewallChain {
    family: Families,
    table: String,
    chain: String,
}

/// Families of tables that see IP packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Families {
    Ip,
    Ip6,
    Inet,
}

/// Why a text names no chain of a firewall.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FirewallChainError {
    /// Not three names.
    #[error("{0:?} names no chain: write family/table/chain, such as inet/filter/forward")]
    Form(String),
    /// Another family.
    #[error("{0:?}: the family has to be ip, ip6 or inet")]
    Family(String),
    /// A chain of the `iptables` program, which no longer prints a table that holds our rule.
    #[error("{0:?} is a chain of iptables: write {1} instead")]
    Iptables(String, String),
}

impl FromStr for FirewallChain {
    type Err = FirewallChainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let [family, table, chain] = parts[..] else {
            return Err(FirewallChainError::Form(text.to_owned()));
        };
        if table.is_empty() || chain.is_empty() {
            return Err(FirewallChainError::Form(text.to_owned()));
        }
        let family = match family {
            "ip" => Families::Ip,
            "ip6" => Families::Ip6,
            "inet" => Families::Inet,
            _ => return Err(FirewallChainError::Family(text.to_owned())),
        };
        let program = match family {
            Families::Ip => Some("iptables"),
            Families::Ip6 => Some("ip6tables"),
            Families::Inet => None,
        };
        if let Some(program) = program
            && table == "filter"
            && matches!(chain, "INPUT" | "FORWARD" | "OUTPUT")
        {
            let instead = format!("{program}/{chain}");
            return Err(FirewallChainError::Iptables(text.to_owned(), instead));
        }
        Ok(Self { family, table: table.to_owned(), chain: chain.to_owned() })
    }
}

impl fmt::Display for FirewallChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Families::Ip => "ip",
            Families::Ip6 => "ip6",
            Families::Inet => "inet",
        };
        write!(f, "{family}/{}/{}", self.table, self.chain)
    }
}

impl FirewallChain {
    /// Where it stands, for [`RuleWatch`].
    pub fn table(&self) -> (u8, String) {
        (self.number(), self.table.clone())
    }

    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`, `NFPROTO_INET` of `linux/netfilter.h`.
    fn number(&self) -> u8 {
        match self.family {
            Families::Inet => 1,
            Families::Ip => 2,
            Families::Ip6 => 10,
        }
    }
}

/// Tables of other programs, by family and name.
pub type RuleTables = BTreeSet<(u8, String)>;

/// Tells when rules of some tables may have changed, whoever did it. It hears nothing during our own
/// large transactions, see [`crate::Synced::unheard`].
#[derive(Debug)]
pub struct RuleWatch {
    socket: Socket,
    tables: RuleTables,
}

impl RuleWatch {
    pub(crate) fn new(socket: Socket, tables: RuleTables) -> Self {
        Self { socket, tables }
    }

    /// Reads all events that wait, without blocking; true when one was about these tables.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn drain(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            match self.socket.receive(false) {
                Ok(None) => return Ok(changed),
                Ok(Some(bytes)) => {
                    changed |= Message::split(bytes).any(|message| is_about(message, &self.tables));
                }
                // More events than the buffer holds: some may have been about them.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(source) => return Err(Error::Io { doing: "read events of nf_tables", source }),
            }
        }
    }
}

impl AsFd for RuleWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RuleWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

/// Whether a table, a chain or a rule of these has come or gone. All such messages have the name of
/// the table in the same place.
fn is_about(message: Message<'_>, tables: &RuleTables) -> bool {
    let family = message.body.first().copied().unwrap_or_default();
    message.kind >> 8 == NFNL_SUBSYS_NFTABLES
        && message
            .attributes()
            .string(NFTA_TABLE_NAME)
            .is_some_and(|table| tables.contains(&(family, table.to_owned())))
}

/// What became of a chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opened {
    /// It let Services pass already.
    Already,
    /// It does from now on.
    Now,
    /// There is no such chain.
    Missing,
}

/// The host's firewall in the current network namespace.
#[derive(Debug)]
pub struct Firewall(Socket);

impl Firewall {
    /// Opens it.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub fn open() -> Result<Self, Error> {
        Ok(Self(Socket::open(0)?))
    }

    /// Makes sure that a chain lets connections to Services pass.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn let_services_pass(&mut self, chain: &FirewallChain) -> Result<Opened, Error> {
        if !self.exists(chain)? {
            return Ok(Opened::Missing);
        }
        if !self.handles(chain)?.is_empty() {
            return Ok(Opened::Already);
        }
        // Without NLM_F_APPEND it becomes the chain's first rule.
        self.transaction(NFT_MSG_NEWRULE, NEW | ACK, chain, |writer| {
            writer.nested(NFTA_RULE_EXPRESSIONS, |writer| {
                let accept = Expr::Verdict(Verdict::Accept);
                dnatted().iter().chain([&accept]).for_each(|expr| expression::encode(writer, expr));
            });
            writer.attribute(NFTA_RULE_USERDATA, &comment());
        })?;
        Ok(Opened::Now)
    }

    /// Takes our rules out of a chain; true if there were any.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn take_back(&mut self, chain: &FirewallChain) -> Result<bool, Error> {
        if !self.exists(chain)? {
            return Ok(false);
        }
        let handles = self.handles(chain)?;
        for handle in &handles {
            self.transaction(NFT_MSG_DELRULE, REQUEST | ACK, chain, |writer| {
                writer.attribute(NFTA_RULE_HANDLE, handle);
            })?;
        }
        Ok(!handles.is_empty())
    }

    /// The chains that hold a rule of ours.
    ///
    /// # Errors
    /// When the kernel's answer cannot be read.
    pub fn find(&mut self) -> Result<BTreeSet<FirewallChain>, Error> {
        let mut found = BTreeSet::new();
        for family in [Families::Ip, Families::Ip6, Families::Inet] {
            let anywhere = FirewallChain { family, table: String::new(), chain: String::new() };
            self.rules(&anywhere, |rule| {
                let name = |kind| rule.string(kind).unwrap_or_default().to_owned();
                let (table, chain) = (name(NFTA_RULE_TABLE), name(NFTA_RULE_CHAIN));
                found.insert(FirewallChain { family, table, chain });
            })?;
        }
        Ok(found)
    }

    fn exists(&mut self, chain: &FirewallChain) -> Result<bool, Error> {
        let mut writer = Writer::default();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
        let open = writer.begin(kind, REQUEST | ACK, self.0.sequence(1), chain.number(), 0);
        writer.string(NFTA_CHAIN_TABLE, &chain.table);
        writer.string(NFTA_CHAIN_NAME, &chain.chain);
        writer.end(&open);
        self.0.exists(&writer.into_bytes(), "look for a chain of the firewall")
    }

    /// Our rules in a chain.
    fn handles(&mut self, chain: &FirewallChain) -> Result<Vec<Vec<u8>>, Error> {
        let mut handles = Vec::new();
        self.rules(chain, |rule| {
            handles.extend(rule.get(NFTA_RULE_HANDLE).map(<[u8]>::to_vec));
        })?;
        Ok(handles)
    }

    /// Hands out our rules: of one chain, or of all when it has no name.
    fn rules(
        &mut self,
        chain: &FirewallChain,
        mut take: impl FnMut(Attributes<'_>),
    ) -> Result<(), Error> {
        let mut writer = Writer::default();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
        let open = writer.begin(kind, REQUEST | DUMP, self.0.sequence(1), chain.number(), 0);
        if !chain.table.is_empty() {
            writer.string(NFTA_RULE_TABLE, &chain.table);
            writer.string(NFTA_RULE_CHAIN, &chain.chain);
        }
        writer.end(&open);
        let ours = comment();
        self.0.exchange(&writer.into_bytes(), "read a chain of the firewall", |message| {
            let rule = message.attributes();
            if rule.get(NFTA_RULE_USERDATA) == Some(&ours) {
                take(rule);
            }
        })
    }

    /// One message about a rule, as a transaction.
    fn transaction(
        &mut self,
        kind: u16,
        flags: u16,
        chain: &FirewallChain,
        inside: impl FnOnce(&mut Writer),
    ) -> Result<(), Error> {
        let mut writer = Writer::default();
        self.0.bracket(&mut writer, NFNL_MSG_BATCH_BEGIN);
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let open = writer.begin(kind, flags, self.0.sequence(1), chain.number(), 0);
        writer.string(NFTA_RULE_TABLE, &chain.table);
        writer.string(NFTA_RULE_CHAIN, &chain.chain);
        inside(&mut writer);
        writer.end(&open);
        self.0.bracket(&mut writer, NFNL_MSG_BATCH_END);
        self.0.exchange(&writer.into_bytes(), "change a chain of the firewall", |_| {})
    }
}

/// The comment as the `nft` program writes and prints it: type, length, text with its zero.
fn comment() -> Vec<u8> {
    let mut bytes = vec![NFTNL_UDATA_RULE_COMMENT];
    bytes.push(u8::try_from(SERVICES_COMMENT.len() + 1).unwrap_or(u8::MAX));
    bytes.extend(SERVICES_COMMENT.as_bytes());
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_as_nft_does_and_those_of_iptables_refused() {
        for name in ["inet/filter/forward", "ip/my table/x", "ip6/filter/forward"] {
            assert_eq!(name.parse::<FirewallChain>().unwrap().to_string(), name);
        }
        let refused = |text: &str| text.parse::<FirewallChain>().unwrap_err().to_string();
        assert!(refused("forward").contains("family/table/chain"));
        assert!(refused("inet//forward").contains("family/table/chain"));
        assert!(refused("bridge/filter/forward").contains("ip, ip6 or inet"));
        assert!(refused("ip/filter/FORWARD").contains("iptables/FORWARD"));
        assert!(refused("ip6/filter/INPUT").contains("ip6tables/INPUT"));
    }
}
