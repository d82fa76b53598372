//! Ranges of pod addresses for nodes.

use model::{Cluster, IpNet, Node, Object, ServiceCidr, Write};
use plan::{BadClusterCidrs, ClusterCidrs, node_cidrs};

use crate::fixtures::{IntoObject as _, cluster, meta, node};

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ranges(cidrs: &[&str], mask_v4: u8, mask_v6: u8) -> ClusterCidrs {
    ClusterCidrs::new(&nets(cidrs), mask_v4, mask_v6).unwrap()
}

fn with(name: &str, cidrs: &[&str]) -> Object {
    Node { pod_cidrs: nets(cidrs), ..node(name) }.object()
}

/// What each node gets, or the event.
fn given(cluster: &Cluster, ranges: &ClusterCidrs) -> Vec<String> {
    let text = |write: Write| match write {
        Write::NodePodCidrs { meta, cidrs } => {
            let cidrs: Vec<_> = cidrs.iter().map(ToString::to_string).collect();
            format!("{} {}", meta.name, cidrs.join(" "))
        }
        Write::Event(event) => event.message,
        other => format!("{other:?}"),
    };
    node_cidrs(cluster, ranges).writes.into_iter().map(text).collect()
}

#[test]
fn nodes_get_the_first_free_parts_of_both_families() {
    let ranges = ranges(&["10.244.0.0/16", "fd00:10:244::/48"], 24, 64);
    let cluster = cluster([
        with("a", &[]),
        with("b", &["10.244.0.0/24", "fd00:10:244:1::/64"]),
        with("c", &[]),
        // Larger than a part, and elsewhere.
        with("d", &["10.244.2.0/23", "fd00:99::/64"]),
        with("e", &[]),
    ]);
    assert_eq!(
        given(&cluster, &ranges),
        [
            "a 10.244.1.0/24 fd00:10:244::/64",
            "c 10.244.4.0/24 fd00:10:244:2::/64",
            "e 10.244.5.0/24 fd00:10:244:3::/64",
        ]
    );
}

#[test]
fn addresses_of_services_are_not_given_to_nodes() {
    let services =
        ServiceCidr { meta: meta("kubernetes"), cidrs: nets(&["10.0.0.0/17"]), ready: true };
    let cluster = cluster([services.object(), with("a", &[])]);
    assert_eq!(given(&cluster, &ranges(&["10.0.0.0/16"], 18, 64)), ["a 10.0.128.0/18"]);
}

#[test]
fn a_range_that_is_used_up_is_told() {
    let cluster = cluster([with("a", &["fd00::/64"]), with("b", &[]), with("c", &[])]);
    let told = "Node c status is now: CIDRNotAvailable";
    assert_eq!(given(&cluster, &ranges(&["fd00::/63"], 24, 64)), ["b fd00:0:0:1::/64", told]);
}

#[test]
fn nodes_that_have_a_range_keep_it() {
    let cluster = cluster([with("a", &["192.168.0.0/24"])]);
    assert_eq!(given(&cluster, &ranges(&["10.244.0.0/16"], 24, 64)), [""; 0]);
}

#[test]
fn ranges_that_cannot_be_shared_out_are_refused() {
    let refused = |cidrs: &[&str], mask_v4, mask_v6| {
        ClusterCidrs::new(&nets(cidrs), mask_v4, mask_v6).unwrap_err()
    };
    assert_eq!(refused(&[], 24, 64), BadClusterCidrs::Count(0));
    assert_eq!(refused(&["10.0.0.0/16", "10.1.0.0/16"], 24, 64), BadClusterCidrs::OneFamily);
    for (cidr, mask_v4, mask_v6, told) in [
        ("10.0.0.0/16", 8, 64, "/16 to /32"),
        ("10.0.0.0/16", 33, 64, "/16 to /32"),
        ("fd00::/40", 24, 64, "/40 to /56"),
    ] {
        let text = refused(&[cidr], mask_v4, mask_v6).to_string();
        assert!(text.contains(told), "{text}");
    }
}
