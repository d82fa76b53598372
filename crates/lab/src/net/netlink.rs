//! rtnetlink messages and the socket that carries them: as much as links, addresses and routes
//! need (`linux/rtnetlink.h`, `linux/if_link.h`, `linux/veth.h`).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    socket,
};

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Every field and message starts at a multiple of this (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
const ALIGN: usize = 4;

/// A message under construction.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of a type such as `RTM_NEWLINK`, with further `NLM_F_*` flags, that asks for an
    /// acknowledgement; `fixed` is the family's own header.
    pub(super) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(fixed);
        let mut message = Self { bytes };
        message.pad();
        message
    }

    /// An attribute with its value.
    pub(super) fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |message| message.bytes.extend(value))
    }

    /// An attribute that holds a 32-bit number.
    pub(super) fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// An attribute that holds a name, with its final NUL.
    pub(super) fn put_name(&mut self, kind: u16, name: &str) -> &mut Self {
        self.nest(kind, |message| {
            message.bytes.extend(name.as_bytes());
            message.bytes.push(0);
        })
    }

    /// An attribute that holds an address of either family.
    pub(super) fn put_address(&mut self, kind: u16, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.put(kind, &address.octets()),
            IpAddr::V6(address) => self.put(kind, &address.octets()),
        }
    }

    /// An attribute whose value is written by a closure: attributes, or a header before them.
    pub(super) fn nest(&mut self, kind: u16, content: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        content(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.pad();
        self
    }

    /// Bytes as they are, for a header inside an attribute.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend(bytes);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGN), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// An rtnetlink socket of the namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        Self::listening(0)
    }

    /// Hears also what happens to the multicast groups of a mask, such as `RTMGRP_LINK`.
    pub(super) fn listening(groups: u32) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Sends a request and waits for the kernel's verdict on it.
    pub(super) fn request(&mut self, message: Message) -> io::Result<()> {
        self.ask(message, |_, _| {})
    }

    /// Sends a request, takes type and body of each answer, and waits for the verdict.
    pub(super) fn ask(
        &mut self,
        message: Message,
        mut take: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        send(self.fd.as_raw_fd(), &message.finish(self.sequence), MsgFlags::empty())?;
        let mut buffer = [0; 8192];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if let Some(verdict) = verdict(&buffer[..length], self.sequence, &mut take) {
                return verdict;
            }
        }
    }

    /// Waits until anything happens in the groups that are listened to; takes type and body of
    /// each message about it.
    ///
    /// # Errors
    /// `TimedOut` when nothing does.
    pub(super) fn wait_for(
        &self,
        timeout: Duration,
        mut take: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        let milliseconds = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
        if poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], milliseconds)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut buffer = [0; 8192];
        let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        // News is numbered 0 and carries no verdict.
        verdict(&buffer[..length], 0, &mut take).unwrap_or(Ok(()))
    }
}

/// The kernel's verdict on one request, if it is among these messages; others are handed on.
fn verdict(
    mut bytes: &[u8],
    sequence: u32,
    take: &mut impl FnMut(u16, &[u8]),
) -> Option<io::Result<()>> {
    while bytes.len() >= HEADER + 4 {
        let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let length = usize::try_from(u32::from_ne_bytes(word(0))).ok()?;
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        if u32::from_ne_bytes(word(8)) == sequence {
            match (i32::from(kind), i32::from_ne_bytes(word(HEADER))) {
                (libc::NLMSG_ERROR, 0) => return Some(Ok(())),
                (libc::NLMSG_ERROR, errno) => {
                    return Some(Err(io::Error::from_raw_os_error(-errno)));
                }
                _ => take(kind, bytes.get(HEADER..length)?),
            }
        }
        bytes = bytes.get(length.max(HEADER).next_multiple_of(ALIGN)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested_lengths_cover_their_content() {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &[]);
        message.nest(18, |inner| {
            inner.put_name(1, "veth");
        });
        let bytes = message.finish(7);
        assert_eq!(bytes.len(), HEADER + 4 + 4 + 8);
        assert_eq!(u16::from_ne_bytes([bytes[HEADER], bytes[HEADER + 1]]), 16);
        assert_eq!(u16::from_ne_bytes([bytes[HEADER + 4], bytes[HEADER + 5]]), 9);
        assert_eq!(u32::from_ne_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]), 7);
    }

    #[test]
    fn an_errno_in_the_answer_becomes_an_error() {
        let mut answer = Message::new(2, 0, &(-libc::EEXIST).to_ne_bytes()).finish(3);
        let error = verdict(&answer, 3, &mut |_, _| {}).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        answer[HEADER..HEADER + 4].fill(0);
        verdict(&answer, 3, &mut |_, _| {}).unwrap().unwrap();
        assert!(verdict(&answer, 4, &mut |_, _| {}).is_none());
    }
}
