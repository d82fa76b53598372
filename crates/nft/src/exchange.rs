//! One question to nf_tables and its whole answer, for tables that are not ours.

use std::io;

use crate::error::Error;
use crate::netlink::abi::NFNL_SUBSYS_NFTABLES;
use crate::netlink::batch::REQUEST;
use crate::netlink::{Message, Writer};
use crate::socket::Socket;

impl Socket {
    /// Sends, hands out what the kernel answers, and waits for its end: an acknowledgement, the end
    /// of a list, or an error.
    pub(crate) fn exchange(
        &mut self,
        bytes: &[u8],
        doing: &'static str,
        mut take: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        let failed = |source| Error::Io { doing, source };
        self.send(bytes).map_err(failed)?;
        loop {
            let answer = self.receive(true).map_err(failed)?.unwrap_or_default();
            for message in Message::split(answer) {
                match message.error() {
                    Some(0) => return Ok(()),
                    Some(code) => return Err(failed(io::Error::from_raw_os_error(-code))),
                    None if i32::from(message.kind) == libc::NLMSG_DONE => return Ok(()),
                    None => take(message),
                }
            }
        }
    }

    /// Whether the thing exists that an acknowledged question asks for.
    pub(crate) fn exists(&mut self, bytes: &[u8], doing: &'static str) -> Result<bool, Error> {
        match self.exchange(bytes, doing, |_| {}) {
            Ok(()) => Ok(true),
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Begins or ends a transaction (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`).
    pub(crate) fn bracket(&mut self, writer: &mut Writer, kind: u16) {
        let sequence = self.sequence(1);
        let open = writer.begin(kind, REQUEST, sequence, 0, NFNL_SUBSYS_NFTABLES);
        writer.end(&open);
    }
}
