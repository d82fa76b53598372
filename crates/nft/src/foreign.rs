//! Tables of others, known by name only: found and deleted whole.

use model::Family;

use crate::error::Error;
use crate::netlink::abi::{
    NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END, NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE,
    NFT_MSG_GETCHAIN, NFT_MSG_GETTABLE, NFTA_CHAIN_NAME, NFTA_CHAIN_TABLE, NFTA_TABLE_NAME,
};
use crate::netlink::batch::{ACK, REQUEST};
use crate::netlink::{Writer, protocol_family};
use crate::socket::Socket;

/// Tables of one name, such as `kube-proxy`, in the current network namespace.
#[derive(Debug)]
pub struct ForeignTables {
    name: String,
    socket: Socket,
}

impl ForeignTables {
    /// Opens the kernel of the current network namespace.
    ///
    /// # Errors
    /// When a netlink socket cannot be opened.
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Self { name: name.to_owned(), socket: Socket::open(0)? })
    }

    /// The families that have such a table.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&mut self) -> Result<Vec<Family>, Error> {
        let mut found = Vec::new();
        for family in Family::ALL {
            let sequence = self.socket.sequence(1);
            let mut writer = Writer::default();
            self.table(&mut writer, NFT_MSG_GETTABLE, REQUEST | ACK, sequence, family);
            let doing = "look for a table of another program";
            if self.socket.exists(&writer.into_bytes(), doing)? {
                found.push(family);
            }
        }
        Ok(found)
    }

    /// Whether the family's table has such a chain.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn has_chain(&mut self, family: Family, chain: &str) -> Result<bool, Error> {
        let sequence = self.socket.sequence(1);
        let mut writer = Writer::default();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
        let open = writer.begin(kind, REQUEST | ACK, sequence, protocol_family(family), 0);
        writer.string(NFTA_CHAIN_TABLE, &self.name);
        writer.string(NFTA_CHAIN_NAME, chain);
        writer.end(&open);
        self.socket.exists(&writer.into_bytes(), "look for a chain of another program")
    }

    /// Deletes the tables of these families, as one transaction.
    ///
    /// # Errors
    /// When the kernel refuses; then all of them are still there.
    pub fn delete(&mut self, families: &[Family]) -> Result<(), Error> {
        let Some((last, others)) = families.split_last() else { return Ok(()) };
        let mut writer = Writer::default();
        self.socket.bracket(&mut writer, NFNL_MSG_BATCH_BEGIN);
        for family in others {
            let sequence = self.socket.sequence(1);
            self.table(&mut writer, NFT_MSG_DELTABLE, REQUEST, sequence, *family);
        }
        // The acknowledgement of the last message says that all have been committed.
        let sequence = self.socket.sequence(1);
        self.table(&mut writer, NFT_MSG_DELTABLE, REQUEST | ACK, sequence, *last);
        self.socket.bracket(&mut writer, NFNL_MSG_BATCH_END);
        self.socket.exchange(&writer.into_bytes(), "delete tables of another program", |_| {})
    }

    fn table(&self, writer: &mut Writer, kind: u16, flags: u16, sequence: u32, family: Family) {
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        let open = writer.begin(kind, flags, sequence, protocol_family(family), 0);
        writer.string(NFTA_TABLE_NAME, &self.name);
        writer.end(&open);
    }
}
