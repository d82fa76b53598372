//! UDP: every client gets a socket of its own towards the Service, as conntrack would keep an entry.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// The longest datagram.
const DATAGRAM_BYTES: usize = 65_535;
/// Datagrams of one client that wait to be sent on; more are dropped.
const WAITING: usize = 64;

/// Relays datagrams between clients and `target`, until it is aborted.
pub(super) async fn serve(socket: UdpSocket, target: SocketAddr, permits: Arc<Semaphore>) {
    let socket = Arc::new(socket);
    let mut clients: BTreeMap<SocketAddr, mpsc::Sender<Vec<u8>>> = BTreeMap::new();
    let mut flows = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let (len, client) = tokio::select! {
            Some(_) = flows.join_next() => {
                clients.retain(|_, queue| !queue.is_closed());
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // What ICMP tells of answers that a client did not wait for.
                Err(_) => continue,
            },
        };
        let mut datagram = buffer[..len].to_vec();
        if let Some(queue) = clients.get(&client) {
            match queue.try_send(datagram) {
                Ok(()) | Err(TrySendError::Full(_)) => continue,
                // It was idle for too long until now.
                Err(TrySendError::Closed(returned)) => datagram = returned,
            }
        }
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            tracing::debug!(%client, %target, "too many UDP clients on ::1; dropped a datagram");
            continue;
        };
        let (queue, datagrams) = mpsc::channel(WAITING);
        // There is room for the first.
        drop(queue.try_send(datagram));
        clients.insert(client, queue);
        flows.spawn(relay(Flow { socket: Arc::clone(&socket), client, target }, datagrams, permit));
    }
}

/// One client.
struct Flow {
    /// Where it sends to and hears from.
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    target: SocketAddr,
}

/// Until neither side has sent anything for as long as conntrack remembers such a flow.
async fn relay(flow: Flow, mut datagrams: mpsc::Receiver<Vec<u8>>, _permit: OwnedSemaphorePermit) {
    let Flow { socket, client, target } = flow;
    let server = match connect(target).await {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(%error, %target, "could not relay a datagram to a node port on ::1");
            return;
        }
    };
    let timeouts = nft::sysctl::udp_timeouts();
    let mut idle = timeouts.unanswered;
    loop {
        tokio::select! {
            Some(datagram) = datagrams.recv() => {
                // Lost datagrams and ICMP errors are nothing new to UDP.
                drop(server.send(&datagram).await);
            }
            _ = server.readable() => {
                let Ok(datagram) = take(&server) else { continue };
                idle = timeouts.answered;
                drop(socket.send_to(&datagram, client).await);
            }
            () = tokio::time::sleep(idle) => return,
        }
    }
}

/// The next datagram, without waiting. Many clients must not keep a buffer each.
fn take(server: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = [0; DATAGRAM_BYTES];
    let len = server.try_recv(&mut buffer)?;
    Ok(buffer[..len].to_vec())
}

async fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => ([0; 4], 0).into(),
        SocketAddr::V6(_) => ([0; 16], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}
