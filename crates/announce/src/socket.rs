//! The sockets: a packet socket per protocol and the heartbeat's multicast socket.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};

use crate::frame::MacAddress;

/// Group of the heartbeats: administratively scoped, never forwarded (RFC 2365; TTL 1).
pub(crate) const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 102, 66);
/// UDP port of the heartbeats.
pub(crate) const PORT: u16 = 10266;
/// The largest frame that can hold a question, with room for VLAN tags and options.
pub(crate) const FRAME_SIZE: usize = 256;

/// The external interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interface {
    /// Kernel index.
    pub(crate) index: u32,
    /// Hardware address.
    pub(crate) mac: MacAddress,
}

impl Interface {
    /// Looks the interface up by name in this network namespace.
    pub(crate) fn find(name: &str) -> io::Result<Self> {
        let index = nix::net::if_::if_nametoindex(name)?;
        let mac = nix::ifaddrs::getifaddrs()?
            .filter(|entry| entry.interface_name == name)
            .find_map(|entry| entry.address?.as_link_addr()?.addr())
            .ok_or_else(|| io::Error::other("it has no hardware address"))?;
        Ok(Self { index, mac })
    }
}

/// A raw socket that receives one Ethernet protocol (`ETH_P_ARP`, `ETH_P_IPV6`) of an interface.
pub(crate) struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens and binds it (packet(7)); needs CAP_NET_RAW.
    pub(crate) fn open(interface: Interface, protocol: u16) -> io::Result<Self> {
        let protocol = protocol.to_be();
        // Protocol 0 until it is bound: no packet of another interface gets in.
        let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking().cloexec(), None)?;
        if u16::from_be(protocol) == ETH_P_IPV6 {
            socket.attach_filter(&neighbour_solicitations())?;
            join_all_multicast(&socket, interface)?;
        }
        socket.bind(&link_layer_address(interface, protocol))?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<usize> {
        self.0.send(frame)
    }

    pub(crate) fn receive(&self, buffer: &mut [u8; FRAME_SIZE]) -> io::Result<usize> {
        let mut raw = [MaybeUninit::<u8>::uninit(); FRAME_SIZE];
        let length = self.0.recv(&mut raw)?;
        for (to, from) in buffer.iter_mut().zip(&raw[..length]) {
            // SAFETY: `recv` has written the first `length` bytes.
            #[expect(unsafe_code, reason = "socket2 receives into uninitialised memory")]
            let byte = unsafe { from.assume_init() };
            *to = byte;
        }
        Ok(length)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// The multicast socket of the heartbeats on the external interface.
pub(crate) fn heartbeat_socket(
    name: &str,
    interface: Interface,
) -> io::Result<std::net::UdpSocket> {
    let socket =
        Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(name.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(GROUP, PORT).into())?;
    let index = socket2::InterfaceIndexOrAddress::Index(interface.index);
    socket.join_multicast_v4_n(&GROUP, &index)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(false)?;
    Ok(socket.into())
}

/// ARP (linux/if_ether.h).
pub(crate) const ETH_P_ARP: u16 = 0x0806;
/// IPv6 (linux/if_ether.h).
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;

fn link_layer_address(interface: Interface, protocol_be: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: every `sockaddr_*` may be viewed in a zeroed `sockaddr_storage`, which is larger.
    #[expect(unsafe_code, reason = "socket2 has no constructor for sockaddr_ll")]
    let view = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    view.sll_family = libc::AF_PACKET.cast_unsigned().try_into().unwrap_or_default();
    view.sll_protocol = protocol_be;
    view.sll_ifindex = interface.index.cast_signed();
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or_default();
    // SAFETY: the storage holds a whole `sockaddr_ll` of that length.
    #[expect(unsafe_code, reason = "socket2 has no constructor for sockaddr_ll")]
    unsafe {
        SockAddr::new(storage, length)
    }
}

/// Neighbour Solicitations go to multicast groups of addresses that the interface does not
/// have, so the interface must let all groups through (packet(7), PACKET_MR_ALLMULTI).
fn join_all_multicast(socket: &Socket, interface: Interface) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface.index.cast_signed(),
        mr_type: libc::PACKET_MR_ALLMULTI.try_into().unwrap_or_default(),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the pointer and the length describe one live `packet_mreq`.
    #[expect(unsafe_code, reason = "socket2 has no packet memberships")]
    let result = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(socket),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).unwrap_or_default(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Classic BPF: frames whose IPv6 next header is ICMPv6 of type 135. All other IPv6 traffic
/// of the node stays in the kernel.
fn neighbour_solicitations() -> [socket2::SockFilter; 6] {
    // linux/bpf_common.h; libc has them as u32, the instruction's field is 16 bits wide.
    const LOAD_BYTE: u16 = 0x10 | 0x20; // BPF_LD (0) | BPF_B | BPF_ABS
    const JUMP_EQUAL: u16 = 0x05 | 0x10; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let op = socket2::SockFilter::new;
    [
        op(LOAD_BYTE, 0, 0, 14 + 6),
        op(JUMP_EQUAL, 0, 3, 58),
        op(LOAD_BYTE, 0, 0, 14 + 40),
        op(JUMP_EQUAL, 0, 1, 135),
        op(RETURN, 0, 0, 256),
        op(RETURN, 0, 0, 0),
    ]
}
