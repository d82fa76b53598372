//! Network namespaces and what is built between them.
//!
//! A [`Namespace`] is an open descriptor: the namespace lives as long as somebody holds it or a
//! process stands in it. Work inside is done by short-lived threads, so that no other code of the
//! supervisor ever finds itself in the wrong network.
//!
//! ```text
//!  fabric ── bridge ext0 ─┬─ veth ─ eth0 node1 ─┬─ veth ─ eth0 pod
//!                         ├─ veth ─ eth0 node2  └─ veth ─ eth0 pod
//!                         └─ veth ─ eth0 client
//! ```

mod alone;
mod link;
mod netlink;
mod topology;

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

pub use alone::alone;
pub(crate) use topology::UPLINK;
pub use topology::{PodLink, Topology, TopologyError};

/// A network namespace. Clones share it; the last one gone, and no process in it, ends it.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes a new, empty namespace, owned by the calling process's user namespace.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN in that user namespace, or beyond `user.max_net_namespaces`.
    pub fn new() -> io::Result<Self> {
        let fd = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
        })?;
        Ok(Self { fd: Arc::new(fd) })
    }

    /// Runs a closure in a thread that stands in the namespace, and waits for it. Sockets that it
    /// makes belong to the namespace for ever, whoever uses them later.
    ///
    /// # Errors
    /// The closure's own, or when the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        in_thread(|| {
            setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// A listener on an address of the namespace, ready for tokio.
    ///
    /// # Errors
    /// As for bind(2).
    pub fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.run(|| {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
    }

    /// Connects from inside the namespace.
    ///
    /// # Errors
    /// As for connect(2).
    pub async fn connect(&self, address: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        let socket = self.run(|| {
            if address.is_ipv4() {
                socket2_tcp(socket2::Domain::IPV4)
            } else {
                socket2_tcp(socket2::Domain::IPV6)
            }
        })?;
        tokio::net::TcpSocket::from_std_stream(TcpStream::from(socket)).connect(address).await
    }

    /// A UDP socket inside the namespace, connected to a peer, ready for tokio.
    ///
    /// # Errors
    /// As for bind(2) and connect(2).
    pub fn udp(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        self.run(|| {
            let any: SocketAddr =
                if peer.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
            let socket = UdpSocket::bind(any)?;
            socket.connect(peer)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A non-blocking TCP socket of the calling thread's namespace.
fn socket2_tcp(domain: socket2::Domain) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Runs a closure in a thread of its own: a thread may change its namespace without moving others.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
