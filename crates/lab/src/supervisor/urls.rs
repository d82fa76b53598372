//! Loopback URLs: listeners on the host that lead to Services the way the external client sees
//! them, through node ports and load balancer addresses.
//!
//! ```text
//!  curl ─▶ 127.0.0.1:P (host) ─▶ a socket in the client's namespace ─▶ node1:30007
//! ```

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};

use super::{Lab, status};
use crate::config::AddressPlan;
use crate::control::EndpointUrl;
use crate::error::chain;
use crate::net::Namespace;
use crate::view::{Key, Kind};

/// A conversation over UDP is forgotten after this much silence.
const UDP_SILENCE: Duration = Duration::from_secs(60);

/// The listeners. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Urls {
    open: Rc<RefCell<BTreeMap<Target, Open>>>,
}

/// Where a listener leads.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Target {
    service: Key,
    udp: bool,
    address: SocketAddr,
    /// How the address is called: `node1:30007`.
    title: String,
}

#[derive(Debug)]
struct Open {
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Urls {
    /// The URLs of a Service.
    pub(super) fn of(&self, namespace: &str, name: &str) -> Vec<EndpointUrl> {
        let open = self.open.borrow();
        let own = open
            .iter()
            .filter(|(target, _)| target.service.0 == namespace && target.service.1 == name);
        own.map(|(target, open)| {
            let (scheme, protocol) = if target.udp { ("udp", "UDP") } else { ("http", "TCP") };
            EndpointUrl {
                url: format!("{scheme}://{}", open.local),
                leads_to: target.title.clone(),
                protocol: protocol.to_owned(),
            }
        })
        .collect()
    }

    /// Opens and closes listeners; whether it changed any.
    async fn set(&self, wanted: BTreeSet<Target>, client: &Namespace) -> bool {
        let before = self.open.borrow().len();
        let mut opened = false;
        self.open.borrow_mut().retain(|target, open| {
            let keep = wanted.contains(target);
            if !keep {
                open.task.abort();
            }
            keep
        });
        let closed = self.open.borrow().len() < before;
        for target in wanted {
            if self.open.borrow().contains_key(&target) {
                continue;
            }
            match open(&target, client.clone()).await {
                Ok(open) => {
                    self.open.borrow_mut().insert(target, open);
                    opened = true;
                }
                Err(error) => tracing::warn!(
                    target = target.title,
                    error = chain(&error),
                    "could not open a loopback URL"
                ),
            }
        }
        closed || opened
    }
}

/// Keeps the listeners as the Services are, for ever.
pub(super) async fn keep(lab: Rc<Lab>) {
    let mut changes = lab.view.changes();
    let client = lab.topology.borrow().client.clone();
    loop {
        let wanted = wanted(&lab);
        if lab.urls.set(wanted, &client).await {
            lab.view.touch();
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn wanted(lab: &Lab) -> BTreeSet<Target> {
    let mut wanted = BTreeSet::new();
    for object in lab.view.all(Kind::Service) {
        let service = status::service(lab, &object);
        let key = (service.namespace.clone(), service.name.clone());
        for port in service.ports.iter().filter(|port| port.protocol != "SCTP") {
            let udp = port.protocol == "UDP";
            let mut add = |address: IpAddr, number: u16, title: String| {
                wanted.insert(Target {
                    service: key.clone(),
                    udp,
                    address: SocketAddr::new(address, number),
                    title,
                });
            };
            for index in 0..lab.config.nodes {
                if let Some(number) = port.node_port {
                    add(
                        AddressPlan::node(index)[0],
                        number,
                        format!("{}:{number}", AddressPlan::node_name(index)),
                    );
                }
            }
            for address in
                service.external_ips.iter().filter_map(|text| text.parse::<Ipv4Addr>().ok())
            {
                add(address.into(), port.port, format!("{address}:{}", port.port));
            }
        }
    }
    wanted
}

async fn open(target: &Target, client: Namespace) -> io::Result<Open> {
    let (any, to) = ((Ipv4Addr::LOCALHOST, 0), target.address);
    if target.udp {
        let socket = UdpSocket::bind(any).await?;
        return Ok(Open {
            local: socket.local_addr()?,
            task: tokio::task::spawn_local(carry_udp(socket, to, client)),
        });
    }
    let listener = TcpListener::bind(any).await?;
    Ok(Open {
        local: listener.local_addr()?,
        task: tokio::task::spawn_local(carry_tcp(listener, to, client)),
    })
}

async fn carry_tcp(listener: TcpListener, to: SocketAddr, client: Namespace) {
    let mut talks = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while talks.try_join_next().is_some() {}
        let mut near = match accepted {
            Ok((near, _)) => near,
            Err(error) => {
                tracing::warn!(%error, %to, "accept a connection to a loopback URL");
                // Out of descriptors: one of ours must be closed first.
                if talks.join_next().await.is_none() {
                    return;
                }
                continue;
            }
        };
        let client = client.clone();
        talks.spawn_local(async move {
            // A connection that breaks is closed on both sides: nothing else is to be said.
            if let Ok(mut far) = client.connect(to).await {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}

async fn carry_udp(socket: UdpSocket, to: SocketAddr, client: Namespace) {
    let socket = Rc::new(socket);
    let mut talks = BTreeMap::<SocketAddr, (Rc<UdpSocket>, JoinHandle<()>)>::new();
    let mut packet = vec![0; 65536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet).await else {
            continue;
        };
        talks.retain(|_, (_, task)| !task.is_finished());
        let far = match talks.entry(from) {
            Entry::Occupied(talk) => talk.get().0.clone(),
            Entry::Vacant(place) => {
                let Ok(far) = client.udp(to).and_then(UdpSocket::from_std).map(Rc::new) else {
                    continue;
                };
                let task = tokio::task::spawn_local(answer_udp(socket.clone(), far.clone(), from));
                place.insert((far.clone(), task));
                far
            }
        };
        // A datagram may be lost; UDP says no more.
        let _ = far.send(&packet[..length]).await;
    }
}

async fn answer_udp(near: Rc<UdpSocket>, far: Rc<UdpSocket>, from: SocketAddr) {
    let mut packet = vec![0; 65536];
    while let Ok(Ok(length)) = tokio::time::timeout(UDP_SILENCE, far.recv(&mut packet)).await {
        let _ = near.send_to(&packet[..length], from).await;
    }
}
