use std::sync::Arc;

use model::{
    AddressType, Change, ClusterIps, Conditions, FamilyPolicy, Hints, Labels, Meta, Object,
    ServicePort, SlicePort, TargetPort, TrafficPolicy,
};

use super::*;

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port: Port::new(number).unwrap(),
        target: TargetPort::Number(Port::new(8080).unwrap()),
        node_port: None,
        app_protocol: None,
    }
}

fn service(name: &str, kind: ServiceType, cluster_ips: ClusterIps) -> Object {
    Object::Service(Arc::new(Service {
        meta: Meta::new("default", name),
        kind,
        cluster_ips,
        families: vec![Family::V4, Family::V6],
        family_policy: FamilyPolicy::PreferDualStack,
        ports: vec![port("http", 80)],
        selector: Labels::new(),
        external_ips: Vec::new(),
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        session_affinity: None,
        health_check_node_port: None,
        publish_not_ready_addresses: false,
        traffic_distribution: None,
        reset_connections: false,
    }))
}

fn endpoint(address: &str, ready: bool, hostname: Option<&str>) -> Endpoint {
    Endpoint {
        addresses: vec![address.parse().unwrap()],
        conditions: Conditions { ready, serving: ready, terminating: false },
        node: None,
        zone: None,
        hostname: hostname.map(Into::into),
        target: None,
        hints: Hints::default(),
    }
}

fn zone() -> Zone {
    let mut cluster = Cluster::default();
    let assigned = ["10.96.0.7", "fd00:10:96::7"].map(|ip| ip.parse().unwrap()).to_vec();
    let mut add = |object| cluster.apply(Change::Apply(object));
    add(service("web", ServiceType::ClusterIp, ClusterIps::Assigned(assigned)));
    add(service("db", ServiceType::ClusterIp, ClusterIps::Headless));
    let alias = |target: &str| ServiceType::ExternalName(target.to_owned());
    add(service("out", alias("example.com"), ClusterIps::Unassigned));
    add(service("alias", alias("web.default.svc.cluster.local"), ClusterIps::Unassigned));
    add(Object::EndpointSlice(Arc::new(EndpointSlice {
        meta: Meta::new("default", "db-1"),
        service: Some(ServiceName::new("default", "db")),
        address_type: AddressType::Ip(Family::V4),
        ports: vec![SlicePort {
            name: Some("http".into()),
            protocol: Protocol::Tcp,
            port: Port::new(8080),
            app_protocol: None,
        }],
        endpoints: vec![
            endpoint("10.244.0.2", true, Some("db-0")),
            endpoint("10.244.1.2", true, None),
            endpoint("10.244.1.3", false, None),
        ],
    })));
    Zone::new("cluster.local.", &cluster)
}

fn texts(answer: &Answer) -> Vec<String> {
    answer
        .records
        .iter()
        .map(|record| match &record.data {
            Data::Address(address) => address.to_string(),
            Data::Alias(target) => format!("CNAME {target}"),
            Data::Service { port, target } => format!("SRV {port} {target}"),
            Data::Pointer(target) => format!("PTR {target}"),
            Data::Text(text) => format!("TXT {text}"),
        })
        .collect()
}

fn ask(name: &str, kind: RecordType) -> Vec<String> {
    let answer = zone().answer(name, kind);
    assert_eq!(answer.code, Code::Exists, "{name}");
    texts(&answer)
}

#[test]
fn a_service_has_its_cluster_ips() {
    assert_eq!(ask("web.default.svc.cluster.local.", RecordType::A), ["10.96.0.7"]);
    assert_eq!(ask("WEB.default.svc.Cluster.Local", RecordType::Aaaa), ["fd00:10:96::7"]);
}

#[test]
fn an_existing_name_without_data_is_not_nxdomain() {
    assert!(ask("web.default.svc.cluster.local", RecordType::Txt).is_empty());
    assert!(ask("default.svc.cluster.local", RecordType::A).is_empty());
    assert!(ask("_tcp.web.default.svc.cluster.local", RecordType::Srv).is_empty());
}

#[test]
fn a_missing_name_is_nxdomain_and_a_foreign_one_is_not_ours() {
    let code = |name| zone().answer(name, RecordType::A).code;
    assert_eq!(code("nope.default.svc.cluster.local"), Code::NoSuchName);
    assert_eq!(code("web.default.svc.cluster.local.default.svc.cluster.local"), Code::NoSuchName);
    assert_eq!(code("example.com"), Code::NotOurs);
    assert_eq!(code("xcluster.local"), Code::NotOurs);
}

#[test]
fn a_headless_service_has_its_ready_endpoints() {
    let addresses = ask("db.default.svc.cluster.local", RecordType::A);
    assert_eq!(addresses, ["10.244.0.2", "10.244.1.2"]);
    assert_eq!(ask("db-0.db.default.svc.cluster.local", RecordType::A), ["10.244.0.2"]);
    assert_eq!(ask("10-244-1-2.db.default.svc.cluster.local", RecordType::A), ["10.244.1.2"]);
}

#[test]
fn srv_names_the_service_or_each_endpoint_with_addresses_alongside() {
    let answer = zone().answer("_http._tcp.web.default.svc.cluster.local", RecordType::Srv);
    assert_eq!(texts(&answer), ["SRV 80 web.default.svc.cluster.local"]);
    assert_eq!(answer.additional.len(), 2);
    assert_eq!(
        ask("_http._tcp.db.default.svc.cluster.local", RecordType::Srv),
        [
            "SRV 8080 10-244-1-2.db.default.svc.cluster.local",
            "SRV 8080 db-0.db.default.svc.cluster.local"
        ]
    );
}

#[test]
fn external_name_is_an_alias_followed_inside_the_cluster() {
    assert_eq!(ask("out.default.svc.cluster.local", RecordType::A), ["CNAME example.com"]);
    assert_eq!(
        ask("alias.default.svc.cluster.local", RecordType::A),
        ["CNAME web.default.svc.cluster.local", "10.96.0.7"]
    );
}

#[test]
fn reverse_names_exist_in_both_families() {
    assert_eq!(
        ask("7.0.96.10.in-addr.arpa", RecordType::Ptr),
        ["PTR web.default.svc.cluster.local"]
    );
    let nibbles = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f";
    assert_eq!(
        ask(&format!("{nibbles}.ip6.arpa"), RecordType::Ptr),
        ["PTR web.default.svc.cluster.local"]
    );
    assert_eq!(
        ask("2.0.244.10.in-addr.arpa", RecordType::Ptr),
        ["PTR db-0.db.default.svc.cluster.local"]
    );
}

#[test]
fn pod_addresses_have_names() {
    assert_eq!(ask("10-244-0-9.default.pod.cluster.local", RecordType::A), ["10.244.0.9"]);
}

#[test]
fn the_schema_version_is_told() {
    assert_eq!(ask("dns-version.cluster.local", RecordType::Txt), ["TXT 1.1.0"]);
}
