//! Deployments and ReplicaSets, with a server and a kubelet around them.

use std::sync::Arc;

use model::{
    Condition, ConditionStatus, Deployment, DeploymentName, DeploymentStatus, IntOrPercent,
    LabelSelector, Pod, PodName, PodPhase, ReplicaSet, ReplicaSetName, RolloutStrategy, Write,
};
use plan::Expectations;
use proptest::prelude::*;

use crate::fixtures::{IntoObject as _, cluster, labels, meta, pod, seconds};
use crate::server::{Server, template};

fn name() -> DeploymentName {
    DeploymentName::new("default", "web")
}

fn deployment(replicas: u32) -> Deployment {
    let mut meta = meta("web");
    meta.generation = 1;
    let labels = labels(&[("app", "web")]);
    Deployment {
        meta,
        replicas,
        selector: LabelSelector { labels: labels.clone(), requirements: Vec::new() },
        template: template(&labels, 1),
        strategy: RolloutStrategy::RollingUpdate {
            max_unavailable: IntOrPercent::Percent(25),
            max_surge: IntOrPercent::Percent(25),
        },
        min_ready_seconds: 0,
        revision_history_limit: 10,
        progress_deadline_seconds: 600,
        paused: false,
        status: DeploymentStatus::default(),
    }
}

fn server(deployment: Deployment) -> Server {
    Server::new(cluster([deployment.object()]))
}

/// Runs both controllers once; gives back what they wrote.
fn reconcile(server: &mut Server) -> Vec<Write> {
    let mut writes = plan::deployment(&server.cluster, &name(), server.now).writes;
    server.carry_out(&writes);
    writes.extend(reconcile_sets(server));
    writes
}

fn reconcile_sets(server: &mut Server) -> Vec<Write> {
    let mut writes = Vec::new();
    let sets: Vec<ReplicaSetName> = server.cluster.replica_sets.keys().cloned().collect();
    for set in sets {
        let more =
            plan::replica_set(&server.cluster, &set, Expectations::default(), server.now).writes;
        server.carry_out(&more);
        writes.extend(more);
    }
    writes
}

fn kubelet(server: &mut Server) {
    let pods: Vec<PodName> = server.cluster.pods.keys().cloned().collect();
    pods.iter().for_each(|pod| server.kubelet(pod));
}

/// Controllers and kubelet work until nothing is left to do.
fn settle(server: &mut Server) {
    for _ in 0..200 {
        server.wait(1);
        let is_quiet = reconcile(server).is_empty();
        kubelet(server);
        if is_quiet && reconcile(server).is_empty() {
            return;
        }
    }
    panic!("does not come to rest: {:?}", reconcile(server));
}

fn change(server: &mut Server, change: impl FnOnce(&mut Deployment)) {
    server.deployment(&name(), |deployment| {
        deployment.meta.generation += 1;
        change(deployment);
    });
}

fn release(server: &mut Server, version: u32) {
    change(server, |one| one.template = template(&labels(&[("app", "web")]), version));
}

fn sets(server: &Server) -> Vec<&ReplicaSet> {
    let mut sets: Vec<&ReplicaSet> =
        server.cluster.replica_sets.values().map(|set| &**set).collect();
    sets.sort_by_key(|set| set.meta.created);
    sets
}

fn status(server: &Server) -> &DeploymentStatus {
    &server.cluster.deployments[&name()].status
}

fn reason(condition: Option<&Condition>) -> (ConditionStatus, &str) {
    let condition = condition.unwrap();
    (condition.status, &condition.reason)
}

fn messages(writes: &[Write]) -> Vec<&str> {
    let events = writes.iter().filter_map(|write| match write {
        Write::Event(event) => Some(event.message.as_str()),
        _ => None,
    });
    events.collect()
}

#[test]
fn a_new_deployment_makes_a_hashed_replica_set_and_its_pods() {
    let mut server = server(deployment(3));
    let writes = reconcile(&mut server);
    let set = sets(&server)[0].clone();
    let hash = set.meta.labels["pod-template-hash"].clone();
    assert_eq!(*set.meta.name, *format!("web-{hash}"));
    assert_eq!(set.selector.labels, set.template.labels);
    assert_eq!(set.template.labels["pod-template-hash"], hash);
    assert!(set.template.body.contains(&hash));
    assert_eq!(set.meta.annotations["deployment.kubernetes.io/revision"], "1");
    assert_eq!(set.meta.annotations["deployment.kubernetes.io/desired-replicas"], "3");
    assert_eq!(set.meta.annotations["deployment.kubernetes.io/max-replicas"], "4");
    assert_eq!(messages(&writes), [format!("Scaled up replica set web-{hash} from 0 to 3")]);
    let progressing = status(&server).progressing_condition.as_ref();
    assert_eq!(reason(progressing), (ConditionStatus::True, "NewReplicaSetCreated"));

    settle(&mut server);
    assert_eq!(server.pods(None).len(), 3);
    let status = status(&server);
    assert_eq!((status.replicas, status.updated, status.ready, status.available), (3, 3, 3, 3));
    let available = status.available_condition.as_ref();
    assert_eq!(reason(available), (ConditionStatus::True, "MinimumReplicasAvailable"));
    let progressing = status.progressing_condition.as_ref();
    assert_eq!(reason(progressing), (ConditionStatus::True, "NewReplicaSetAvailable"));
    let text = format!("ReplicaSet \"web-{hash}\" has successfully progressed.");
    assert_eq!(progressing.unwrap().message, text);
}

#[test]
fn a_new_template_rolls_and_an_old_one_rolls_back_with_a_new_revision() {
    let mut server = server(deployment(4));
    settle(&mut server);
    release(&mut server, 2);
    settle(&mut server);
    let sizes: Vec<u32> = sets(&server).iter().map(|set| set.replicas).collect();
    assert_eq!(sizes, [0, 4]);
    release(&mut server, 1);
    settle(&mut server);
    let sizes: Vec<u32> = sets(&server).iter().map(|set| set.replicas).collect();
    assert_eq!(sizes, [4, 0]);
    let key = "deployment.kubernetes.io/revision";
    assert_eq!(sets(&server)[0].meta.annotations[key], "3");
    assert_eq!(server.cluster.deployments[&name()].meta.annotations[key], "3");
}

#[test]
fn the_history_limit_deletes_the_oldest_empty_replica_sets() {
    let mut server = server(Deployment { revision_history_limit: 1, ..deployment(2) });
    for version in 1..5 {
        release(&mut server, version);
        settle(&mut server);
    }
    let sets = sets(&server);
    let revisions: Vec<&str> = sets
        .iter()
        .map(|set| &*set.meta.annotations["deployment.kubernetes.io/revision"])
        .collect();
    assert_eq!(revisions, ["3", "4"]);
}

#[test]
fn recreate_waits_until_every_old_pod_is_gone() {
    let mut server = server(Deployment { strategy: RolloutStrategy::Recreate, ..deployment(3) });
    settle(&mut server);
    release(&mut server, 2);
    for _ in 0..5 {
        reconcile(&mut server);
    }
    assert_eq!(sets(&server).len(), 1);
    assert!(server.pods(None).iter().all(|pod| pod.meta.deleting.is_some()));
    settle(&mut server);
    let sizes: Vec<u32> = sets(&server).iter().map(|set| set.replicas).collect();
    assert_eq!(sizes, [0, 3]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut server = server(deployment(2));
    settle(&mut server);
    change(&mut server, |one| one.paused = true);
    release(&mut server, 2);
    change(&mut server, |one| one.replicas = 5);
    settle(&mut server);
    assert_eq!(sets(&server).len(), 1);
    assert_eq!(server.pods(None).len(), 5);
    let paused = reason(status(&server).progressing_condition.as_ref());
    assert_eq!(paused, (ConditionStatus::Unknown, "DeploymentPaused"));
    change(&mut server, |one| one.paused = false);
    settle(&mut server);
    assert_eq!(sets(&server).len(), 2);
}

#[test]
fn a_rollout_that_does_not_move_is_late_after_its_deadline() {
    let mut server = server(deployment(2));
    settle(&mut server);
    release(&mut server, 2);
    for _ in 0..5 {
        server.wait(1);
        reconcile(&mut server);
    }
    let waiting = plan::deployment(&server.cluster, &name(), server.now);
    let again = waiting.again.unwrap();
    assert!(again > server.now && again <= seconds(server.now.0 / 1_000_000 + 601));
    server.now = again;
    reconcile(&mut server);
    let late = reason(status(&server).progressing_condition.as_ref());
    assert_eq!(late, (ConditionStatus::False, "ProgressDeadlineExceeded"));
    assert_eq!(reconcile(&mut server), []);
    settle(&mut server);
    let done = reason(status(&server).progressing_condition.as_ref());
    assert_eq!(done, (ConditionStatus::True, "NewReplicaSetAvailable"));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared_by_size() {
    let mut server = server(deployment(10));
    settle(&mut server);
    release(&mut server, 2);
    // New pods never become ready, so that the rollout stands still.
    for _ in 0..10 {
        reconcile(&mut server);
    }
    let before: Vec<u32> = sets(&server).iter().map(|set| set.replicas).collect();
    assert_eq!(before, [8, 5]);
    change(&mut server, |one| one.replicas = 20);
    reconcile(&mut server);
    let after: Vec<u32> = sets(&server).iter().map(|set| set.replicas).collect();
    assert_eq!(after, [15, 10]);
}

#[test]
fn a_replica_set_adopts_orphans_and_ignores_foreign_pods() {
    let mut server = server(deployment(2));
    reconcile(&mut server);
    let set = sets(&server)[0].name();
    settle(&mut server);
    let mut orphan = pod("orphan", "10.0.0.9");
    orphan.meta.labels = server.cluster.replica_sets[&set].template.labels.clone();
    let mut foreign = orphan.clone();
    foreign.meta.name = "foreign".into();
    foreign.meta.owners.push(model::Owner {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: "other".into(),
        uid: "uid-other".into(),
        controller: true,
        block_owner_deletion: true,
    });
    for pod in [orphan, foreign] {
        server.cluster.pods.insert(pod.name(), Arc::new(pod));
    }
    let writes = reconcile(&mut server);
    assert!(writes.iter().any(|write| matches!(write, Write::AddOwner { .. })));
    let deleted = writes.iter().filter(|write| matches!(write, Write::DeletePod(..))).count();
    assert_eq!(deleted, 1);
    assert!(server.cluster.pods[&PodName::new("default", "foreign")].meta.deleting.is_none());
}

#[test]
fn open_expectations_stop_creation_and_deletion() {
    let mut server = server(deployment(3));
    let writes = plan::deployment(&server.cluster, &name(), server.now).writes;
    server.carry_out(&writes);
    let set = sets(&server)[0].name();
    let open = Expectations { creations: 1, deletions: 0 };
    let result = plan::replica_set(&server.cluster, &set, open, server.now);
    assert!(!result.writes.iter().any(|write| matches!(write, Write::CreatePod { .. })));
}

#[test]
fn pods_become_available_after_min_ready_seconds() {
    let mut server = server(Deployment { min_ready_seconds: 30, ..deployment(1) });
    reconcile(&mut server);
    kubelet(&mut server);
    reconcile(&mut server);
    let set = sets(&server)[0];
    assert_eq!((set.status.ready, set.status.available), (1, 0));
    let again =
        plan::replica_set(&server.cluster, &set.name(), Expectations::default(), server.now);
    server.now = again.again.unwrap();
    reconcile(&mut server);
    assert_eq!(sets(&server)[0].status.available, 1);
}

#[test]
fn useless_pods_are_deleted_first() {
    let mut server = server(deployment(6));
    settle(&mut server);
    let names: Vec<PodName> = server.pods(None).iter().map(|pod| pod.name()).collect();
    let spoil: [fn(&mut Pod); 4] = [
        |pod| pod.node = None,
        |pod| pod.phase = PodPhase::Pending,
        |pod| pod.ready = false,
        |pod| {
            let key = "controller.kubernetes.io/pod-deletion-cost".to_owned();
            pod.meta.annotations.insert(key, "-5".to_owned());
        },
    ];
    for (name, spoil) in names.iter().zip(spoil) {
        server.pod(name, spoil);
    }
    server.pod(&names[4], |pod| pod.ready_since = seconds(99_999));
    let key = sets(&server)[0].name();
    let mut set = (*server.cluster.replica_sets[&key]).clone();
    for keep in (1..6).rev() {
        set.replicas = keep;
        server.cluster.replica_sets.insert(key.clone(), Arc::new(set.clone()));
        let result = plan::replica_set(&server.cluster, &key, Expectations::default(), server.now);
        let deleted: Vec<&PodName> = result
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::DeletePod(name, _) => Some(name),
                _ => None,
            })
            .collect();
        let expected: Vec<&PodName> =
            names.iter().take(6 - usize::try_from(keep).unwrap()).collect();
        assert_eq!(deleted, expected);
    }
}

fn any_amount() -> impl Strategy<Value = IntOrPercent> {
    prop_oneof![
        (0u32..4).prop_map(IntOrPercent::Count),
        (0u32..=100).prop_map(IntOrPercent::Percent),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Deployment,
    ReplicaSets,
    Kubelet(prop::sample::Index),
    Release(u32),
    Kill(prop::sample::Index),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Deployment),
        3 => Just(Step::ReplicaSets),
        6 => any::<prop::sample::Index>().prop_map(Step::Kubelet),
        1 => (1u32..4).prop_map(Step::Release),
        1 => any::<prop::sample::Index>().prop_map(Step::Kill),
    ]
}

fn resolve(amount: IntOrPercent, of: u32, up: bool) -> u32 {
    match amount {
        IntOrPercent::Count(count) => count,
        IntOrPercent::Percent(percent) if up => (percent * of).div_ceil(100),
        IntOrPercent::Percent(percent) => percent * of / 100,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever happens in between, and however late one controller sees what the other did: no
    /// more pods are wanted than the surge allows, the controllers never take away more than may be
    /// unavailable, and in the end everything is as declared.
    #[test]
    fn rollouts_stay_in_bounds_and_converge(
        replicas in 0u32..9,
        max_unavailable in any_amount(),
        max_surge in any_amount(),
        steps in prop::collection::vec(any_step(), 0..80),
    ) {
        let strategy = RolloutStrategy::RollingUpdate { max_unavailable, max_surge };
        let mut server = server(Deployment { strategy, ..deployment(replicas) });
        settle(&mut server);
        let surge = resolve(max_surge, replicas, true);
        let unavailable = resolve(max_unavailable, replicas, false);
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        let least = replicas.saturating_sub(unavailable) as usize;
        for step in steps {
            server.wait(1);
            let before = serving(&server);
            take(&mut server, &step);
            let after = serving(&server);
            let is_ours = matches!(step, Step::Deployment | Step::ReplicaSets);
            prop_assert!(!is_ours || after >= before.min(least), "{after} of {before}");
            let wanted: u32 = sets(&server).iter().map(|set| set.replicas).sum();
            prop_assert!(wanted <= replicas + surge);
        }
        settle(&mut server);
        let status = status(&server);
        prop_assert_eq!((status.updated, status.available), (replicas, replicas));
        prop_assert_eq!(server.pods(None).len(), replicas as usize);
    }
}

fn take(server: &mut Server, step: &Step) {
    let pods: Vec<PodName> = server.cluster.pods.keys().cloned().collect();
    match step {
        Step::Deployment => {
            let writes = plan::deployment(&server.cluster, &name(), server.now).writes;
            server.carry_out(&writes);
        }
        Step::ReplicaSets => drop(reconcile_sets(server)),
        // Until the status tells of a pod that came or went, a Deployment cannot know.
        Step::Kubelet(index) if !pods.is_empty() => {
            server.kubelet(index.get(&pods));
            reconcile_sets(server);
        }
        Step::Kill(index) if !pods.is_empty() => {
            server.cluster.pods.remove(index.get(&pods));
            reconcile_sets(server);
        }
        Step::Release(version) => release(server, *version),
        Step::Kubelet(_) | Step::Kill(_) => {}
    }
}

/// Pods that answer and will go on doing so.
fn serving(server: &Server) -> usize {
    let serves = |pod: &&Pod| pod.ready && pod.meta.deleting.is_none();
    server.pods(None).into_iter().filter(serves).count()
}
