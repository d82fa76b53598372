//! The supervisor: pid 1 of the lab. It builds the network, starts the shipped programs, runs a
//! kubelet per node, and serves `control.sock`.
//!
//! Everything starts at once. The API server's listeners exist before it does, so whoever
//! connects early waits in their queue instead of failing and trying again.

mod boot;
mod component;
mod control;
mod exec;
mod manifests;
mod nodes;
mod status;
mod urls;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use crate::config::{AddressPlan, LabConfig};
use crate::error::{LabError, chain};
use crate::launch::Root;
use crate::net::{Namespace, Topology};
use crate::process::Children;
use crate::progress::{Progress, tell};
use crate::sandbox;
use crate::state::StateDir;
use crate::view::View;

/// The hidden name of the lab's pid 1.
pub(crate) const INIT: &str = "lab-init";

/// A running lab.
pub(crate) struct Lab {
    config: LabConfig,
    state: StateDir,
    began: Instant,
    children: Children,
    topology: RefCell<Topology>,
    client_root: Root,
    node_roots: Vec<Root>,
    /// The user's: may do everything.
    client: cluster::Client,
    /// The kubelets', by node.
    kubelets: Vec<cluster::Client>,
    view: View,
    pki: apiserver::tls::Pki,
    api_url: String,
    components: RefCell<Vec<component::Running>>,
    nodes: RefCell<BTreeMap<u16, nodes::Node>>,
    urls: urls::Urls,
    end: Notify,
}

/// `lab-init`: the whole life of a lab. Reads its [`LabConfig`] from stdin; the end of stdin is
/// the wish to end.
pub(crate) fn main() -> ExitCode {
    let began = Instant::now();
    start_log();
    let result = settle_and_read().and_then(|config| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| LabError::System { action: "start the event loop", source })?;
        tokio::task::LocalSet::new().block_on(&runtime, run(config, began))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let message = chain(&error);
            tracing::error!(message, "the lab ends");
            tell(&Progress::Failed { message });
            ExitCode::FAILURE
        }
    }
}

/// The supervisor's log is its stderr, a file; PORTOLAN_LOG chooses what is in it.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PORTOLAN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

fn settle_and_read() -> Result<LabConfig, LabError> {
    sandbox::settle()?;
    sandbox::check_kernel()?;
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|source| LabError::Control { action: "read the configuration for", source })?;
    serde_json::from_str(&line).map_err(|error| LabError::Control {
        action: "understand the configuration for",
        source: error.into(),
    })
}

async fn run(config: LabConfig, began: Instant) -> Result<(), LabError> {
    let state = StateDir::new(&config.state_dir);
    let _lock = state.lock()?;
    state.clean()?;
    let detached = config.detach;
    let lab = Rc::new(boot::boot(config, state, began).await?);
    let server = control::serve(&lab)?;
    let starting = tokio::task::spawn_local(boot::finish(lab.clone()));
    let outcome = tokio::select! {
        result = async { starting.await.map_err(std::io::Error::other) } => {
            match result {
                Ok(Ok(())) => {
                    wait_for_end(&lab, detached).await;
                    Ok(())
                }
                Ok(Err(error)) => Err(error),
                Err(source) => Err(LabError::System { action: "finish the start", source }),
            }
        }
        () = wait_for_end(&lab, detached) => Ok(()),
    };
    lab.stop().await;
    lab.state.clean()?;
    drop(server);
    outcome
}

/// Waits for a signal, `down`, or the end of the process that started us.
async fn wait_for_end(lab: &Lab, detached: bool) {
    let outer_gone = async {
        if detached || end_of_stdin().await.is_err() {
            std::future::pending().await
        }
    };
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = outer_gone => {}
        () = terminated => {}
        () = lab.end.notified() => {}
    }
}

/// Waits for the end of stdin, a pipe on which nothing more is ever written.
async fn end_of_stdin() -> std::io::Result<()> {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(stdin)?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await.map(drop)
}

impl Lab {
    /// Milliseconds since the start.
    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn step(&self, text: impl Into<String>) {
        tell(&Progress::Step { text: text.into(), at_ms: self.elapsed_ms() });
    }

    /// The network namespace of a node that has one.
    fn node_namespace(&self, index: u16) -> Result<Namespace, LabError> {
        let namespace = self.topology.borrow().node(index).cloned();
        namespace.ok_or_else(|| LabError::Refused {
            message: format!("{} has no network", AddressPlan::node_name(index)),
        })
    }

    /// Ends the store in order; pods and agents have nothing to lose and go with the namespaces.
    async fn stop(&self) {
        let nodes = self.nodes.take();
        for (_, node) in nodes {
            node.stop().await;
        }
        let components = self.components.take();
        futures::future::join_all(
            components.into_iter().map(|component| component.stop(Signal::SIGTERM)),
        )
        .await;
    }
}
