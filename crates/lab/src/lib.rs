//! Network namespaces as nodes, pods and clients, and the kubelet that runs processes in them.
//!
//! What it is: the shell that puts a small Kubernetes cluster on one machine without root. It
//! makes the namespaces, starts the shipped API server, controller and agents in them, runs pods
//! as plain processes, and lends the host loopback URLs to what is inside.
//!
//! What it is not: it knows nothing about Services. What a Service does is decided by `plan` and
//! carried out by the agents, the same as in a real cluster.
//!
//! ```text
//!  portolan up ─ re-exec ─▶ supervisor: own user, mount and pid namespaces, pid 1, host network
//!                             ├─ fabric: bridge, API server, controller     172.30.0.1
//!                             ├─ client: outside the cluster                172.30.0.250
//!                             └─ node1..N: agent, kubelet                   172.30.0.11 ...
//!                                  └─ pods: veth to their node              10.244.n.x
//! ```
//!
//! Nothing has a name outside: every namespace lives by its processes and open descriptors, so
//! when the supervisor dies, by whatever hand, the kernel takes everything down with it.

mod config;
mod control;
mod error;
mod files;
mod health;
mod kubelet;
mod launch;
pub mod net;
mod passing;
mod process;
mod progress;
mod sandbox;
mod state;
mod supervisor;
mod terminal;
mod tty;
mod up;
mod view;
mod web;

pub mod client;

pub use config::{AddressPlan, LabConfig, MAX_NODES, default_state_dir};
pub use control::{EndpointUrl, NodeStatus, PortStatus, ServiceStatus, Status};
pub use error::LabError;
pub use progress::Progress;
pub use up::up;

/// Runs the lab's own entry points when the program was started as one of them.
///
/// The binary calls this first in `main`, before any thread exists: namespaces can only be
/// entered by a process with a single thread. Returns `None` when the arguments are a user's.
pub fn reexec(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Option<std::process::ExitCode> {
    let mut arguments =
        arguments.into_iter().skip(1).filter_map(|argument| argument.into_string().ok());
    let name = arguments.next()?;
    if name == web::NAME {
        return Some(web::main(&arguments.collect::<Vec<_>>()));
    }
    let argument = arguments.next().unwrap_or_default();
    match name.as_str() {
        up::SUPERVISOR => Some(up::supervisor_main(argument == "detach")),
        supervisor::INIT => Some(supervisor::main()),
        launch::NAME => Some(launch::main(&argument)),
        _ => None,
    }
}
