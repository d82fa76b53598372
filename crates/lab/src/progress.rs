//! What the supervisor tells the outer process: a line of JSON for each thing that happened.

use std::io::Write;

use crate::control::Status;

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
    /// The start is over, in time or after a warning; the table to print.
    Ready {
        /// The lab.
        status: Box<Status>,
    },
    /// It could not be started.
    Failed {
        /// The whole chain of causes.
        message: String,
    },
}

/// Tells the outer process. It may be gone, and then nobody wants to know.
pub(crate) fn tell(progress: &Progress) {
    if let Ok(mut line) = serde_json::to_string(progress) {
        line.push('\n');
        let _ = std::io::stdout().lock().write_all(line.as_bytes());
    }
}
