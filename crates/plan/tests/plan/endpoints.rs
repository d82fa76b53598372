//! Endpoints objects, and the slices that mirror hand-made ones.

use std::sync::Arc;

use model::{
    AddressType, EndpointSlice, Endpoints, EndpointsAddress, EndpointsName, EndpointsSubset,
    Family, Service, ServiceName, SlicePort, TargetPort, Write,
};

use crate::fixtures::{
    IntoObject as _, cluster, labels, meta, node, pod, port, seconds, service, service_port, web,
};
use crate::server::Server;

fn settle(server: &mut Server) -> Vec<Write> {
    let writes = plan::endpoints(&server.cluster, &web()).writes;
    server.carry_out(&writes);
    assert_eq!(plan::endpoints(&server.cluster, &web()).writes, [], "not a fixpoint");
    writes
}

fn object(server: &Server) -> &Endpoints {
    &server.cluster.endpoints[&name()]
}

fn name() -> EndpointsName {
    EndpointsName::new("default", "web")
}

#[test]
fn ready_and_unready_addresses_are_apart_and_terminating_ones_are_missing() {
    // C18.
    let mut unready = pod("b", "10.244.0.6");
    unready.ready = false;
    let mut terminating = pod("c", "10.244.0.7");
    terminating.meta.deleting = Some(seconds(1));
    let pods = [pod("a", "10.244.0.5"), unready, terminating].map(|pod| pod.object());
    let mut server = Server::new(cluster(std::iter::once(service().object()).chain(pods)));
    settle(&mut server);
    let [subset] = &object(&server).subsets[..] else { panic!("one subset") };
    assert_eq!(subset.addresses.len(), 1);
    assert_eq!(subset.not_ready_addresses.len(), 1);
    assert_eq!(subset.ports[0].port, Some(port(8080)));
}

#[test]
fn a_service_without_pods_has_an_object_without_subsets() {
    let mut server = Server::new(cluster([service().object()]));
    settle(&mut server);
    let managed_by = [("endpoints.kubernetes.io/managed-by", "endpoint-controller")];
    assert_eq!(object(&server).meta.labels, labels(&managed_by));
    assert!(object(&server).subsets.is_empty());
    server.cluster.services.clear();
    assert_eq!(settle(&mut server), [Write::DeleteEndpoints(name())]);
}

#[test]
fn hand_made_endpoints_survive_while_there_is_no_service() {
    let server = Server::new(cluster([hand_made(&["192.0.2.1"]).object()]));
    assert_eq!(plan::endpoints(&server.cluster, &web()).writes, []);
}

#[test]
fn ports_with_the_same_addresses_share_a_subset() {
    let mut service = service();
    service.ports.push(service_port("fixed", 81, 9000));
    let mut named = service_port("named", 82, 1);
    named.target = TargetPort::Name("http".into());
    service.ports.push(named);
    let mut other = pod("b", "10.244.0.6");
    other.ports[0].port = port(8081);
    let pods = [pod("a", "10.244.0.5").object(), other.object()];
    let mut server = Server::new(cluster(std::iter::once(service.object()).chain(pods)));
    settle(&mut server);
    let shape: Vec<(usize, usize)> = object(&server)
        .subsets
        .iter()
        .map(|subset| (subset.ports.len(), subset.addresses.len()))
        .collect();
    assert_eq!(shape, [(2, 2), (1, 1), (1, 1)]);
}

#[test]
fn more_than_a_thousand_addresses_are_cut_ready_ones_first() {
    // C19.
    let pods = (0..1010).map(|number| {
        let mut pod =
            pod(&format!("p{number:04}"), &format!("10.244.{}.{}", number / 200, number % 200));
        pod.ready = number >= 20;
        pod.object()
    });
    let mut server = Server::new(cluster(std::iter::once(service().object()).chain(pods)));
    settle(&mut server);
    let subset = &object(&server).subsets[0];
    assert_eq!((subset.addresses.len(), subset.not_ready_addresses.len()), (990, 10));
    let annotation = &object(&server).meta.annotations["endpoints.kubernetes.io/over-capacity"];
    assert_eq!(annotation, "truncated");
}

fn hand_made(addresses: &[&str]) -> Endpoints {
    let address = |text: &&str| EndpointsAddress {
        ip: text.parse().unwrap(),
        hostname: None,
        node: None,
        target: None,
    };
    let mut meta = meta("web");
    meta.uid = "uid-endpoints".into();
    meta.labels = labels(&[("team", "a")]);
    meta.annotations =
        labels(&[("note", "kept"), ("kubectl.kubernetes.io/last-applied-configuration", "{}")]);
    Endpoints {
        meta,
        subsets: vec![EndpointsSubset {
            addresses: addresses.iter().map(address).collect(),
            not_ready_addresses: Vec::new(),
            ports: vec![SlicePort {
                name: None,
                protocol: model::Protocol::Tcp,
                port: Some(port(8080)),
                app_protocol: None,
            }],
        }],
    }
}

fn without_selector() -> Service {
    Service { selector: model::Labels::new(), ..service() }
}

fn mirror(server: &mut Server) -> Vec<Write> {
    let writes = plan::mirroring(&server.cluster, &name()).writes;
    server.carry_out(&writes);
    assert_eq!(plan::mirroring(&server.cluster, &name()).writes, [], "not a fixpoint");
    writes
}

#[test]
fn hand_made_endpoints_are_mirrored_per_family() {
    // C16.
    let object = hand_made(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
    let mut server = Server::new(cluster([without_selector().object(), object.object()]));
    mirror(&mut server);
    let slices: Vec<&EndpointSlice> =
        server.cluster.slices_of(&ServiceName::new("default", "web")).map(|one| &**one).collect();
    assert_eq!(slices.len(), 2);
    for slice in slices {
        let count = if slice.address_type == AddressType::Ip(Family::V4) { 2 } else { 1 };
        assert_eq!(slice.endpoints.len(), count);
        assert_eq!(slice.ports[0].name, Some("".into()));
        assert_eq!(slice.meta.annotations, labels(&[("note", "kept")]));
        assert_eq!(slice.meta.labels["team"], "a");
        assert_eq!(&*slice.meta.controller().unwrap().kind, "Endpoints");
    }
    let mut changed = hand_made(&["192.0.2.1", "192.0.2.9"]);
    changed.meta.annotations.clear();
    server.cluster.endpoints.insert(name(), Arc::new(changed));
    mirror(&mut server);
    let [slice] = &server.cluster.slices.values().collect::<Vec<_>>()[..] else { panic!() };
    assert!(slice.meta.annotations.is_empty());
}

#[test]
fn mirrored_slices_go_when_mirroring_ends() {
    // C16.
    let server = || {
        let objects = [without_selector().object(), hand_made(&["192.0.2.1"]).object()];
        let mut server = Server::new(cluster(objects));
        mirror(&mut server);
        server
    };
    let ends: [fn(&mut Server); 4] = [
        |server| server.cluster.endpoints.clear(),
        |server| server.cluster.services.clear(),
        |server| drop(server.cluster.services.insert(web(), Arc::new(service()))),
        |server| {
            let mut object = hand_made(&["192.0.2.1"]);
            let skip = "endpointslice.kubernetes.io/skip-mirror".to_owned();
            object.meta.labels.insert(skip, "true".to_owned());
            server.cluster.endpoints.insert(name(), Arc::new(object));
        },
    ];
    for end in ends {
        let mut server = server();
        end(&mut server);
        assert!(matches!(&mirror(&mut server)[..], [Write::DeleteSlice(..)]));
    }
}

#[test]
fn addresses_beyond_a_thousand_are_reported_once() {
    // C17.
    let addresses: Vec<String> =
        (0..1005).map(|number| format!("10.1.{}.{}", number / 200, number % 200)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let objects = [without_selector().object(), hand_made(&addresses).object(), node("n").object()];
    let mut server = Server::new(cluster(objects));
    let writes = mirror(&mut server);
    let [Write::CreateSlice(slice), Write::Event(event)] = &writes[..] else {
        panic!("{writes:?}")
    };
    assert_eq!(slice.endpoints.len(), 1000);
    assert_eq!(event.reason, "TooManyAddressesToMirror");
}
