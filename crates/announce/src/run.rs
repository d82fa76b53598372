//! Owns the sockets and the clock; drives the two machines.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::NodeName;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use crate::membership::{Alive, Membership, Timing};
use crate::responder::Responder;
use crate::socket::{
    ETH_P_ARP, ETH_P_IPV6, FRAME_SIZE, GROUP, Interface, PORT, PacketSocket, heartbeat_socket,
};

/// What an announcer needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of this Node.
    pub node: NodeName,
    /// Interface on the external network, in the caller's network namespace.
    pub interface: String,
    /// Intervals of the heartbeat.
    pub timing: Timing,
}

/// Why announcing cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface cannot be used.
    #[error("look up the announcing interface {interface:?} (name one with --announce-interface)")]
    Interface {
        /// Its name.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A socket cannot be opened.
    #[error("open the {what} socket on {interface:?} (it needs CAP_NET_RAW)")]
    Socket {
        /// Which one.
        what: &'static str,
        /// Interface.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// A running announcer. Dropping it stops announcing at once; [`Announcer::stop`] also tells
/// the other nodes.
#[derive(Debug)]
pub struct Announcer {
    owned: watch::Sender<Decision>,
    expected: watch::Sender<BTreeSet<NodeName>>,
    alive: watch::Receiver<Alive>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Announcer {
    /// Opens the sockets and starts the task on the current tokio runtime.
    ///
    /// # Errors
    /// When the interface does not exist or a socket is refused.
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let sockets = Sockets::open(&settings.interface)?;
        let started = Instant::now();
        let (owned, owned_rx) = watch::channel(Decision::default());
        let (expected, expected_rx) = watch::channel(BTreeSet::new());
        let (alive_tx, alive) = watch::channel(Alive::default());
        let (stop, stop_rx) = watch::channel(false);
        let worker = Worker {
            responder: Responder::new(sockets.interface.mac),
            membership: Membership::new(settings.node, settings.timing, Duration::ZERO),
            sockets,
            started,
            owned: owned_rx,
            expected: expected_rx,
            alive: alive_tx,
            stop: stop_rx,
        };
        Ok(Self { owned, expected, alive, stop, task: tokio::spawn(worker.run()) })
    }

    /// Replaces the set of addresses that this node answers for, as decided from what
    /// [`Announcer::alive`] said in this [`Alive::epoch`].
    pub fn set_owned(&self, addresses: BTreeSet<IpAddr>, epoch: u64) {
        let decision = Decision { addresses, epoch };
        self.owned.send_if_modified(|current| {
            let changed = *current != decision;
            *current = decision;
            changed
        });
    }

    /// Names the nodes that should be announcing: hearing all of them ends the listening of a
    /// starting node early.
    pub fn set_expected(&self, nodes: BTreeSet<NodeName>) {
        self.expected.send_replace(nodes);
    }

    /// The nodes that may own addresses, and its changes.
    pub fn alive(&self) -> watch::Receiver<Alive> {
        self.alive.clone()
    }

    /// Ends in an orderly manner: the other nodes take over at once.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // A task that panicked has stopped as well.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Sockets {
    interface: Interface,
    arp: AsyncFd<PacketSocket>,
    ndp: AsyncFd<PacketSocket>,
    beats: UdpSocket,
}

impl Sockets {
    fn open(name: &str) -> Result<Self, Error> {
        let interface = Interface::find(name)
            .map_err(|source| Error::Interface { interface: name.to_owned(), source })?;
        let failed =
            |what| move |source| Error::Socket { what, interface: name.to_owned(), source };
        let packet = |what, protocol| {
            PacketSocket::open(interface, protocol).and_then(register).map_err(failed(what))
        };
        Ok(Self {
            interface,
            arp: packet("ARP", ETH_P_ARP)?,
            ndp: packet("Neighbour Discovery", ETH_P_IPV6)?,
            beats: heartbeat_socket(name, interface)
                .and_then(UdpSocket::from_std)
                .map_err(failed("heartbeat"))?,
        })
    }
}

/// Which addresses are this node's, and when that was decided.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Decision {
    addresses: BTreeSet<IpAddr>,
    epoch: u64,
}

struct Worker {
    responder: Responder,
    membership: Membership,
    sockets: Sockets,
    started: Instant,
    owned: watch::Receiver<Decision>,
    expected: watch::Receiver<BTreeSet<NodeName>>,
    alive: watch::Sender<Alive>,
    stop: watch::Receiver<bool>,
}

/// What woke the worker.
enum Wake {
    Frame(usize, [u8; FRAME_SIZE]),
    Beat(usize, [u8; FRAME_SIZE]),
    Owned,
    Expected,
    Time,
    Stop,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let wake = self.wake().await;
            if self.membership.oversleep(self.now()) {
                tracing::warn!("was held up for so long that other nodes answer; joining anew");
                self.responder.set_owned(&BTreeSet::new(), self.now());
            }
            match wake {
                Wake::Frame(length, frame) => {
                    if let Some(answer) = self.responder.receive(&frame[..length]) {
                        self.send_frame(&answer);
                    }
                }
                Wake::Beat(length, datagram) => {
                    let now = self.now();
                    self.membership.receive(&datagram[..length], now);
                }
                Wake::Owned => {
                    let Decision { addresses, epoch } = self.owned.borrow_and_update().clone();
                    if epoch == self.membership.alive().epoch {
                        self.responder.set_owned(&addresses, self.now());
                    }
                }
                Wake::Expected => {
                    let expected = self.expected.borrow_and_update().clone();
                    self.membership.expect(expected, self.now());
                }
                Wake::Time => {}
                Wake::Stop => {
                    let farewell = self.membership.farewell();
                    return self.send_beat(&farewell).await;
                }
            }
            self.tick().await;
        }
    }

    async fn tick(&mut self) {
        for frame in self.responder.tick(self.now()) {
            self.send_frame(&frame);
        }
        if let Some(beat) = self.membership.tick(self.now()) {
            self.send_beat(&beat).await;
        }
        let alive = self.membership.alive();
        self.alive.send_if_modified(|current| {
            let changed = *current != alive;
            *current = alive;
            changed
        });
    }

    async fn wake(&mut self) -> Wake {
        let next = [Some(self.membership.next_tick()), self.responder.next_tick()];
        let next = next.into_iter().flatten().min().map(|after| self.started + after);
        let timer = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut datagram = [0; FRAME_SIZE];
        tokio::select! {
            // A closed channel means that the announcer is gone and the task about to be aborted.
            _ = self.stop.changed() => Wake::Stop,
            Ok(()) = self.owned.changed() => Wake::Owned,
            Ok(()) = self.expected.changed() => Wake::Expected,
            (length, frame) = receive(&self.sockets.arp) => Wake::Frame(length, frame),
            (length, frame) = receive(&self.sockets.ndp) => Wake::Frame(length, frame),
            received = self.sockets.beats.recv(&mut datagram) =>
                received.map_or(Wake::Time, |length| Wake::Beat(length, datagram)),
            () = timer => Wake::Time,
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn send_frame(&self, frame: &[u8]) {
        // A full queue or an interface that is down loses the frame; askers ask again.
        if let Err(error) = self.sockets.arp.get_ref().send(frame) {
            tracing::debug!(%error, "send an announcement frame");
        }
    }

    async fn send_beat(&self, beat: &[u8]) {
        let group = SocketAddr::from((GROUP, PORT));
        if let Err(error) = self.sockets.beats.send_to(beat, group).await {
            tracing::debug!(%error, "send a heartbeat");
        }
    }
}

fn register(socket: PacketSocket) -> io::Result<AsyncFd<PacketSocket>> {
    // SAFETY: `PacketSocket` owns its descriptor, gives it up to nobody and always returns the
    // same one, and `AsyncFd` deregisters it before the socket is dropped.
    #[expect(unsafe_code, reason = "AsyncFd trusts the descriptor to stay open")]
    unsafe { AsyncFd::register(socket) }.map_err(|error| error.into_parts().1)
}

async fn receive(socket: &AsyncFd<PacketSocket>) -> (usize, [u8; FRAME_SIZE]) {
    loop {
        let Ok(mut ready) = socket.readable().await else { std::future::pending().await };
        let mut frame = [0; FRAME_SIZE];
        match ready.try_io(|socket| socket.get_ref().receive(&mut frame)) {
            Ok(Ok(length)) => return (length, frame),
            // ENETDOWN while the link is down: the next readiness tells of its return.
            Ok(Err(_)) | Err(_) => ready.clear_ready(),
        }
    }
}
