//! Links, addresses, routes and sysctls of the calling thread's network namespace.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use nix::net::if_::if_nametoindex;

use super::Namespace;
use super::netlink::{Message, Socket};

/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;

/// A hand on the network of the namespace in which it was made.
#[derive(Debug)]
pub(super) struct Links {
    socket: Socket,
}

impl Links {
    /// Of the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        Socket::open().map(|socket| Self { socket })
    }

    /// A bridge, up.
    pub(super) fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &interface(0, true));
        message.put_name(libc::IFLA_IFNAME, name);
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.put_name(libc::IFLA_INFO_KIND, "bridge");
        });
        self.socket.request(message)
    }

    /// A pair of virtual Ethernet links: one end here, up, the other in `peer`, still down, with
    /// an Ethernet address of our choice or of the kernel's.
    pub(super) fn add_veth(
        &mut self,
        name: &str,
        peer_name: &str,
        peer: &Namespace,
        peer_address: Option<[u8; 6]>,
    ) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, CREATE, &interface(0, true));
        message.put_name(libc::IFLA_IFNAME, name);
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.put_name(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |end| {
                    end.raw(&interface(0, false));
                    end.put_name(libc::IFLA_IFNAME, peer_name);
                    if let Some(address) = peer_address {
                        end.put(libc::IFLA_ADDRESS, &address);
                    }
                    end.put(libc::IFLA_NET_NS_FD, &peer.as_fd().as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.socket.request(message)
    }

    /// Makes a link a port of a bridge.
    pub(super) fn set_bridge(&mut self, name: &str, bridge: &str) -> io::Result<()> {
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &interface(index(name)?, true));
        message.put_u32(libc::IFLA_MASTER, if_nametoindex(bridge)?);
        self.socket.request(message)
    }

    /// Sets a link up or down.
    pub(super) fn set_up(&mut self, name: &str, up: bool) -> io::Result<()> {
        self.socket.request(Message::new(libc::RTM_NEWLINK, 0, &interface(index(name)?, up)))
    }

    /// Waits until a link carries packets. The kernel starts the queue of a link whose other end
    /// came up later from a work queue, and until then drops what is sent: a first connection
    /// would wait a second for its second attempt.
    pub(super) fn wait_until_running(&mut self, name: &str) -> io::Result<()> {
        // Listening begins before the question: no change can fall between them.
        let events = Socket::listening(u32::try_from(libc::RTMGRP_LINK).unwrap_or_default())?;
        while !self.is_running(name)? {
            events.wait_for(PATIENCE, |_, _| {})?;
        }
        Ok(())
    }

    fn is_running(&mut self, name: &str) -> io::Result<bool> {
        let mut running = false;
        let message = Message::new(libc::RTM_GETLINK, 0, &interface(index(name)?, false));
        self.socket.ask(message, |kind, body| {
            // struct ifinfomsg: the flags stand at 8.
            if let (libc::RTM_NEWLINK, Some(flags)) = (kind, body.get(8..12)) {
                let flags = i32::from_ne_bytes([flags[0], flags[1], flags[2], flags[3]]);
                running = flags & libc::IFF_RUNNING != 0;
            }
        })?;
        Ok(running)
    }

    /// Removes a link, and with it the other end of a pair.
    pub(super) fn delete(&mut self, name: &str) -> io::Result<()> {
        self.socket.request(Message::new(libc::RTM_DELLINK, 0, &interface(index(name)?, false)))
    }

    /// An address with the length of its network, usable at once (no duplicate detection).
    ///
    /// The kernel joins the solicited-node multicast group of an IPv6 address from a work queue:
    /// a neighbour that asked before would be heard a second later, at its second attempt. What
    /// ends that work is the news of the address.
    pub(super) fn add_address(&mut self, name: &str, address: IpNet) -> io::Result<()> {
        let flags = u8::try_from(libc::IFA_F_NODAD).unwrap_or_default();
        let mut fixed =
            vec![family(address.addr()), address.prefix_len(), flags, libc::RT_SCOPE_UNIVERSE];
        fixed.extend(if_nametoindex(name)?.to_ne_bytes());
        let mut message = Message::new(libc::RTM_NEWADDR, CREATE, &fixed);
        message.put_address(libc::IFA_LOCAL, address.addr());
        message.put_address(libc::IFA_ADDRESS, address.addr());
        let IpAddr::V6(own) = address.addr() else { return self.socket.request(message) };
        let news = Socket::listening(u32::try_from(libc::RTMGRP_IPV6_IFADDR).unwrap_or_default())?;
        self.socket.request(message)?;
        let mut is_ready = false;
        while !is_ready {
            news.wait_for(PATIENCE, |kind, body| {
                let named = body.windows(16).any(|octets| octets == own.octets());
                is_ready |= kind == libc::RTM_NEWADDR && named;
            })?;
        }
        Ok(())
    }

    /// A route to a network over a link.
    pub(super) fn add_route(&mut self, route: &Route<'_>) -> io::Result<()> {
        let scope = if route.via.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let to = route.to;
        let mut fixed = vec![family(to.addr()), to.prefix_len(), 0, 0, libc::RT_TABLE_MAIN];
        fixed.extend([libc::RTPROT_STATIC, scope, libc::RTN_UNICAST, 0, 0, 0, 0]);
        let mut message = Message::new(libc::RTM_NEWROUTE, CREATE, &fixed);
        if to.prefix_len() > 0 {
            message.put_address(libc::RTA_DST, to.network());
        }
        if let Some(via) = route.via {
            message.put_address(libc::RTA_GATEWAY, via);
        }
        if let Some(source) = route.source {
            message.put_address(libc::RTA_PREFSRC, source);
        }
        message.put_u32(libc::RTA_OIF, if_nametoindex(route.link)?);
        self.socket.request(message)
    }
}

/// Where packets to a network go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    pub(super) to: IpNet,
    pub(super) via: Option<IpAddr>,
    pub(super) link: &'a str,
    /// The source address that the namespace's own packets get.
    pub(super) source: Option<IpAddr>,
}

/// Writes a sysctl of the calling thread's network namespace, such as `ipv4/ip_forward`.
pub(super) fn sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net").join(name);
    std::fs::write(&path, value).map_err(|error| {
        io::Error::new(error.kind(), format!("write {value} to {}: {error}", path.display()))
    })
}

/// How long the kernel's work queues may take to bring a link or an address into use.
const PATIENCE: Duration = Duration::from_secs(5);
/// Flags of a request that makes something new.
const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// `struct ifinfomsg`.
fn interface(index: i32, up: bool) -> Vec<u8> {
    let flag = u32::try_from(libc::IFF_UP).unwrap_or_default();
    let mut fixed = vec![0; 4];
    fixed.extend(index.to_ne_bytes());
    fixed.extend(if up { flag } else { 0 }.to_ne_bytes());
    fixed.extend(flag.to_ne_bytes());
    fixed
}

fn index(name: &str) -> io::Result<i32> {
    Ok(i32::try_from(if_nametoindex(name)?).unwrap_or_default())
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}
