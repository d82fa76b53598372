//! The interface that holds all cluster IPs in kube-proxy's IPVS mode.

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, bail};
use nix::libc::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, RTM_DELLINK};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// Its name.
pub(super) const NAME: &str = "kube-ipvs0";

/// Whether it is there.
pub(super) fn is_there() -> bool {
    if_nametoindex(NAME).is_ok()
}

/// Deletes it with all its addresses. The virtual servers of IPVS see no packet for a cluster IP once
/// none is local any more.
pub(super) fn remove() -> anyhow::Result<()> {
    let index = if_nametoindex(NAME).with_context(|| format!("find interface {NAME}"))?;
    let kind = SockType::Raw;
    let netlink = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, netlink)
        .context("open a route netlink socket")?;
    let sent = send(socket.as_raw_fd(), &request(index), MsgFlags::empty());
    sent.with_context(|| format!("ask the kernel to delete interface {NAME}"))?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())
        .context("read the kernel's answer")?;
    match error(&answer[..length]) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code))
            .with_context(|| format!("delete interface {NAME} (it needs CAP_NET_ADMIN)")),
        None => bail!("delete interface {NAME}: the kernel's answer makes no sense"),
    }
}

/// `struct nlmsghdr` and `struct ifinfomsg` of `linux/rtnetlink.h`, by index.
fn request(index: u32) -> Vec<u8> {
    const LENGTH: u32 = 32;
    let flags = (NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes();
    let (sequence, port) = (1u32, 0u32);
    let family_and_type = 0u32;
    let (device_flags, change) = (0u32, 0u32);
    [
        &LENGTH.to_ne_bytes()[..],
        &RTM_DELLINK.to_ne_bytes(),
        &flags[..2],
        &sequence.to_ne_bytes(),
        &port.to_ne_bytes(),
        &family_and_type.to_ne_bytes(),
        &index.to_ne_bytes(),
        &device_flags.to_ne_bytes(),
        &change.to_ne_bytes(),
    ]
    .concat()
}

/// What `struct nlmsgerr` says: 0, or an error number below it.
fn error(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == NLMSG_ERROR).then_some(code)
}
