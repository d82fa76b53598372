//! Leader election and node leases.

use std::time::{Duration, Instant};

use cluster::lease::Seat;

use crate::support::Api;

fn seat(identity: &str) -> Seat {
    Seat {
        namespace: "kube-system".to_owned(),
        name: "portolan-controller".to_owned(),
        identity: identity.to_owned(),
        duration: Duration::from_secs(15),
    }
}

#[tokio::test]
async fn a_free_seat_is_taken_at_once_and_a_released_one_too() {
    let api = Api::start().await;
    let started = Instant::now();
    let held = seat("a").acquire(&api.client).await;
    let other = tokio::time::timeout(Duration::from_millis(300), seat("b").acquire(&api.client));
    assert!(other.await.is_err(), "the seat is taken");
    held.release(&api.client).await.expect("is released");
    let _held = seat("b").acquire(&api.client).await;
    assert!(started.elapsed() < Duration::from_secs(2), "nobody had to wait for an expiry");
}

#[tokio::test]
async fn a_process_that_comes_back_with_its_identity_need_not_wait() {
    let api = Api::start().await;
    drop(seat("a").acquire(&api.client).await);
    let again = tokio::time::timeout(Duration::from_secs(1), seat("a").acquire(&api.client));
    assert!(again.await.is_ok());
}

#[tokio::test]
async fn a_node_lease_is_created_and_renewed() {
    let api = Api::start().await;
    api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
    let node = "node1".into();
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node1";
    let mut times = Vec::new();
    for _ in 0..2 {
        let renewed = api.client.renew_node_lease(&node, "uid", Duration::from_secs(40)).await;
        renewed.unwrap_or_else(|error| panic!("{error:?}"));
        let lease = api.client.get(path).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(lease["spec"]["holderIdentity"], "node1");
        times.push(lease["spec"]["renewTime"].as_str().unwrap_or_default().to_owned());
    }
    assert!(times[0] < times[1], "{times:?}");
}
