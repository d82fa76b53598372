//! Objects without what no node's dataplane looks at: a node holds the Services of the whole cluster.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Change, ClusterIps, EndpointSlice, Labels, Meta, Name, Object, Service};

/// Labels and annotations that decide something begin so, but for those of Nodes.
const DECIDING: [&str; 2] = ["service.kubernetes.io/", "portolan.dev/"];

/// Shared names that are remembered at most: nodes and Services come and go. Lists of Services and of
/// slices come in the same order, so that names which belong together meet.
const NAMES: usize = 1 << 14;

/// Makes objects lean.
///
/// It holds one copy of each name that several objects share: of Namespaces, nodes, ports, Services.
#[derive(Debug, Default)]
pub(crate) struct Lean {
    names: BTreeSet<Name>,
}

impl Lean {
    /// The same change, as far as a node's dataplane is concerned.
    pub(crate) fn change(&mut self, change: Change) -> Change {
        match change {
            Change::Apply(Object::Service(mut service)) => {
                self.service(Arc::make_mut(&mut service));
                Change::Apply(Object::Service(service))
            }
            Change::Apply(Object::EndpointSlice(mut slice)) => {
                self.slice(Arc::make_mut(&mut slice));
                Change::Apply(Object::EndpointSlice(slice))
            }
            change => change,
        }
    }

    fn service(&mut self, service: &mut Service) {
        self.meta(&mut service.meta);
        self.share(&mut service.meta.name);
        service.selector.clear();
        for port in &mut service.ports {
            self.share(&mut port.name);
            port.app_protocol = None;
        }
        service.ports.shrink_to_fit();
        service.families = Vec::new();
        if let ClusterIps::Assigned(addresses) = &mut service.cluster_ips {
            addresses.shrink_to_fit();
        }
    }

    fn slice(&mut self, slice: &mut EndpointSlice) {
        self.meta(&mut slice.meta);
        if let Some(service) = &mut slice.service {
            self.share(&mut service.namespace);
            self.share(&mut service.name);
        }
        for port in &mut slice.ports {
            self.share_some(&mut port.name);
            port.app_protocol = None;
        }
        slice.ports.shrink_to_fit();
        for endpoint in &mut slice.endpoints {
            endpoint.target = None;
            endpoint.hostname = None;
            self.share_some(&mut endpoint.node);
            // Hints name the zones that count (D20).
            endpoint.zone = None;
            // The dataplane uses the first (semantics D5).
            endpoint.addresses.truncate(1);
            endpoint.addresses.shrink_to_fit();
        }
        slice.endpoints.shrink_to_fit();
    }

    fn meta(&mut self, meta: &mut Meta) {
        self.share(&mut meta.namespace);
        keep_deciding(&mut meta.labels);
        keep_deciding(&mut meta.annotations);
        meta.generate_name = Name::default();
        meta.uid = Name::default();
        meta.resource_version = Name::default();
        meta.owners = Vec::new();
        meta.finalizers = BTreeSet::new();
    }

    fn share(&mut self, name: &mut Name) {
        if let Some(known) = self.names.get(name) {
            *name = known.clone();
            return;
        }
        if self.names.len() >= NAMES {
            self.names.clear();
        }
        self.names.insert(name.clone());
    }

    fn share_some(&mut self, name: &mut Option<Name>) {
        if let Some(name) = name {
            self.share(name);
        }
    }
}

fn keep_deciding(labels: &mut Labels) {
    labels.retain(|key, _| DECIDING.iter().any(|prefix| key.starts_with(prefix)));
    if labels.is_empty() {
        // An emptied map keeps its last node.
        *labels = Labels::new();
    }
}

#[cfg(test)]
mod tests {
    use model::{
        AddressType, Conditions, Endpoint, Family, Hints, Protocol, ServiceName, SlicePort,
    };

    use super::*;

    fn endpoint(node: &str) -> Endpoint {
        Endpoint {
            addresses: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            conditions: Conditions { ready: true, serving: true, terminating: false },
            node: Some(node.into()),
            zone: None,
            hostname: Some("web-0".into()),
            target: None,
            hints: Hints::default(),
        }
    }

    fn slice(name: &str) -> EndpointSlice {
        let mut meta = Meta::new("default", name);
        meta.labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
        meta.labels.insert("kubernetes.io/service-name".to_owned(), "web".to_owned());
        meta.annotations.insert("example.com/note".to_owned(), "long".to_owned());
        let name = Some("http".into());
        let port = SlicePort { name, protocol: Protocol::Tcp, port: None, app_protocol: None };
        EndpointSlice {
            meta,
            service: Some(ServiceName::new("default", "web")),
            address_type: AddressType::Ip(Family::V4),
            ports: vec![port],
            endpoints: vec![endpoint("node1"), endpoint("node1")],
        }
    }

    #[test]
    fn what_decides_stays_and_names_are_shared() {
        let mut lean = Lean::default();
        let mut same = |name: &str| {
            let change = Change::Apply(Object::EndpointSlice(Arc::new(slice(name))));
            match lean.change(change) {
                Change::Apply(Object::EndpointSlice(slice)) => slice,
                other => panic!("became {other:?}"),
            }
        };
        let (one, other) = (same("a"), same("b"));
        assert_eq!(one.service, Some(ServiceName::new("default", "web")));
        assert_eq!(one.meta.labels.keys().collect::<Vec<_>>(), ["service.kubernetes.io/headless"]);
        assert!(one.meta.annotations.is_empty());
        assert_eq!(one.endpoints[0].addresses.len(), 1);
        let node = |slice: &EndpointSlice| slice.endpoints[1].node.clone().unwrap();
        assert!(std::ptr::eq(node(&one).as_str(), node(&other).as_str()));
    }
}
