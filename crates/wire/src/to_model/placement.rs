//! What a pod demands of the place where it runs.

use std::collections::BTreeSet;

use model::{
    HostPort, LabelRequirement, LabelSelector, NodeRequirement, NodeTerm, Placement, PodTerm,
    Resources, SpreadConstraint,
};
use serde_json::Value;

use super::parse;
use crate::rules::fields::Fields;
use crate::rules::quantity;
use crate::rules::workload::{labels, selector};

/// The placement of a defaulted Pod.
pub(super) fn placement(pod: &Value) -> Placement {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |kind: &str| {
        let terms = pod.list(&format!("/spec/affinity/{kind}/{required}")).iter();
        terms.map(|term| pod_term(pod, term)).collect()
    };
    let node_terms = pod.at(&format!("/spec/affinity/nodeAffinity/{required}"));
    let forbids = |constraint: &&Value| constraint.text("/whenUnsatisfiable") == "DoNotSchedule";
    let spread = pod.list("/spec/topologySpreadConstraints").iter().filter(forbids);
    Placement {
        node_selector: labels(pod.at("/spec/nodeSelector")),
        node_affinity: present(node_terms)
            .map(|terms| terms.list("/nodeSelectorTerms").iter().map(node_term).collect()),
        affinity: terms("podAffinity"),
        anti_affinity: terms("podAntiAffinity"),
        spread: spread.map(|constraint| spread_constraint(pod, constraint)).collect(),
        requests: requests(pod),
        host_ports: host_ports(pod),
    }
}

/// Amounts as in `resources.requests` or `status.allocatable`. One that cannot be read counts as
/// not stated.
pub(super) fn resources(value: &Value) -> Resources {
    let amount = |value: &Value| {
        let thousandths = match value {
            Value::String(text) => quantity::millis(text),
            Value::Number(number) => quantity::millis(&number.to_string()),
            _ => None,
        };
        u64::try_from(thousandths?).ok()
    };
    let all = value.as_object().into_iter().flatten();
    all.filter_map(|(name, value)| Some((name.as_str().into(), amount(value)?))).collect()
}

/// Containers run together; init containers run before, one at a time, beside the sidecars that
/// started earlier (KEP-753).
fn requests(pod: &Value) -> Resources {
    let of = |container: &Value| resources(container.at("/resources/requests"));
    let (mut sidecars, mut most) = (Resources::new(), Resources::new());
    for container in pod.list("/spec/initContainers") {
        if container.text("/restartPolicy") == "Always" {
            add(&mut sidecars, &of(container));
            larger(&mut most, &sidecars);
        } else {
            let mut together = sidecars.clone();
            add(&mut together, &of(container));
            larger(&mut most, &together);
        }
    }
    let mut running = sidecars;
    for container in pod.list("/spec/containers") {
        add(&mut running, &of(container));
    }
    larger(&mut most, &running);
    // Requests of the pod as a whole replace the sum (KEP-2837).
    for (name, amount) in resources(pod.at("/spec/resources/requests")) {
        most.insert(name, amount);
    }
    add(&mut most, &resources(pod.at("/spec/overhead")));
    most
}

fn add(to: &mut Resources, more: &Resources) {
    for (name, amount) in more {
        let sum = to.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*amount);
    }
}

fn larger(most: &mut Resources, other: &Resources) {
    for (name, amount) in other {
        let most = most.entry(name.clone()).or_default();
        *most = (*most).max(*amount);
    }
}

fn host_ports(pod: &Value) -> BTreeSet<HostPort> {
    let sidecars = pod
        .list("/spec/initContainers")
        .iter()
        .filter(|container| container.text("/restartPolicy") == "Always");
    let containers = pod.list("/spec/containers").iter().chain(sidecars);
    let port = |value: &Value| {
        Some(HostPort {
            address: parse::address(value.text("/hostIP"))
                .filter(|address| !address.is_unspecified()),
            protocol: parse::protocol(value.text("/protocol"))?,
            port: parse::port(value.at("/hostPort"))?,
        })
    };
    containers.flat_map(|container| container.list("/ports")).filter_map(port).collect()
}

/// A term with an operator or value that is not known never matches, as in upstream's scheduler.
fn node_term(term: &Value) -> NodeTerm {
    let requirements = |list: &str| term.list(list).iter().map(requirement).collect::<Option<_>>();
    match (requirements("/matchExpressions"), requirements("/matchFields")) {
        (Some(labels), Some(fields)) => NodeTerm { labels, fields },
        _ => NodeTerm::default(),
    }
}

fn requirement(value: &Value) -> Option<NodeRequirement> {
    let key = value.text("/key").to_owned();
    let values = value.texts("/values");
    let set = || values.iter().map(|value| (*value).to_owned()).collect();
    let bound = || values.first()?.parse().ok();
    Some(match value.text("/operator") {
        "In" => NodeRequirement::In(key, set()),
        "NotIn" => NodeRequirement::NotIn(key, set()),
        "Exists" => NodeRequirement::Exists(key),
        "DoesNotExist" => NodeRequirement::DoesNotExist(key),
        "Gt" => NodeRequirement::Gt(key, bound()?),
        "Lt" => NodeRequirement::Lt(key, bound()?),
        _ => return None,
    })
}

fn pod_term(pod: &Value, term: &Value) -> PodTerm {
    PodTerm {
        selector: pod_selector(pod, term),
        namespaces: term.texts("/namespaces").into_iter().map(Into::into).collect(),
        namespace_selector: present(term.at("/namespaceSelector")).and_then(selector),
        topology_key: term.text("/topologyKey").to_owned(),
    }
}

fn spread_constraint(pod: &Value, value: &Value) -> SpreadConstraint {
    let number = |field: &str| u32::try_from(value.int(field)).unwrap_or_default().max(1);
    SpreadConstraint {
        max_skew: number("/maxSkew"),
        min_domains: number("/minDomains"),
        topology_key: value.text("/topologyKey").to_owned(),
        selector: pod_selector(pod, value),
    }
}

/// `labelSelector`, narrowed to the pod's own values of `matchLabelKeys` and to other values of
/// `mismatchLabelKeys`.
fn pod_selector(pod: &Value, term: &Value) -> Option<LabelSelector> {
    let mut selector = selector(present(term.at("/labelSelector"))?)?;
    let own = labels(pod.at("/metadata/labels"));
    for (list, requirement) in [
        ("/matchLabelKeys", LabelRequirement::In as fn(_, _) -> _),
        ("/mismatchLabelKeys", LabelRequirement::NotIn),
    ] {
        for key in term.texts(list) {
            if let Some(value) = own.get(key) {
                let values = BTreeSet::from([value.clone()]);
                selector.requirements.push(requirement(key.to_owned(), values));
            }
        }
    }
    Some(selector)
}

fn present(value: &Value) -> Option<&Value> {
    (!value.is_null()).then_some(value)
}
