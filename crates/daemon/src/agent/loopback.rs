//! TCP node ports on ::1 (D31).
//!
//! The kernel has no route for a pod's answers to ::1, so nftables alone cannot serve it. Connections
//! to `[::1]:nodePort` are relayed to the Service's cluster IP, where the node's own rules choose the
//! endpoint: internalTrafficPolicy and sessionAffinity count, as for every process of the node.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::{Family, FrontendKind, NodeView, Port, Protocol, ServiceView};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

/// Relayed connections of all Services together; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// Before another try when accepting failed, which it does when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);

/// One listening socket per node port.
#[derive(Debug)]
pub(crate) struct LoopbackPorts {
    permits: Arc<Semaphore>,
    relays: BTreeMap<Port, Relay>,
    /// Ports whose failure to listen has been told.
    told: BTreeMap<Port, SocketAddr>,
}

/// Ends with all its connections when it is dropped.
#[derive(Debug)]
struct Relay {
    target: SocketAddr,
    task: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LoopbackPorts {
    pub(crate) fn new() -> Self {
        let permits = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        Self { permits, relays: BTreeMap::new(), told: BTreeMap::new() }
    }

    /// Opens and closes sockets as the view says. A port that is taken is told once and tried again
    /// with every update. Has to be called within a tokio runtime.
    pub(crate) fn update(&mut self, view: &NodeView) {
        let wanted: BTreeMap<Port, SocketAddr> =
            view.services.values().flat_map(|service| targets(service)).collect();
        self.relays.retain(|port, relay| wanted.get(port) == Some(&relay.target));
        self.told.retain(|port, target| wanted.get(port) == Some(target));
        for (port, target) in wanted {
            if self.relays.contains_key(&port) {
                continue;
            }
            match listen(port) {
                Ok(listener) => {
                    let permits = Arc::clone(&self.permits);
                    let task = tokio::spawn(serve(listener, target, permits)).abort_handle();
                    self.relays.insert(port, Relay { target, task });
                    self.told.remove(&port);
                }
                Err(error) => {
                    if self.told.insert(port, target).is_none() {
                        tracing::warn!(%error, %port, "the node port does not answer on ::1");
                    }
                }
            }
        }
    }
}

/// TCP node ports and the address of the same Service port on the IPv6 cluster IP.
fn targets(service: &ServiceView) -> impl Iterator<Item = (Port, SocketAddr)> {
    let node_ports = service.frontends.iter().filter(|frontend| {
        frontend.kind == FrontendKind::NodePort(Family::V6) && frontend.protocol == Protocol::Tcp
    });
    node_ports.filter_map(|node_port| {
        let target = service.frontends.iter().find_map(|frontend| match frontend.kind {
            FrontendKind::ClusterIp(address)
                if address.is_ipv6()
                    && frontend.protocol == Protocol::Tcp
                    && frontend.port_name == node_port.port_name =>
            {
                Some(SocketAddr::new(address, frontend.port.get()))
            }
            _ => None,
        });
        target.map(|target| (node_port.port, target))
    })
}

fn listen(port: Port) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port.get()))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn serve(listener: TcpListener, target: SocketAddr, permits: Arc<Semaphore>) {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{Action, Backend, Frontend, LocalDetector, Masquerade, NodeContext, ServiceName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn service(node_port: u16, target: SocketAddr) -> ServiceView {
        let backend = Backend { address: target, local: true };
        let frontend = |kind, port| Frontend {
            kind,
            protocol: Protocol::Tcp,
            port: Port::new(port).unwrap(),
            port_name: "web".into(),
            internal: Action::Balance([backend].into()),
            external: Action::Balance([backend].into()),
            lasting: Arc::default(),
            resets: false,
            masquerade: Masquerade::Always,
            affinity: None,
            source_ranges: None,
        };
        ServiceView {
            name: ServiceName::new("default", "web"),
            cluster_ips: vec![target.ip()],
            frontends: vec![
                frontend(FrontendKind::ClusterIp(target.ip()), target.port()),
                frontend(FrontendKind::NodePort(Family::V6), node_port),
            ],
            health_check: None,
            report: Vec::new(),
        }
    }

    fn view(services: impl IntoIterator<Item = ServiceView>) -> NodeView {
        let named = |service: ServiceView| (service.name.clone(), Arc::new(service));
        NodeView {
            context: NodeContext {
                node: "a".into(),
                zone: None,
                node_addresses: BTreeSet::new(),
                local_detector: LocalDetector::None,
                masquerade_all: false,
            },
            service_cidrs: BTreeSet::new(),
            services: services.into_iter().map(named).collect(),
        }
    }

    #[tokio::test]
    async fn a_node_port_answers_on_loopback_until_its_service_goes() {
        // D31. A listener on ::1 stands for the cluster IP.
        let Ok(server) = TcpListener::bind("[::1]:0").await else {
            return testkit::skip("a_node_port_answers_on_loopback…", "no ::1");
        };
        let free = std::net::TcpListener::bind("[::1]:0").unwrap();
        let node_port = free.local_addr().unwrap().port();
        let with = view([service(node_port, server.local_addr().unwrap())]);
        let mut ports = LoopbackPorts::new();
        ports.update(&with);
        assert!(ports.relays.is_empty() && ports.told.len() == 1, "somebody has the port");
        drop(free);
        ports.update(&with);

        let mut client = TcpStream::connect((Ipv6Addr::LOCALHOST, node_port)).await.unwrap();
        let (mut served, _) = server.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut heard = [0; 3];
        served.read_exact(&mut heard).await.unwrap();
        served.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!((&heard, &answer), (b"ask", b"answer"));

        ports.update(&with);
        client.write_all(b"ask").await.unwrap();
        served.read_exact(&mut heard).await.unwrap();

        ports.update(&view([]));
        assert_eq!(client.read(&mut answer).await.unwrap_or(0), 0, "the connection has ended");
        assert_eq!(served.read(&mut heard).await.unwrap_or(0), 0);
        let refused = TcpStream::connect((Ipv6Addr::LOCALHOST, node_port)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
