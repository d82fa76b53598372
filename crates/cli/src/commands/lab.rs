//! Commands about the lab as a whole.

use std::path::Path;
use std::process::ExitCode;

use ::lab::client;
use ::lab::{LabConfig, Progress, Status};
use anyhow::Context;
use serde_json::json;

use crate::args::{Exec, Node, Output, StatusArgs, Up};
use crate::{manifests, report, table};

/// `up`: starts a lab and shows where to go.
pub(crate) fn up(arguments: &Up) -> anyhow::Result<()> {
    let manifests = if arguments.files.is_empty() {
        manifests::examples()?
    } else {
        manifests::read(&arguments.files)?
    };
    super::objects::check(&manifests)?;
    let mut config = LabConfig {
        nodes: arguments.nodes,
        state_dir: arguments.state.dir(),
        manifests: manifests.into_iter().map(|manifest| manifest.value).collect(),
        detach: arguments.detach,
        api_port: arguments.api_port,
        audit_policy_file: arguments
            .audit_policy_file
            .as_deref()
            .map(|path| std::path::absolute(path).context("find --audit-policy-file"))
            .transpose()?,
        ..LabConfig::default()
    };
    if !arguments.pool.is_empty() {
        config.pool.clone_from(&arguments.pool);
    }
    report::progress(&format!(
        "Starting a lab with {} in {}",
        counted(config.nodes, "node"),
        config.state_dir.display()
    ));
    let detach = config.detach;
    ::lab::up(&config, &mut |event| show(event, arguments.output, detach))?;
    Ok(())
}

fn show(event: Progress, output: Output, detach: bool) {
    match event {
        Progress::Step { text, at_ms } => report::progress(&format!("  {} {text}", seconds(at_ms))),
        Progress::Warning { text } => report::warning(&text),
        Progress::Ready { status } => {
            report::progress("");
            match output {
                Output::Json => report::results(&format!("{}\n", to_json(&status))),
                Output::Table => report::results(&welcome(&status, detach)),
            }
        }
        // `up` returns it as its error.
        Progress::Failed { .. } => {}
    }
}

fn seconds(at_ms: u64) -> String {
    format!("{:>3}.{:02} s", at_ms / 1000, at_ms % 1000 / 10)
}

fn counted(number: u16, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The table and what to do next.
fn welcome(status: &Status, detach: bool) -> String {
    let url = status.services.iter().flat_map(|service| &service.urls).next();
    let curl = url.map(|url| format!("  curl {}\n", url.url)).unwrap_or_default();
    let end = if detach { "portolan down ends the lab." } else { "Ctrl-C ends the lab." };
    format!(
        "{}\nTry:\n{curl}  portolan exec client -- curl -s http://node1:30007\n  \
         export KUBECONFIG={}\n  kubectl get pods,services -o wide\n\n{end}\n",
        table::status(status),
        status.kubeconfig.display(),
    )
}

fn to_json(status: &Status) -> String {
    serde_json::to_string_pretty(status)
        .unwrap_or_else(|error| json!({"error": error.to_string()}).to_string())
}

/// `down`: ends a lab.
pub(crate) fn down(state: &Path) -> anyhow::Result<()> {
    if client::down(state)? {
        report::progress("The lab has ended. Its objects and logs are kept for the next `up`.");
    } else {
        report::progress(&format!("No lab runs with {}.", state.display()));
    }
    Ok(())
}

/// `status`: the table, once or whenever it changes.
pub(crate) fn status(arguments: &StatusArgs) -> anyhow::Result<()> {
    let state = arguments.state.dir();
    let text = |status: &Status| match arguments.output {
        Output::Json => format!("{}\n", to_json(status)),
        Output::Table => table::status(status),
    };
    if !arguments.watch {
        report::results(&text(&client::status(&state)?));
        return Ok(());
    }
    let mut is_first = true;
    let never = client::watch(&state, |status| {
        if !is_first && arguments.output == Output::Table {
            report::results("\n");
        }
        report::results(&text(&status));
        is_first = false;
    })?;
    match never {}
}

/// `kubeconfig`: prints the path.
pub(crate) fn kubeconfig(state: &Path) -> anyhow::Result<()> {
    let path = client::status(state)?.kubeconfig;
    report::results(&format!("{}\n", path.display()));
    Ok(())
}

/// `exec`: runs a command somewhere in the lab and ends as it ends.
pub(crate) fn exec(arguments: &Exec) -> anyhow::Result<ExitCode> {
    let exec = client::Exec { place: arguments.place.clone(), command: arguments.command.clone() };
    let code = client::exec(&arguments.state.dir(), &exec)?;
    let code = u8::try_from(code).context("the exit code of the command is not one")?;
    Ok(ExitCode::from(code))
}

/// `node start|stop`.
pub(crate) fn node(arguments: &Node) -> anyhow::Result<()> {
    let (name, start) = match arguments {
        Node::Start(name) => (name, true),
        Node::Stop(name) => (name, false),
    };
    client::node(&name.state.dir(), &name.name, start)?;
    let done = if start { "started" } else { "stopped" };
    report::progress(&format!("{} {done}", name.name));
    Ok(())
}
