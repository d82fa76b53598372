//! TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// Before another try when accepting failed, which it does when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// Relays every connection to `target`, until it is aborted.
pub(super) async fn serve(listener: TcpListener, target: SocketAddr, permits: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                    connections.spawn(relay(client, target, permit));
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection to a node port on ::1");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A client whose Service refuses sees its connection end at once.
async fn relay(mut client: TcpStream, target: SocketAddr, _permit: OwnedSemaphorePermit) {
    let relayed = async {
        let mut server = TcpStream::connect(target).await?;
        tokio::io::copy_bidirectional(&mut client, &mut server).await
    };
    if let Err(error) = relayed.await {
        tracing::debug!(%error, %target, "a connection to a node port on ::1 ended");
    }
}
