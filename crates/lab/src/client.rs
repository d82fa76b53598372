//! Talking to a running lab, for the command line.

use std::path::Path;

use crate::control::Status;
use crate::error::LabError;

/// A command to run in the lab.
#[derive(Clone, Debug)]
pub struct Exec {
    /// `client`, a node's name, or `pod/[NAMESPACE/]NAME`.
    pub place: String,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Runs a command in the lab with this process's stdin, stdout and stderr, and returns its exit
/// code (128 + signal number when a signal ended it). When stdin and stdout are a terminal, the
/// command gets a terminal of its own that follows the window's size.
///
/// # Errors
/// [`LabError::NotRunning`], [`LabError::Refused`] for a place or program that does not exist.
pub fn exec(state_dir: &Path, exec: &Exec) -> Result<i32, LabError> {
    let _ = exec;
    Err(LabError::NotRunning { path: state_dir.to_owned() })
}

/// Starts or stops a node. Stopping kills its agent, kubelet and pods and takes its links down.
///
/// # Errors
/// [`LabError::NotRunning`], [`LabError::Refused`] for an unknown node.
pub fn node(state_dir: &Path, name: &str, start: bool) -> Result<(), LabError> {
    let _ = (name, start);
    Err(LabError::NotRunning { path: state_dir.to_owned() })
}

/// The table of nodes and Services.
///
/// # Errors
/// [`LabError::NotRunning`].
pub fn status(state_dir: &Path) -> Result<Status, LabError> {
    Err(LabError::NotRunning { path: state_dir.to_owned() })
}

/// Ends a lab and removes what a killed one may have left in its state folder. Objects, keys and
/// logs stay for the next `up`. Returns false when none was running.
///
/// # Errors
/// When the supervisor does not answer.
pub fn down(state_dir: &Path) -> Result<bool, LabError> {
    let _ = state_dir;
    Ok(false)
}
