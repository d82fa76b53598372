//! Node ports on ::1 (D31).
//!
//! The kernel has no route for a pod's answers to ::1, so nftables alone cannot serve it. What is for
//! `[::1]:nodePort` is relayed to where the node's own rules choose the endpoint: to the Service's
//! IPv6 cluster IP, or, of a Service that has IPv4 only, to 127.0.0.1:nodePort. The traffic policies
//! and sessionAffinity count as for every process of the node. The endpoint sees the node as client.
//!
//! A Service without endpoints has no socket, so that the kernel refuses its clients at once.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use model::{Action, Family, Frontend, FrontendKind, NodeView, Port, Protocol, ServiceView};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// Relayed TCP connections of all Services together; further ones wait to be accepted.
const MOST_CONNECTIONS: usize = 1024;
/// UDP clients of all Services together; what further ones send is dropped.
const MOST_FLOWS: usize = 1024;

/// One socket per node port.
#[derive(Debug)]
pub(crate) struct LoopbackPorts {
    connections: Arc<Semaphore>,
    flows: Arc<Semaphore>,
    relays: BTreeMap<Place, Relay>,
    /// Ports whose failure to listen has been told.
    told: BTreeMap<Place, SocketAddr>,
}

/// What is listened to.
type Place = (Protocol, Port);

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
        Self {
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            flows: Arc::new(Semaphore::new(MOST_FLOWS)),
            relays: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Opens and closes sockets as the view says. A port that is taken is told once and tried again
    /// with every update. Has to be called within a tokio runtime.
    pub(crate) fn update(&mut self, view: &NodeView) {
        let wanted: BTreeMap<Place, SocketAddr> =
            view.services.values().flat_map(|service| targets(service)).collect();
        self.relays.retain(|place, relay| wanted.get(place) == Some(&relay.target));
        self.told.retain(|place, target| wanted.get(place) == Some(target));
        for (place, target) in wanted {
            if self.relays.contains_key(&place) {
                continue;
            }
            match self.listen(place, target) {
                Ok(task) => {
                    self.relays.insert(place, Relay { target, task });
                    self.told.remove(&place);
                }
                Err(error) => {
                    if self.told.insert(place, target).is_none() {
                        let (protocol, port) = place;
                        tracing::warn!(%error, %protocol, %port, "the node port does not answer on ::1");
                    }
                }
            }
        }
    }

    fn listen(&self, (protocol, port): Place, target: SocketAddr) -> io::Result<AbortHandle> {
        let address = (Ipv6Addr::LOCALHOST, port.get());
        let task = match protocol {
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                let socket = UdpSocket::from_std(socket)?;
                tokio::spawn(udp::serve(socket, target, Arc::clone(&self.flows)))
            }
            Protocol::Tcp | Protocol::Sctp => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let listener = TcpListener::from_std(listener)?;
                tokio::spawn(tcp::serve(listener, target, Arc::clone(&self.connections)))
            }
        };
        Ok(task.abort_handle())
    }
}

/// Where a Service's node ports lead to. SCTP is not relayed.
fn targets(service: &ServiceView) -> BTreeMap<Place, SocketAddr> {
    let mut targets = BTreeMap::new();
    for family in [Family::V6, Family::V4] {
        let kind = FrontendKind::NodePort(family);
        let ports = service.frontends.iter().filter(|frontend| frontend.kind == kind);
        for node_port in ports.filter(|frontend| frontend.protocol != Protocol::Sctp) {
            let place = (node_port.protocol, node_port.port);
            let target = match family {
                Family::V6 => cluster_address(service, node_port),
                Family::V4 => Some((node_port, Ipv4Addr::LOCALHOST.into())),
            };
            if let Some((frontend, address)) = target {
                targets.entry(place).or_insert((frontend, address));
            }
        }
    }
    let refuses = |frontend: &Frontend| matches!(frontend.internal, Action::Reject(_));
    let open = targets.into_iter().filter(|(_, (frontend, _))| !refuses(frontend));
    open.map(|(place, (frontend, address))| (place, SocketAddr::new(address, frontend.port.get())))
        .collect()
}

/// The frontend of the same Service port on the IPv6 cluster IP.
fn cluster_address<'a>(
    service: &'a ServiceView,
    node_port: &Frontend,
) -> Option<(&'a Frontend, IpAddr)> {
    service.frontends.iter().find_map(|frontend| match frontend.kind {
        FrontendKind::ClusterIp(address)
            if address.is_ipv6()
                && frontend.protocol == node_port.protocol
                && frontend.port_name == node_port.port_name =>
        {
            Some((frontend, address))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use model::{Backend, LocalDetector, Masquerade, NodeContext, Reason, ServiceName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    fn service(protocol: Protocol, node_port: u16, target: SocketAddr) -> ServiceView {
        let backend = Backend { address: target, local: true };
        let frontend = |kind, port| Frontend {
            kind,
            protocol,
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
                frontend(FrontendKind::NodePort(Family::of(target.ip())), node_port),
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
        let with = view([service(Protocol::Tcp, node_port, server.local_addr().unwrap())]);
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

    #[tokio::test]
    async fn udp_clients_are_told_apart_until_their_service_goes() {
        // D31. A socket on ::1 stands for the cluster IP.
        let Ok(server) = UdpSocket::bind("[::1]:0").await else {
            return testkit::skip("udp_clients_are_told_apart…", "no ::1");
        };
        let free = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let node_port = free.local_addr().unwrap();
        drop(free);
        let target = server.local_addr().unwrap();
        let mut ports = LoopbackPorts::new();
        ports.update(&view([service(Protocol::Udp, node_port.port(), target)]));

        let clients =
            [UdpSocket::bind("[::1]:0").await.unwrap(), UdpSocket::bind("[::1]:0").await.unwrap()];
        let mut relays = BTreeSet::new();
        for (client, name) in clients.iter().zip(*b"ab").cycle().take(4) {
            client.connect(node_port).await.unwrap();
            client.send(&[name]).await.unwrap();
            let mut heard = [0];
            let (_, relay) = server.recv_from(&mut heard).await.unwrap();
            assert_eq!(heard, [name]);
            server.send_to(&heard, relay).await.unwrap();
            relays.insert(relay);
        }
        for (client, name) in clients.iter().zip(*b"ab") {
            for _ in 0..2 {
                let mut answer = [0];
                client.recv(&mut answer).await.unwrap();
                assert_eq!(answer, [name]);
            }
        }
        assert_eq!(relays.len(), 2, "each has a socket of its own: {relays:?}");
        assert_eq!(ports.flows.available_permits(), MOST_FLOWS - 2);

        ports.update(&view([]));
        // The relay's task ends with its next turn.
        while ports.flows.available_permits() < MOST_FLOWS {
            tokio::task::yield_now().await;
        }
        UdpSocket::bind(node_port).await.unwrap();
    }

    #[test]
    fn node_ports_lead_to_the_family_that_the_service_has() {
        let of = |service: &ServiceView| -> Vec<String> {
            targets(service).values().map(ToString::to_string).collect()
        };
        let mut six = service(Protocol::Tcp, 30007, "[fd00:10:96::a]:80".parse().unwrap());
        let mut four = service(Protocol::Tcp, 30007, "10.96.0.10:80".parse().unwrap());
        assert_eq!(of(&six), ["[fd00:10:96::a]:80"]);
        assert_eq!(of(&four), ["127.0.0.1:30007"]);
        let mut both = six.clone();
        both.frontends.extend(four.frontends.clone());
        assert_eq!(of(&both), ["[fd00:10:96::a]:80"]);
        for service in [&mut six, &mut four] {
            for frontend in &mut service.frontends {
                frontend.internal = Action::Reject(Reason::NoEndpoints);
            }
            assert!(targets(service).is_empty(), "the kernel refuses");
        }
        let sctp = service(Protocol::Sctp, 30007, "10.96.0.10:80".parse().unwrap());
        assert!(targets(&sctp).is_empty());
    }
}
