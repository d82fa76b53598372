//! The pods behind a Service (semantics 3.1 and 3.2), for slices and for Endpoints.

use model::{
    Cluster, Labels, Name, Pod, PodName, Port, Service, ServicePort, SlicePort, TargetPort,
    TargetRef,
};

/// Label of slices and Endpoints of Services without a cluster IP.
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Pods of a Namespace that have all the labels, ordered by name.
pub(crate) fn selected<'a>(
    cluster: &'a Cluster,
    namespace: &'a Name,
    selector: &'a Labels,
) -> impl Iterator<Item = &'a Pod> {
    in_namespace(cluster, namespace).filter(move |pod| matches(selector, &pod.meta.labels))
}

/// Pods of a Namespace, ordered by name.
pub(crate) fn in_namespace<'a>(
    cluster: &'a Cluster,
    namespace: &'a Name,
) -> impl Iterator<Item = &'a Pod> {
    let first = PodName::new(namespace.clone(), "");
    let pods =
        cluster.pods.range(first..).take_while(move |(name, _)| name.namespace == *namespace);
    pods.map(|(_, pod)| &**pod)
}

/// Whether a Service's selector matches; the empty selector matches nothing.
pub(crate) fn matches(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether a pod can be an endpoint: it has an address and has not ended for good (C2).
pub(crate) fn has_address(pod: &Pod) -> bool {
    !pod.ips.is_empty() && !pod.phase.is_finished()
}

/// The port of this pod that a Service port leads to; a name needs the same protocol, too.
pub(crate) fn port_of(pod: &Pod, port: &ServicePort) -> Option<Port> {
    match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => pod
            .ports
            .iter()
            .find(|known| known.name == *name && known.protocol == port.protocol)
            .map(|known| known.port),
    }
}

/// The ports of this pod that a Service leads to; those that the pod does not have are left out.
pub(crate) fn ports_of(pod: &Pod, service: &Service) -> Vec<SlicePort> {
    let resolve = |port: &ServicePort| {
        Some(SlicePort {
            name: Some(port.name.clone()),
            protocol: port.protocol,
            port: Some(port_of(pod, port)?),
            app_protocol: port.app_protocol.clone(),
        })
    };
    service.ports.iter().filter_map(resolve).collect()
}

/// The pod's DNS host name, when its subdomain is this Service.
pub(crate) fn hostname_of(pod: &Pod, service: &Service) -> Option<Name> {
    pod.hostname.clone().filter(|_| pod.subdomain.as_ref() == Some(&service.meta.name))
}

/// The reference to a pod.
pub(crate) fn target_of(pod: &Pod) -> TargetRef {
    TargetRef {
        kind: "Pod".into(),
        namespace: pod.meta.namespace.clone(),
        name: pod.meta.name.clone(),
        uid: pod.meta.uid.clone(),
    }
}

/// Whether the Service has a cluster IP; without one its slices and Endpoints feed DNS only.
pub(crate) fn has_cluster_ip(service: &Service) -> bool {
    !service.cluster_ips.addresses().is_empty()
}
