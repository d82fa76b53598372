//! A netlink socket of the netfilter family.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout, SndBuf, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    getsockopt, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;

/// A bound socket and the buffer that it receives into.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: Arc<OwnedFd>,
    port: u32,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens one in the current network namespace that listens to `groups` (bit `n - 1` is group
    /// `n`; 0 for none).
    pub(crate) fn open(groups: u32) -> Result<Self, Error> {
        Self::try_open(groups).map_err(|source| Error::Open(source.into()))
    }

    fn try_open(groups: u32) -> Result<Self, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )?;
        // A transaction is one datagram. Only the host's root may exceed net.core.wmem_max.
        if setsockopt(&fd, SndBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&fd, SndBuf, &BUFFER_BYTES)?;
        }
        if setsockopt(&fd, RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&fd, RcvBuf, &BUFFER_BYTES)?;
        }
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Self { fd: Arc::new(fd), port, buffer: vec![0; DATAGRAM_BYTES], sequence: 1 })
    }

    /// Identifies it in messages that it causes.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Its descriptor, shared.
    pub(crate) fn handle(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Bytes that one datagram may have.
    pub(crate) fn limit(&self) -> usize {
        getsockopt(&self.fd, SndBuf).unwrap_or(0).saturating_sub(SEND_OVERHEAD)
    }

    /// Takes `count` sequence numbers and returns the first.
    pub(crate) fn sequence(&mut self, count: u32) -> u32 {
        let first = self.sequence;
        self.sequence = first.wrapping_add(count);
        first
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Receives one datagram; `None` when `wait` is false and there is none.
    pub(crate) fn receive(&mut self, wait: bool) -> io::Result<Option<&[u8]>> {
        let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(len) => return Ok(Some(&self.buffer[..len])),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !wait => return Ok(None),
                Err(source) => return Err(source.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Enough for a transaction with about 500,000 elements.
const BUFFER_BYTES: usize = 64 << 20;
/// The kernel sends at most 32 KiB in one datagram of an answer.
const DATAGRAM_BYTES: usize = 64 << 10;
/// What `netlink_sendmsg` subtracts from the buffer, generously.
const SEND_OVERHEAD: usize = 1024;
/// The kernel answers from within the call that sends; this only bounds a kernel that does not.
const ANSWER_SECONDS: i64 = 30;
