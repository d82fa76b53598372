//! Pods: the state of a pod in one word.

use serde_json::Value;

use super::{NONE, created, name, or_none};
use crate::kinds::age;
use crate::rules::fields::Fields;

pub(in crate::kinds) fn pod(pod: &Value, now: i64) -> Vec<Value> {
    let state = State::of(pod);
    let sidecars = pod.list("/spec/initContainers").iter().filter(|spec| is_sidecar(spec)).count();
    let total = pod.list("/spec/containers").len() + sidecars;
    let address = pod.list("/status/podIPs").first().map_or("", |entry| entry.text("/ip"));
    vec![
        name(pod),
        format!("{}/{total}", state.ready).into(),
        state.reason.as_str().into(),
        state.restarts_text(now).into(),
        created(pod, now),
        or_none(address.to_owned()).into(),
        or_none(pod.text("/spec/nodeName").to_owned()).into(),
        or_none(pod.text("/status/nominatedNodeName").to_owned()).into(),
        readiness_gates(pod).into(),
    ]
}

#[derive(Default)]
struct State {
    reason: String,
    ready: usize,
    restarts: i64,
    /// RFC 3339; empty when no container ended.
    last_restart: String,
}

impl State {
    fn of(pod: &Value) -> Self {
        let phase = pod.text("/status/phase");
        let own = pod.text("/status/reason");
        let mut state =
            Self { reason: if own.is_empty() { phase } else { own }.to_owned(), ..Self::default() };
        if condition(pod, "PodScheduled")
            .is_some_and(|condition| condition.text("/reason") == "SchedulingGated")
        {
            state.reason = "SchedulingGated".to_owned();
        }
        let initializing = state.add_init_containers(pod);
        let initialized = condition(pod, "Initialized")
            .is_some_and(|condition| condition.text("/status") == "True");
        if !initializing || initialized {
            state.add_containers(pod);
        }
        let deleted = pod.has("/metadata/deletionTimestamp");
        if deleted && own == "NodeLost" {
            state.reason = "Unknown".to_owned();
        } else if deleted && !["Succeeded", "Failed"].contains(&phase) {
            state.reason = "Terminating".to_owned();
        }
        state
    }

    /// Counts init containers until one is not done; returns whether there is such a one.
    fn add_init_containers(&mut self, pod: &Value) -> bool {
        let specs = pod.list("/spec/initContainers");
        let (mut restarts, mut last_restart) = (0, String::new());
        for (index, status) in pod.list("/status/initContainerStatuses").iter().enumerate() {
            self.count(status);
            let spec = specs.iter().find(|spec| spec.text("/name") == status.text("/name"));
            let sidecar = spec.is_some_and(is_sidecar);
            if sidecar {
                restarts += status.int("/restartCount");
                last_restart.clone_from(&self.last_restart);
            }
            let terminated = status.at("/state/terminated");
            if !terminated.is_null() && terminated.int("/exitCode") == 0 {
                continue;
            }
            if sidecar && status.flag("/started") {
                self.ready += usize::from(status.flag("/ready"));
                continue;
            }
            let waiting = status.text("/state/waiting/reason");
            self.reason = if !terminated.is_null() {
                format!("Init:{}", ended(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", specs.len())
            };
            return true;
        }
        (self.restarts, self.last_restart) = (restarts, last_restart);
        false
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        for status in pod.list("/status/containerStatuses").iter().rev() {
            self.count(status);
            let waiting = status.text("/state/waiting/reason");
            let terminated = status.at("/state/terminated");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !terminated.is_null() {
                self.reason = ended(terminated);
            } else if status.flag("/ready") && status.has("/state/running") {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" && running {
            let ready = condition(pod, "Ready")
                .is_some_and(|condition| condition.text("/status") == "True");
            self.reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }

    fn count(&mut self, status: &Value) {
        self.restarts += status.int("/restartCount");
        let finished = status.text("/lastState/terminated/finishedAt");
        if finished > self.last_restart.as_str() {
            finished.clone_into(&mut self.last_restart);
        }
    }

    fn restarts_text(&self, now: i64) -> String {
        if self.restarts == 0 || self.last_restart.is_empty() {
            return self.restarts.to_string();
        }
        format!("{} ({} ago)", self.restarts, age::since(&self.last_restart, now))
    }
}

fn ended(terminated: &Value) -> String {
    match (terminated.text("/reason"), terminated.int("/signal")) {
        ("", 0) => format!("ExitCode:{}", terminated.int("/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// An init container that runs beside the others.
fn is_sidecar(spec: &Value) -> bool {
    spec.text("/restartPolicy") == "Always"
}

fn readiness_gates(pod: &Value) -> String {
    let gates = pod.list("/spec/readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let passed = gates.iter().filter(|gate| {
        condition(pod, gate.text("/conditionType"))
            .is_some_and(|condition| condition.text("/status") == "True")
    });
    format!("{}/{}", passed.count(), gates.len())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    pod.list("/status/conditions").iter().find(|condition| condition.text("/type") == kind)
}
