//! Deletes connection tracking entries that lead nowhere.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use model::{Family, Protocol};

use crate::error::Error;
use crate::netlink::{Flow, Message, decode_flow, delete_flow, dump_flows};
use crate::socket::Socket;
use crate::stale::Stale;

/// ctnetlink of one network namespace.
#[derive(Debug)]
pub(crate) struct Conntrack {
    socket: Socket,
    cleanups: BTreeMap<Family, Cleanup>,
}

/// What was done about stale connections of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleanup {
    /// Entries deleted.
    pub deleted: usize,
    /// How long looking for them and deleting them took.
    pub took: Duration,
}

impl Conntrack {
    pub(crate) fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(0)?, cleanups: BTreeMap::new() })
    }

    /// Deletes all stale entries and returns how many there were.
    pub(crate) fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        let mut deleted = 0;
        for (family, protocol) in stale.places() {
            let started = Instant::now();
            let before = deleted;
            for flow in self.stale_flows(family, protocol, stale)? {
                deleted += usize::from(self.delete(&flow)?);
            }
            let cleanup = self.cleanups.entry(family).or_default();
            cleanup.deleted += deleted - before;
            cleanup.took += started.elapsed();
        }
        Ok(deleted)
    }

    /// What was done since the last call, for each family of which anything had to be looked at.
    pub(crate) fn take_cleanups(&mut self) -> BTreeMap<Family, Cleanup> {
        std::mem::take(&mut self.cleanups)
    }

    fn stale_flows(
        &mut self,
        family: Family,
        protocol: Protocol,
        stale: &Stale,
    ) -> Result<Vec<Flow>, Error> {
        let doing = "list tracked connections";
        let io_error = |source| Error::Io { doing, source };
        let sequence = self.socket.sequence(1);
        let unanswered = stale.are_all_unanswered(family, protocol);
        let request = dump_flows(family, protocol, unanswered, sequence);
        self.socket.send(&request).map_err(io_error)?;
        let mut flows = Vec::new();
        loop {
            let bytes = self.socket.receive(true).map_err(io_error)?.unwrap_or_default();
            for message in Message::split(bytes).filter(|message| message.sequence == sequence) {
                if i32::from(message.kind) == libc::NLMSG_DONE {
                    return Ok(flows);
                }
                if let Some(code) = message.error() {
                    return Err(io_error(io::Error::from_raw_os_error(-code)));
                }
                let flow = decode_flow(message).filter(|flow| flow.protocol == protocol.number());
                flows.extend(flow.filter(|flow| {
                    let Flow { destination, reply_source, answered, .. } = *flow;
                    stale.is_stale(protocol, destination, reply_source, answered)
                }));
            }
        }
    }

    /// False if it ended by itself meanwhile.
    fn delete(&mut self, flow: &Flow) -> Result<bool, Error> {
        let doing = "delete a tracked connection";
        let io_error = |source| Error::Io { doing, source };
        let sequence = self.socket.sequence(1);
        self.socket.send(&delete_flow(flow, sequence)).map_err(io_error)?;
        loop {
            let bytes = self.socket.receive(true).map_err(io_error)?.unwrap_or_default();
            for message in Message::split(bytes).filter(|message| message.sequence == sequence) {
                match message.error() {
                    Some(0) => return Ok(true),
                    Some(code) if -code == libc::ENOENT => return Ok(false),
                    Some(code) => return Err(io_error(io::Error::from_raw_os_error(-code))),
                    None => {}
                }
            }
        }
    }
}
