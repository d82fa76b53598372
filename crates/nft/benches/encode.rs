//! The way from a [`NodeView`] to the bytes of a transaction: one changed Service among many, and
//! everything. `cargo bench -p portolan-nft`.

#![expect(clippy::print_stdout, reason = "a report for people")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use model::{
    Action, Backend, Frontend, FrontendKind, LocalDetector, Masquerade, NodeContext, NodeView,
    Port, Protocol, ServiceName, ServiceView,
};
use portolan_nft::{Layout, Ruleset, Settings, diff, encoded};

const SERVICES: [u32; 4] = [100, 1_000, 10_000, 50_000];
const ENDPOINTS: u32 = 5;

fn one_change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one changed Service to bytes, among");
    for services in SERVICES {
        let mut view = view(services);
        let mut layout = Layout::new(&view, &Settings::default());
        let changed = services / 2;
        let names: BTreeSet<ServiceName> = [name(changed)].into();
        let versions = [0, 1].map(|shift| Arc::new(service(changed, shift)));
        let mut turn = 0;
        let mut change = move || {
            turn += 1;
            view.services.insert(name(changed), Arc::clone(&versions[turn % 2]));
            encoded(&layout.update(&view, Some(&names)).operations)
        };
        println!("one endpoint of {services} Services: {:?}", change());
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| black_box(change()));
        });
    }
    group.finish();
}

fn everything(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("all Services to bytes");
    group.sample_size(10);
    for services in SERVICES {
        let view = view(services);
        let load = || {
            let layout = Layout::new(&view, &Settings::default());
            encoded(&diff(&Ruleset::new(), &layout.ruleset()))
        };
        println!("{services} Services with {ENDPOINTS} endpoints: {:?}", load());
        group.bench_function(BenchmarkId::from_parameter(services), |bencher| {
            bencher.iter(|| black_box(load()));
        });
    }
    group.finish();
}

fn view(services: u32) -> NodeView {
    let services = (0..services).map(|number| (name(number), Arc::new(service(number, 0))));
    NodeView {
        context: NodeContext {
            node: "node1".into(),
            zone: None,
            node_addresses: [IpAddr::from([172, 30, 0, 11])].into(),
            local_detector: LocalDetector::None,
            masquerade_all: false,
        },
        service_cidrs: BTreeSet::new(),
        services: services.collect(),
    }
}

fn name(number: u32) -> ServiceName {
    ServiceName::new("default", format!("service-{number}"))
}

/// `shift` moves its first endpoint.
fn service(number: u32, shift: u32) -> ServiceView {
    let address = IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 1)) + number));
    let first = u32::from(Ipv4Addr::new(10, 128, 0, 0)) + number * 16;
    let numbers = std::iter::once(shift * 8).chain(1..ENDPOINTS);
    let backends: Arc<[Backend]> = numbers
        .map(|number| (Ipv4Addr::from(first + number), 8080).into())
        .map(|address| Backend { address, local: false })
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
        name: name(number),
        cluster_ips: vec![address],
        frontends: vec![frontend],
        health_check: None,
        report: Vec::new(),
    }
}

criterion_group!(benches, one_change, everything);
criterion_main!(benches);
