//! The namespaces of a story.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use model::{IpNet, Object, Protocol};
use testkit::Namespace;

use super::knock::has_sctp;
use super::serve::serve;
use crate::in_model::{World, interface_of};
use crate::story::{Action, Origin, Story};

/// A node, its pods, and the world around it.
pub(crate) struct Topology {
    pub(crate) node: Namespace,
    /// Every address that a masqueraded connection may come from.
    pub(crate) node_addresses: BTreeSet<IpAddr>,
    /// The node's own pods, by address.
    pods: BTreeMap<IpAddr, Namespace>,
    /// Pods of other nodes.
    remote: Place,
    /// Clients outside.
    clients: Place,
    /// Load balancers outside that have the addresses which they serve, and send from them.
    balancers: Place,
    /// The node's default route: has every address that nobody else has.
    elsewhere: Place,
}

/// A namespace with several addresses.
struct Place {
    namespace: Namespace,
    addresses: BTreeSet<IpAddr>,
}

/// Everything that a story names.
#[derive(Default)]
struct Names {
    endpoints: BTreeSet<(u8, SocketAddr)>,
    destinations: BTreeSet<(u8, SocketAddr)>,
    pods: BTreeSet<IpAddr>,
    remote: BTreeSet<IpAddr>,
    clients: BTreeSet<IpAddr>,
    balancers: BTreeSet<IpAddr>,
}

impl Topology {
    /// Builds everything that the story needs around the node that handles packets now.
    pub(crate) fn of(story: &Story, world: &World) -> Self {
        let objects = story.objects();
        let objects = objects.iter().filter_map(|value| wire::to_model::object(value).ok());
        let packets = story.steps.iter().filter_map(|step| match &step.action {
            Action::Packet { from, to, protocol, .. } => Some((from.clone(), *to, *protocol)),
            _ => None,
        });
        Self::around(world, objects, packets)
    }

    /// Builds everything that these objects and packets name.
    pub(crate) fn around(
        world: &World,
        objects: impl Iterator<Item = Object>,
        packets: impl Iterator<Item = (Origin, SocketAddr, Protocol)>,
    ) -> Self {
        let node = &world.cluster.nodes[world.node.as_str()];
        let own = world.node_addresses();
        let names = names(objects, packets, &node.pod_cidrs, &own);
        let gateways: BTreeSet<IpAddr> =
            node.pod_cidrs.iter().filter_map(|network| network.hosts().next()).collect();
        let place = |addresses| Place { namespace: Namespace::new(), addresses };
        let mut topology = Self {
            node: Namespace::new(),
            node_addresses: own.union(&gateways).copied().collect(),
            pods: names.pods.iter().map(|address| (*address, Namespace::new())).collect(),
            remote: place(names.remote),
            clients: place(names.clients),
            balancers: place(names.balancers),
            elsewhere: place(BTreeSet::new()),
        };
        let destinations = names.destinations.iter().map(|(_, address)| address.ip());
        topology.elsewhere.addresses =
            destinations.filter(|address| !topology.is_somewhere(*address)).collect();
        topology.connect(&own, &gateways);
        topology.balancers.send_to_own(&own);
        topology.await_neighbours(&own, &gateways);
        for (protocol, address) in names.endpoints.union(&names.destinations) {
            topology.serve(*protocol, *address);
        }
        topology
    }

    /// Where packets of an origin start, and the source address to use, if it has to be told.
    pub(crate) fn origin(&self, from: &Origin, to: SocketAddr) -> (&Namespace, Option<IpAddr>) {
        let source = from.address(to.ip(), to.ip());
        match from {
            Origin::Node => (&self.node, None),
            Origin::Pod(address) => (&self.pods[address], Some(source)),
            Origin::RemotePod(_) => (&self.remote.namespace, Some(source)),
            Origin::Client(_) if self.balancers.addresses.contains(&source) => {
                (&self.balancers.namespace, Some(source))
            }
            Origin::Client(_) => (&self.clients.namespace, Some(source)),
        }
    }

    fn connect(&self, own: &BTreeSet<IpAddr>, gateways: &BTreeSet<IpAddr>) {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            self.node.set(key, "1");
        }
        // Otherwise refusals by ICMP become silence after a few.
        for key in ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"] {
            self.node.set(key, "0");
        }
        let neighbour = |device: &str, namespace: &Namespace, here: &BTreeSet<IpAddr>| {
            self.node.connect(device, namespace, "eth0");
            // NDP answers for addresses of the interface only, so each needs one.
            here.iter().fold(String::new(), |mut commands, address| {
                let _ = writeln!(commands, "addr add {address} dev {device}{}", nodad(*address));
                commands
            })
        };
        let mut commands = neighbour("ext", &self.clients.namespace, own);
        commands += &neighbour("balancers", &self.balancers.namespace, own);
        commands += &neighbour("remote", &self.remote.namespace, gateways);
        commands += &neighbour("elsewhere", &self.elsewhere.namespace, gateways);
        self.clients.namespace.ip(&behind(own, &self.clients.addresses));
        self.balancers.namespace.ip(&behind(own, &self.balancers.addresses));
        self.remote.namespace.ip(&behind(gateways, &self.remote.addresses));
        let mut addresses = self.elsewhere.addresses.clone();
        addresses.extend(ROUTERS.map(|text| text.parse::<IpAddr>().unwrap()));
        self.elsewhere.namespace.ip(&behind(gateways, &addresses));
        let places =
            [(&self.clients, "ext"), (&self.balancers, "balancers"), (&self.remote, "remote")];
        for (place, device) in places {
            for address in &place.addresses {
                let _ = writeln!(commands, "route add {address} dev {device}");
            }
        }
        for (address, pod) in &self.pods {
            let device = interface_of(*address);
            commands += &neighbour(&device, pod, gateways);
            let _ = writeln!(commands, "route add {address} dev {device}");
            pod.ip(&behind(gateways, &[*address].into()));
        }
        for router in ROUTERS {
            let _ = writeln!(commands, "route add {router} dev elsewhere");
            let _ = writeln!(commands, "route add default via {router}");
        }
        self.node.ip(&commands);
    }

    /// Waits until every namespace and the node have found each other: the kernel notices new
    /// cables with a delay of up to a second, and steps measure how fast they are answered.
    fn await_neighbours(&self, own: &BTreeSet<IpAddr>, gateways: &BTreeSet<IpAddr>) {
        let routers = ROUTERS.map(|text| text.parse().unwrap());
        let mut pairs: Vec<(&Namespace, IpAddr, &BTreeSet<IpAddr>)> = Vec::new();
        pairs.extend(self.pods.iter().map(|(address, pod)| (pod, *address, gateways)));
        for (place, router) in
            [(&self.clients, own), (&self.balancers, own), (&self.remote, gateways)]
        {
            let addresses = place.addresses.iter();
            pairs.extend(addresses.map(|address| (&place.namespace, *address, router)));
        }
        pairs.extend(routers.map(|address| (&self.elsewhere.namespace, address, gateways)));
        std::thread::scope(|scope| {
            for (namespace, address, routers) in pairs {
                let of_family = |router: &&IpAddr| router.is_ipv4() == address.is_ipv4();
                let Some(router) = routers.iter().copied().find(|router| of_family(&router)) else {
                    continue;
                };
                scope.spawn(move || namespace.run(move || await_neighbour(address, router)));
            }
        });
    }

    fn serve(&self, protocol: u8, address: SocketAddr) {
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|known| known.number() == protocol)
            .unwrap();
        if protocol == Protocol::Sctp && !has_sctp() {
            return;
        }
        self.home(address.ip()).run(move || serve(protocol, address));
    }

    /// Who has an address when no Service changes it.
    fn home(&self, address: IpAddr) -> &Namespace {
        if self.node_addresses.contains(&address) {
            return &self.node;
        }
        let places = [&self.remote, &self.clients, &self.balancers];
        let place = places.into_iter().find(|place| place.addresses.contains(&address));
        let place = place.unwrap_or(&self.elsewhere);
        self.pods.get(&address).unwrap_or(&place.namespace)
    }

    fn is_somewhere(&self, address: IpAddr) -> bool {
        self.node_addresses.contains(&address)
            || self.pods.contains_key(&address)
            || self.remote.addresses.contains(&address)
            || self.clients.addresses.contains(&address)
            || self.balancers.addresses.contains(&address)
    }
}

impl Place {
    /// Lets it send to what it has itself by way of the node: the kernel would deliver that at home,
    /// and drop what comes from its own address as a martian.
    fn send_to_own(&self, routers: &BTreeSet<IpAddr>) {
        for key in ["ipv4/conf/all/accept_local", "ipv4/conf/eth0/accept_local"] {
            self.namespace.set(key, "1");
        }
        for router in routers {
            let of_family = |address: &&IpAddr| address.is_ipv4() == router.is_ipv4();
            if routers.iter().find(of_family) != Some(router) {
                continue;
            }
            let own = self.addresses.iter().filter(of_family);
            let mut commands = vec![
                format!("route add default via {router} dev eth0 onlink table 100"),
                "rule add pref 10 lookup local".to_owned(),
                "rule del pref 0 lookup local".to_owned(),
            ];
            commands.extend(
                own.map(|address| format!("rule add pref 5 iif lo to {address} lookup 100")),
            );
            let family = if router.is_ipv4() { "-4" } else { "-6" };
            self.namespace.run(move || {
                let ip = testkit::program("ip").unwrap();
                for command in commands {
                    let arguments = command.split_whitespace();
                    let status = Command::new(&ip).arg(family).args(arguments).status().unwrap();
                    assert!(status.success(), "ip {family} {command}");
                }
            });
        }
    }
}

/// The other end of the node's default route.
const ROUTERS: [&str; 2] = ["192.0.2.1", "2001:db8:ffff::1"];

/// Asks a closed port of the router until its kernel says that it is closed.
fn await_neighbour(address: IpAddr, router: IpAddr) {
    let socket = UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
    socket.connect(SocketAddr::new(router, CLOSED)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answered = (0..50).any(|_| {
        let _ = socket.send(b"there?");
        let error = socket.recv(&mut [0]).err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert!(answered, "{address} does not reach {router}");
}

/// A port on which no story has a server (RFC 863: discard).
const CLOSED: u16 = 9;

/// Commands that give `eth0` its addresses and let everything else go through a router.
fn behind(routers: &BTreeSet<IpAddr>, addresses: &BTreeSet<IpAddr>) -> String {
    let mut commands = String::new();
    for address in addresses {
        let _ = writeln!(commands, "addr add {address} dev eth0{}", nodad(*address));
    }
    for router in routers {
        let of_family = |address: &&IpAddr| address.is_ipv4() == router.is_ipv4();
        if !addresses.iter().any(|address| of_family(&address)) {
            continue;
        }
        let _ = writeln!(commands, "route add {router} dev eth0");
        if routers.iter().find(of_family) == Some(router) {
            let _ = writeln!(commands, "route add default via {router}");
        }
    }
    commands
}

/// IPv6 addresses are tentative for a while unless told otherwise.
fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

fn names(
    objects: impl Iterator<Item = Object>,
    packets: impl Iterator<Item = (Origin, SocketAddr, Protocol)>,
    own_pods: &[IpNet],
    node: &BTreeSet<IpAddr>,
) -> Names {
    let mut names = Names::default();
    let is_own = |address: &IpAddr| own_pods.iter().any(|network| network.contains(address));
    for object in objects {
        let Object::EndpointSlice(slice) = object else { continue };
        for port in &slice.ports {
            for endpoint in &slice.endpoints {
                let (Some(number), Some(address)) = (port.port, endpoint.addresses.first()) else {
                    continue;
                };
                let socket = SocketAddr::new(*address, number.get());
                names.endpoints.insert((port.protocol.number(), socket));
            }
        }
    }
    for (_, address) in &names.endpoints {
        let address = address.ip();
        if is_own(&address) {
            names.pods.insert(address);
        } else if !node.contains(&address) {
            names.remote.insert(address);
        }
    }
    let packets: Vec<_> = packets.collect();
    let destinations: BTreeSet<IpAddr> = packets.iter().map(|(_, to, _)| to.ip()).collect();
    for (from, to, protocol) in packets {
        names.destinations.insert((protocol.number(), to));
        let source = from.address(to.ip(), to.ip());
        match from {
            Origin::Pod(_) => names.pods.insert(source),
            Origin::RemotePod(_) => names.remote.insert(source),
            Origin::Client(_) if destinations.contains(&source) => names.balancers.insert(source),
            Origin::Client(_) => names.clients.insert(source),
            Origin::Node => false,
        };
    }
    names
}
