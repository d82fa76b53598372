//! Running a command at a place in the lab, for `portolan exec`.

use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;

use super::Lab;
use crate::config::AddressPlan;
use crate::error::LabError;
use crate::launch::{DEFAULT_PATH, Launch};
use crate::process::Process;

/// Starts a command and waits until it runs. The place decides network and file system.
///
/// # Errors
/// [`LabError::Refused`] for a place or program that does not exist.
pub(super) async fn start(
    lab: &Lab,
    place: &str,
    command: Vec<String>,
    env: Vec<(String, String)>,
    terminal: bool,
    streams: [OwnedFd; 3],
) -> Result<Process, LabError> {
    let mut launch = at(lab, place)?;
    launch.program = command;
    launch.terminal = terminal;
    if !launch.env.iter().any(|(name, _)| name == "PATH") {
        launch.env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
    }
    launch.env.extend(env);
    let [stdin, stdout, stderr] = streams;
    let (process, started) = lab
        .children
        .launch(launch, |command| {
            command.stdin(Stdio::from(stdin)).stdout(stdout).stderr(stderr);
        })
        .map_err(|source| LabError::System { action: "start a process", source })?;
    started
        .wait()
        .await
        .map_err(|message| LabError::Refused { message: format!("{place}: {message}") })?;
    Ok(process)
}

fn at(lab: &Lab, place: &str) -> Result<Launch, LabError> {
    let in_namespace = |namespace: &crate::net::Namespace, root: &crate::launch::Root| {
        let fd = namespace.as_fd().try_clone_to_owned();
        let fd =
            fd.map_err(|source| LabError::System { action: "duplicate a descriptor", source })?;
        Ok(Launch { enter: vec![fd], root: Some(root.clone()), ..Launch::default() })
    };
    let topology = lab.topology.borrow();
    if place == "client" {
        return in_namespace(&topology.client, &lab.client_root);
    }
    if let Some(pod) = place.strip_prefix("pod/") {
        return in_pod(lab, pod);
    }
    for index in 0..lab.config.nodes {
        if AddressPlan::node_name(index) == place {
            let stopped = || LabError::Refused {
                message: format!("{place} is stopped: `portolan node start {place}`"),
            };
            return in_namespace(
                topology.node(index).ok_or_else(stopped)?,
                &lab.node_roots[usize::from(index)],
            );
        }
    }
    Err(LabError::Refused {
        message: format!(
            "there is no place {place:?}: give client, node1 to node{}, or pod/[NAMESPACE/]NAME",
            lab.config.nodes
        ),
    })
}

fn in_pod(lab: &Lab, pod: &str) -> Result<Launch, LabError> {
    let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
    for node in lab.nodes.borrow().values() {
        if let Some(launch) = node.kubelet().enter(namespace, name, None) {
            return launch.map_err(|source| LabError::System { action: "enter the pod", source });
        }
    }
    Err(LabError::Refused {
        message: format!(
            "no container of a pod {namespace}/{name} runs: see `kubectl get pods --all-namespaces`"
        ),
    })
}
