//! The addresses of this machine's interfaces, and when they change.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::unix::AsyncFd;

use super::descriptor::register;

/// Every address of every interface in this network namespace.
pub(crate) fn local_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    Ok(interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect())
}

/// Tells when an address has come to an interface of this network namespace, or gone from it
/// (rtnetlink(7)).
pub(crate) struct AddressChanges(AsyncFd<OwnedFd>);

impl AddressChanges {
    /// Changes from now on.
    ///
    /// # Errors
    /// When the kernel gives no socket of `NETLINK_ROUTE`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let route = SockProtocol::NetlinkRoute;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, route)?;
        let groups = nix::libc::RTMGRP_IPV4_IFADDR | nix::libc::RTMGRP_IPV6_IFADDR;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups.cast_unsigned()))?;
        Ok(Self(register(socket)?))
    }

    /// Waits for the next changes and takes all that there are. What they are is not read: who
    /// wants to know reads all addresses.
    ///
    /// # Errors
    /// When the socket breaks.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.0.readable_mut().await?;
        let mut message = [0; 64];
        loop {
            match recv(ready.get_inner().as_raw_fd(), &mut message, MsgFlags::empty()) {
                // More changes than the socket's buffer holds are changes, too.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let addresses = local_addresses().expect("interfaces can be listed");
        assert!(addresses.iter().any(IpAddr::is_loopback));
    }
}
