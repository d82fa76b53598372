//! What can go wrong with a lab as a whole, said so that the reader knows what to do next.

use std::io;
use std::path::PathBuf;

/// Why a lab could not be started or talked to.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// An option has a value that cannot work.
    #[error("--{field} {value}: {reason}")]
    Config {
        /// The option, without dashes.
        field: &'static str,
        /// What was given.
        value: String,
        /// Why not, and what would do.
        reason: String,
    },
    /// The machine does not let us make what a lab is made of.
    #[error("this machine does not allow {what}: {remedy}")]
    Forbidden {
        /// What was tried, such as "unprivileged user namespaces".
        what: &'static str,
        /// The exact setting to change.
        remedy: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Reading or writing below the state folder failed.
    #[error("could not {action} {}", path.display())]
    State {
        /// What was tried, such as "write".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state folder was written by another version.
    #[error(
        "{} was written by state version {found}, this program uses {expected}: \
         remove the folder, or choose another one with --state",
        path.display()
    )]
    StateVersion {
        /// The state folder.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What we write.
        expected: &'static str,
    },
    /// A lab already runs with this state folder.
    #[error("a lab already runs with {}: end it with `portolan down`, or choose another --state", path.display())]
    Running {
        /// The state folder.
        path: PathBuf,
    },
    /// No lab runs with this state folder.
    #[error("no lab runs with {}: start one with `portolan up`", path.display())]
    NotRunning {
        /// The state folder.
        path: PathBuf,
    },
    /// The port for the API server on 127.0.0.1 is taken.
    #[error(
        "port {port} on 127.0.0.1 is taken: give another with --api-port, or leave it out to take a free one"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The supervisor could not bring the lab up; it has told why.
    #[error("the lab did not start: {message}")]
    Start {
        /// The whole chain of causes, in words.
        message: String,
    },
    /// The supervisor ended although nobody asked it to.
    #[error("the lab's supervisor ended ({status}); its log is in {}", logs.display())]
    Ended {
        /// How it ended.
        status: String,
        /// The folder with the logs.
        logs: PathBuf,
    },
    /// The supervisor refused a request.
    #[error("{message}")]
    Refused {
        /// Why, and what would do.
        message: String,
    },
    /// Talking to the supervisor failed.
    #[error("could not {action} the lab's supervisor")]
    Control {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A system call that should always work did not.
    #[error("could not {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl LabError {
    /// For system calls: says what was tried.
    pub(crate) fn system(action: &'static str) -> impl FnOnce(nix::errno::Errno) -> Self {
        move |errno| Self::System { action, source: errno.into() }
    }
}

/// An error with all its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
