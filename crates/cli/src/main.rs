//! The binary `portolan`.
//!
//! What it is: arguments, tables and messages. Every command turns its arguments into the
//! settings of one other crate and calls it.
//!
//! What it is not: it decides nothing about Services.
//!
//! ```text
//!  arguments ─▶ args ─▶ commands ─▶ lab | apiserver | daemon ─▶ table or JSON
//! ```

mod agent_table;
mod args;
mod bench;
mod commands;
mod fetch;
mod kube_proxy;
mod manifests;
mod report;
mod table;
mod top;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // Entering namespaces needs a process with a single thread, so this comes before anything.
    if let Some(code) = lab::reexec(std::env::args_os()) {
        return code;
    }
    let arguments = args::Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            report::error(&error);
            ExitCode::FAILURE
        }
    }
}
