//! How long the kernel takes for many Services, and for one change among them.
//!
//! `cargo run --release -p portolan-nft --example load -- [SERVICES] [ENDPOINTS]`, as root: it
//! works in a network namespace of its own.

#![expect(clippy::print_stdout, reason = "a report for people")]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use model::{
    Action, Backend, Family, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext,
    NodeView, Port, Protocol, ServiceName, ServiceView,
};
use nix::sched::{CloneFlags, unshare};
use portolan_nft::ruleset::{Key, Op, Traffic};
use portolan_nft::{Dataplane, Meter, Netfilter, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u32>());
    let services = numbers.next().transpose()?.unwrap_or(10_000);
    let endpoints = numbers.next().transpose()?.unwrap_or(10);
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut dataplane = Dataplane::open(Settings::default())?;
    let watch = dataplane.events()?;

    let mut view = view(services, endpoints);
    timed("first sync, empty kernel", || dataplane.sync(&view))?;
    timed("nothing changed", || dataplane.sync(&view))?;
    replace(&mut view, services / 2, endpoints, 1);
    timed("one endpoint replaced", || dataplane.sync(&view))?;
    replace(&mut view, services / 2, endpoints + 1, 1);
    timed("one endpoint more", || dataplane.sync(&view))?;
    replace(&mut view, services / 2, endpoints + 2, 1);
    timed("one endpoint more", || dataplane.sync(&view))?;
    replace(&mut view, services / 3, endpoints + 2, 0);
    timed("two endpoints more, known count", || dataplane.sync(&view))?;
    replace(&mut view, services / 3, endpoints + 1, 0);
    let name = ServiceName::new("default", format!("service-{}", services / 3));
    timed("one endpoint less, Service named", || dataplane.sync_services(&view, &[name].into()))?;
    timed("read back, compare", || dataplane.verify())?;
    // Whoever listens to events makes transactions slow, unless it is muted for large ones.
    drop((dataplane, watch));
    let mut restarted = Dataplane::open(Settings::default())?;
    let _watch = restarted.events()?;
    timed("first sync after a restart", || restarted.sync(&view))?;
    timed("cleanup", || restarted.cleanup())?;
    counters(&view)
}

/// With as many counters as fit.
fn counters(view: &NodeView) -> Result<(), Box<dyn Error>> {
    let settings = Settings { counters: true, ..Settings::default() };
    let mut dataplane = Dataplane::open(settings.clone())?;
    timed("first sync with counters, empty kernel", || dataplane.sync(view))?;
    let traffic = Traffic { packets: 10, bytes: 1000 };
    let counted: Vec<_> = keys(view).take(COUNTERS).map(|key| (Key::new(&key), traffic)).collect();
    for set in ["count-connections", "count-to-endpoints", "count-from-endpoints"] {
        let add = Op::AddCounted(Family::V4, set.into(), counted.clone());
        dataplane.netfilter_mut().commit(&[add])?;
    }
    println!("               {} connections, and packets of both directions:", counted.len());
    timed("copy the view, in the loop", || {
        Ok::<_, portolan_nft::Error>(view.clone().services.len())
    })?;
    let mut meter = Meter::open(&settings)?;
    for what in ["read them for the first time", "read them again"] {
        timed(&format!("{what}, in any thread"), || {
            let retired = meter.read(view)?;
            Ok::<_, portolan_nft::Error>((retired.is_empty(), meter.counters().services.len()))
        })?;
    }
    Ok(())
}

/// Of elements that count what goes to endpoints: `address . protocol . port . endpoint`.
fn keys(view: &NodeView) -> impl Iterator<Item = Vec<u8>> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let port = |port: u16| [&port.to_be_bytes()[..], &[0; 2]].concat();
    view.services.values().flat_map(|service| &service.frontends).flat_map(move |frontend| {
        let (FrontendKind::ClusterIp(address), Action::Balance(backends)) =
            (frontend.kind, &frontend.internal)
        else {
            return Vec::new();
        };
        let protocol = vec![frontend.protocol.number(), 0, 0, 0];
        let frontend = [octets(address), protocol, port(frontend.port.get())].concat();
        let endpoints = backends.iter().map(|backend| backend.address);
        let key = |endpoint: SocketAddr| {
            [frontend.clone(), octets(endpoint.ip()), port(endpoint.port())].concat()
        };
        endpoints.map(key).collect()
    })
}

/// That a set holds at most.
const COUNTERS: usize = 1 << 14;

fn timed<T: std::fmt::Debug, E>(what: &str, act: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let result = act()?;
    println!("{:>10.3} ms  {what}: {result:?}", start.elapsed().as_secs_f64() * 1e3);
    Ok(result)
}

fn view(services: u32, endpoints: u32) -> NodeView {
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: [IpAddr::from([172, 30, 0, 11])].into(),
            local_detector: LocalDetector::NodeCidr(Vec::new()),
            masquerade_all: false,
        },
        service_cidrs: Default::default(),
        services: (0..services)
            .map(|number| service(number, endpoints, 0))
            .map(|service| (service.name.clone(), Arc::new(service)))
            .collect(),
    }
}

fn replace(view: &mut NodeView, number: u32, endpoints: u32, shift: u32) {
    let service = service(number, endpoints, shift);
    view.services.insert(service.name.clone(), Arc::new(service));
}

fn service(number: u32, endpoints: u32, shift: u32) -> ServiceView {
    let address = IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number));
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 64;
    let backends: Arc<[Backend]> = (0..endpoints)
        .map(|endpoint| {
            Ipv4Addr::from(first + endpoint + if endpoint == 0 { shift * 60 } else { 0 })
        })
        .map(|address| Backend { address: (address, 8080).into(), local: false })
        .collect();
    let frontend = Frontend {
        kind: FrontendKind::ClusterIp(address),
        protocol: Protocol::Tcp,
        port: Port::MIN.saturating_add(79),
        port_name: "".into(),
        internal: Action::Balance(Arc::clone(&backends)),
        external: Action::Balance(backends),
        lasting: Arc::default(),
        resets: false,
        masquerade: Masquerade::OffCluster,
        affinity: None,
        source_ranges: None,
    };
    ServiceView {
        name: ServiceName::new("default", format!("service-{number}")),
        cluster_ips: vec![address],
        frontends: vec![frontend],
        health_check: None,
        report: Vec::new(),
    }
}
