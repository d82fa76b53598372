//! The status of a pod, computed from the states of its containers.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::spec::{PodSpec, RestartPolicy};

/// Now, as the API writes times.
pub(crate) fn now() -> String {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string()
}

/// What a container is doing.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum State {
    /// Not running, but it will: the reason as kubectl shows it.
    Waiting { reason: &'static str, message: String },
    /// Running since.
    Running { since: String },
    /// It has ended.
    Terminated(Ended),
}

/// How a container ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) started: String,
    pub(crate) finished: String,
    pub(crate) id: String,
}

/// A container as its status tells it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ContainerStatus {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) state: State,
    pub(crate) last: Option<Ended>,
    pub(crate) restarts: u32,
    /// What the readiness probe says, or true without one; means nothing unless it runs.
    pub(crate) ready: bool,
    /// Whether the startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// `portolan://...` of the present or last run; empty before the first.
    pub(crate) id: String,
}

/// What a pod's status is computed from.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Value,
    pub(crate) spec: &'a PodSpec,
    pub(crate) init: &'a [ContainerStatus],
    pub(crate) containers: &'a [ContainerStatus],
    pub(crate) addresses: &'a [IpAddr],
    pub(crate) host_addresses: &'a [IpAddr],
    pub(crate) start_time: &'a str,
}

impl ContainerStatus {
    pub(crate) fn new(name: &str, image: &str, reason: &'static str) -> Self {
        Self {
            name: name.to_owned(),
            image: image.to_owned(),
            state: State::Waiting { reason, message: String::new() },
            last: None,
            restarts: 0,
            ready: false,
            started: false,
            id: String::new(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn has_begun(&self) -> bool {
        self.last.is_some() || !matches!(self.state, State::Waiting { .. })
    }

    fn is_ready(&self) -> bool {
        self.is_running() && self.started && self.ready
    }

    fn json(&self, ready: bool) -> Value {
        let state = match &self.state {
            State::Waiting { reason, message } if message.is_empty() => {
                json!({"waiting": {"reason": reason}})
            }
            State::Waiting { reason, message } => {
                json!({"waiting": {"reason": reason, "message": message}})
            }
            State::Running { since } => json!({"running": {"startedAt": since}}),
            State::Terminated(ended) => json!({"terminated": ended.json()}),
        };
        let mut status = json!({
            "name": self.name, "image": self.image, "imageID": "", "state": state,
            "lastState": {}, "restartCount": self.restarts, "ready": ready,
            "started": self.is_running() && self.started,
        });
        if let Some(last) = &self.last {
            status["lastState"] = json!({"terminated": last.json()});
        }
        if !self.id.is_empty() {
            status["containerID"] = self.id.clone().into();
        }
        status
    }
}

impl Ended {
    fn json(&self) -> Value {
        let mut ended = json!({
            "exitCode": self.code, "reason": self.reason,
            "startedAt": self.started, "finishedAt": self.finished, "containerID": self.id,
        });
        if let Some(signal) = self.signal {
            ended["signal"] = signal.into();
        }
        if !self.message.is_empty() {
            ended["message"] = self.message.clone().into();
        }
        ended
    }
}

impl Facts<'_> {
    /// `Pod.status`. Conditions of others are not in it: the patch leaves them as they are.
    pub(crate) fn status(&self) -> Value {
        let ips = |addresses: &[IpAddr]| {
            addresses.iter().map(|address| json!({"ip": address.to_string()})).collect::<Vec<_>>()
        };
        let mut status = json!({
            "phase": self.phase(),
            "conditions": self.conditions(),
            "hostIP": self.host_addresses.first().map(ToString::to_string),
            "hostIPs": ips(self.host_addresses),
            "startTime": self.start_time,
            "qosClass": self.qos_class(),
            "observedGeneration": self.pod["metadata"]["generation"],
            "containerStatuses": self.containers.iter().map(|container| container.json(container.is_ready())).collect::<Vec<_>>(),
        });
        if let Some(first) = self.addresses.first() {
            status["podIP"] = first.to_string().into();
            status["podIPs"] = ips(self.addresses).into();
        }
        if !self.init.is_empty() {
            let ready = |(at, container): (usize, &ContainerStatus)| {
                let sidecar = self.spec.init_containers[at].is_sidecar();
                container.json(if sidecar { container.is_ready() } else { container.succeeded() })
            };
            status["initContainerStatuses"] =
                self.init.iter().enumerate().map(ready).collect::<Vec<_>>().into();
        }
        status
    }

    /// The phase, by the rules of `kubelet_pods.go` `getPhase`.
    pub(crate) fn phase(&self) -> &'static str {
        let initialized = self.initialized();
        let failed_init =
            self.init.iter().zip(&self.spec.init_containers).any(|(status, container)| {
                !container.is_sidecar()
                    && !status.succeeded()
                    && matches!(status.state, State::Terminated(_))
            });
        if failed_init && self.spec.restart_policy == RestartPolicy::Never {
            return "Failed";
        }
        if !initialized {
            return "Pending";
        }
        let ended = self
            .containers
            .iter()
            .filter(|container| matches!(container.state, State::Terminated(_)))
            .count();
        if ended == self.containers.len() && !self.containers.is_empty() {
            let all_succeeded = self.containers.iter().all(ContainerStatus::succeeded);
            return match self.spec.restart_policy {
                RestartPolicy::Always if self.pod["metadata"]["deletionTimestamp"].is_null() => {
                    "Running"
                }
                RestartPolicy::OnFailure
                    if !all_succeeded && self.pod["metadata"]["deletionTimestamp"].is_null() =>
                {
                    "Running"
                }
                _ if all_succeeded => "Succeeded",
                _ => "Failed",
            };
        }
        if self.containers.iter().any(|container| !container.has_begun()) {
            "Pending"
        } else {
            "Running"
        }
    }

    /// A container that has begun proves it, also when the sidecars have ended since.
    fn initialized(&self) -> bool {
        if self.containers.iter().any(ContainerStatus::has_begun) {
            return true;
        }
        self.init.iter().zip(&self.spec.init_containers).all(|(status, container)| {
            if container.is_sidecar() {
                status.started && (status.is_running() || status.last.is_some())
            } else {
                status.succeeded()
            }
        })
    }

    fn conditions(&self) -> Vec<Value> {
        let phase = self.phase();
        let done = phase == "Succeeded";
        let unready: Vec<_> = self
            .containers
            .iter()
            .filter(|container| !container.is_ready())
            .map(|container| container.name.as_str())
            .collect();
        let containers = if done {
            (false, "PodCompleted", String::new())
        } else if phase == "Failed" {
            (false, "PodFailed", String::new())
        } else if unready.is_empty() {
            (true, "", String::new())
        } else {
            (
                false,
                "ContainersNotReady",
                format!("containers with unready status: [{}]", unready.join(" ")),
            )
        };
        let ready = self.unmet_gate().map_or_else(
            || containers.clone(),
            |gate| (false, "ReadinessGatesNotReady", format!("corresponding condition of pod readiness gate {gate:?} does not exist or is not \"True\".")),
        );
        let waiting: Vec<_> = self
            .init
            .iter()
            .filter(|init| !init.succeeded())
            .map(|init| init.name.as_str())
            .collect();
        let initialized = if self.initialized() {
            (true, if done { "PodCompleted" } else { "" }, String::new())
        } else {
            (
                false,
                "ContainersNotInitialized",
                format!("containers with incomplete status: [{}]", waiting.join(" ")),
            )
        };
        let sandbox = (!self.addresses.is_empty() && !done && phase != "Failed", "", String::new());
        [
            ("PodReadyToStartContainers", sandbox),
            ("Initialized", initialized),
            ("Ready", ready),
            ("ContainersReady", containers),
        ]
        .into_iter()
        .map(|(kind, (status, reason, message))| self.condition(kind, status, reason, &message))
        .collect()
    }

    /// A condition; its time of transition stays while its status does.
    fn condition(&self, kind: &str, status: bool, reason: &str, message: &str) -> Value {
        let status = if status { "True" } else { "False" };
        let before = self.pod["status"]["conditions"].as_array().into_iter().flatten();
        let before = before
            .into_iter()
            .find(|condition| condition["type"] == kind && condition["status"] == status);
        let since = before
            .and_then(|condition| condition["lastTransitionTime"].as_str())
            .map_or_else(now, str::to_owned);
        let mut condition = Map::from_iter([
            ("type".to_owned(), kind.into()),
            ("status".to_owned(), status.into()),
            ("lastTransitionTime".to_owned(), since.into()),
            ("lastProbeTime".to_owned(), Value::Null),
            ("observedGeneration".to_owned(), self.pod["metadata"]["generation"].clone()),
        ]);
        // Null takes away what an earlier status said.
        let or_null = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        condition.insert("reason".to_owned(), or_null(reason));
        condition.insert("message".to_owned(), or_null(message));
        condition.into()
    }

    fn unmet_gate(&self) -> Option<&str> {
        let conditions = self.pod["status"]["conditions"].as_array();
        let met = |kind: &str| {
            conditions.is_some_and(|all| {
                all.iter()
                    .any(|condition| condition["type"] == kind && condition["status"] == "True")
            })
        };
        self.spec
            .readiness_gates
            .iter()
            .map(|gate| gate.condition_type.as_str())
            .find(|kind| !met(kind))
    }

    /// Guaranteed: every container limits cpu and memory and requests no less; BestEffort: none
    /// says anything; Burstable: the rest.
    fn qos_class(&self) -> &'static str {
        let resources: Vec<_> = self
            .spec
            .containers
            .iter()
            .chain(&self.spec.init_containers)
            .map(|container| &container.resources)
            .collect();
        let says = |resources: &&Value| {
            ["limits", "requests"]
                .iter()
                .any(|kind| resources[*kind].as_object().is_some_and(|map| !map.is_empty()))
        };
        let guaranteed = |resources: &&Value| {
            ["cpu", "memory"].iter().all(|name| {
                let limit = &resources["limits"][*name];
                limit.is_string()
                    && (resources["requests"][*name].is_null()
                        || resources["requests"][*name] == *limit)
            })
        };
        if !resources.iter().any(says) {
            "BestEffort"
        } else if resources.iter().all(guaranteed) {
            "Guaranteed"
        } else {
            "Burstable"
        }
    }
}
