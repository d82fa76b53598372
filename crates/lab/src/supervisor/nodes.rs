//! A node: its agent and its kubelet, started and stopped together.

use std::rc::Rc;

use nix::sys::signal::Signal;
use serde_json::json;

use super::component::Running;
use super::{Lab, boot, status};
use crate::config::AddressPlan;
use crate::error::{LabError, chain};
use crate::kubelet::{Kubelet, KubeletConfig, now};
use crate::view::{Kind, key};

/// A running node.
pub(crate) struct Node {
    agent: Running,
    kubelet: Rc<Kubelet>,
}

impl Node {
    /// Starts agent and kubelet of a node whose network exists.
    pub(super) fn start(lab: &Lab, index: u16) -> Result<Self, LabError> {
        let name = AddressPlan::node_name(index);
        let namespace = lab.node_namespace(index)?;
        let Some(client) = lab.kubelets.get(usize::from(index)).cloned() else {
            return Err(LabError::Refused { message: format!("the lab has no node {name:?}") });
        };
        let agent = boot::agent(lab, index)?;
        let config = KubeletConfig {
            index,
            name,
            namespace,
            children: lab.children.clone(),
            client,
            view: lab.view.clone(),
            run: lab.state.run().join("pods"),
            logs: lab.state.logs().join("pods"),
        };
        let kubelet = Kubelet::start(config, &lab.pki)?;
        Ok(Self { agent, kubelet })
    }

    /// Kills everything on the node, as a power cut does: nothing is said to the API.
    pub(super) async fn stop(self) {
        self.kubelet.kill().await;
        self.agent.stop(Signal::SIGKILL).await;
    }

    /// The node's kubelet.
    pub(super) fn kubelet(&self) -> &Rc<Kubelet> {
        &self.kubelet
    }
}

/// Starts or stops a node by name.
///
/// # Errors
/// [`LabError::Refused`] for an unknown node.
pub(super) async fn set(lab: &Lab, name: &str, start: bool) -> Result<(), LabError> {
    let index = (0..lab.config.nodes).find(|index| AddressPlan::node_name(*index) == name);
    let Some(index) = index else {
        return Err(LabError::Refused {
            message: format!(
                "there is no node {name:?}; the nodes are node1 to node{}",
                lab.config.nodes
            ),
        });
    };
    if start {
        if lab.nodes.borrow().contains_key(&index) {
            return Ok(());
        }
        lab.topology.borrow_mut().start_node(index).map_err(|error| boot::start_error(&error))?;
        let node = Node::start(lab, index)?;
        lab.nodes.borrow_mut().insert(index, node);
        lab.view.touch();
        return Ok(());
    }
    let node = lab.nodes.borrow_mut().remove(&index);
    if let Some(node) = node {
        // The cable first: a dying node sends nothing.
        lab.topology.borrow_mut().stop_node(index).map_err(|error| boot::start_error(&error))?;
        node.stop().await;
        lab.view.touch();
        report_stopped(lab, name).await;
    }
    Ok(())
}

/// Says of a stopped node what its silence would tell only after its lease has run out. The lab
/// is the owner of the machine and knows that it is off, as a cloud's node controller does; with
/// the pods not ready, their endpoints go at once.
async fn report_stopped(lab: &Lab, name: &str) {
    let condition = |status: &str, reason: &str, message: &str| {
        json!({"status": {"conditions": [{
            "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now(),
        }]}})
    };
    let message = "Kubelet stopped posting node status.";
    let node = condition("Unknown", "NodeStatusUnknown", message);
    let mut patches = vec![(format!("/api/v1/nodes/{name}/status"), node)];
    for pod in lab.view.all(Kind::Pod) {
        if pod["spec"]["nodeName"] == name && status::is_ready(&pod) {
            let (namespace, name) = key(&pod);
            let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
            patches.push((path, condition("False", "NodeNotReady", "The node was stopped.")));
        }
    }
    let sent = patches.iter().map(|(path, patch)| async move {
        let kind = "application/strategic-merge-patch+json";
        if let Err(error) = lab.client.exchange(http::Method::PATCH, path, kind, Some(patch)).await
        {
            // The node controller says the same when the lease has run out.
            tracing::warn!(path, error = chain(&error), "could not report a stopped node");
        }
    });
    futures::future::join_all(sent).await;
}
