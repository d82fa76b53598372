//! Who answers for load balancer addresses.

use std::collections::BTreeSet;

use model::{
    Adverts, Cluster, FamilyPolicy, Ingress, IpMode, LoadBalancer, NodeName, Object, Reason,
    Service, ServiceType, TrafficPolicy,
};
use proptest::prelude::*;

use crate::fixtures::{IntoObject as _, cluster, draining, endpoint, node, service, slice};

fn balanced(addresses: &[String]) -> Service {
    let ingress = addresses
        .iter()
        .map(|address| Ingress::Ip(address.parse().unwrap(), IpMode::Vip))
        .collect();
    let kind = ServiceType::LoadBalancer(LoadBalancer { ingress, ..LoadBalancer::default() });
    Service { kind, family_policy: FamilyPolicy::SingleStack, ..service() }
}

fn one() -> Service {
    balanced(&["172.30.0.192".to_owned()])
}

fn nodes(count: usize) -> (Vec<Object>, BTreeSet<NodeName>) {
    let names: Vec<String> = (1..=count).map(|number| format!("node{number}")).collect();
    let objects = names.iter().map(|name| node(name).object()).collect();
    (objects, names.into_iter().map(NodeName::from).collect())
}

fn owner(adverts: &Adverts) -> Result<&str, &Reason> {
    let advert = adverts.values().next().unwrap();
    advert.owner.as_ref().map(|node| &**node)
}

fn with(service: Service, extra: impl IntoIterator<Item = Object>, count: usize) -> Cluster {
    let objects = nodes(count).0;
    cluster(objects.into_iter().chain([service.object()]).chain(extra))
}

#[test]
fn policy_local_is_announced_from_nodes_with_endpoints_only() {
    // C25.
    let local = Service { external_traffic_policy: TrafficPolicy::Local, ..one() };
    let alive = nodes(4).1;
    let slice = |endpoints| slice("s", endpoints).object();
    let ready = vec![endpoint("10.244.3.5", "node3"), draining("10.244.2.5", "node2")];
    assert_eq!(owner(&plan::adverts(&with(local.clone(), [slice(ready)], 4), &alive)), Ok("node3"));
    let last = vec![draining("10.244.2.5", "node2")];
    assert_eq!(owner(&plan::adverts(&with(local.clone(), [slice(last)], 4), &alive)), Ok("node2"));
    let adverts = plan::adverts(&with(local, [], 4), &alive);
    assert_eq!(owner(&adverts), Err(&Reason::NoLocalEndpoints));
}

#[test]
fn excluded_and_dead_nodes_do_not_announce() {
    // C26.
    let mut excluded = node("node1");
    let label = "node.kubernetes.io/exclude-from-external-load-balancers".to_owned();
    excluded.meta.labels.insert(label, String::new());
    let cluster = cluster([excluded.object(), node("node2").object(), one().object()]);
    let both = nodes(2).1;
    assert_eq!(owner(&plan::adverts(&cluster, &both)), Ok("node2"));
    let first = [NodeName::from("node1")].into();
    assert!(owner(&plan::adverts(&cluster, &first)).is_err());
}

#[test]
fn a_node_that_is_not_ready_but_alive_still_announces() {
    let mut late = node("node1");
    late.ready = model::NodeCondition::NotReady;
    let cluster = cluster([late.object(), one().object()]);
    assert_eq!(owner(&plan::adverts(&cluster, &nodes(1).1)), Ok("node1"));
}

#[test]
fn other_classes_are_not_announced() {
    let mut other = one();
    let ServiceType::LoadBalancer(load_balancer) = &mut other.kind else { unreachable!() };
    load_balancer.class = Some("example.org/other".to_owned());
    assert!(plan::adverts(&with(other, [], 1), &nodes(1).1).is_empty());
}

#[test]
fn addresses_are_spread_over_the_nodes() {
    let addresses: Vec<String> = (0..200).map(|last| format!("172.30.1.{last}")).collect();
    let adverts = plan::adverts(&with(balanced(&addresses), [], 4), &nodes(4).1);
    for node in nodes(4).1 {
        let count = adverts.values().filter(|one| one.owner.as_ref() == Ok(&node)).count();
        assert!((25..=75).contains(&count), "{node} has {count} of 200");
    }
}

proptest! {
    /// Rendezvous hashing: losing a node moves its addresses and no others.
    #[test]
    fn losing_a_node_moves_only_its_addresses(
        addresses in prop::collection::btree_set(any::<u8>(), 1..40),
        count in 2usize..8,
        lost in any::<prop::sample::Index>(),
    ) {
        // C25.
        let addresses: Vec<String> =
            addresses.iter().map(|last| format!("172.30.1.{last}")).collect();
        let cluster = with(balanced(&addresses), [], count);
        let mut alive = nodes(count).1;
        let before = plan::adverts(&cluster, &alive);
        let lost = lost.get(&alive.iter().cloned().collect::<Vec<_>>()).clone();
        alive.remove(&lost);
        let after = plan::adverts(&cluster, &alive);
        for (address, advert) in &before {
            if advert.owner.as_ref() == Ok(&lost) {
                prop_assert_ne!(&after[address].owner, &Ok(lost.clone()));
            } else {
                prop_assert_eq!(&after[address].owner, &advert.owner);
            }
        }
    }
}
