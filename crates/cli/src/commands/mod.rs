//! One file per group of commands.

mod agent;
mod apiserver;
mod lab;
mod objects;
mod servers;

use std::io;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Arguments, Bench, Command};
use crate::{bench, top};

/// Runs a command. The exit code is the command's own for `exec`, else 0 or 1.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Up(up) => lab::up(&up)?,
        Command::Down(state) => lab::down(&state.dir())?,
        Command::Status(status) => lab::status(&status)?,
        Command::Kubeconfig(state) => lab::kubeconfig(&state.dir())?,
        Command::Exec(exec) => return lab::exec(&exec),
        Command::Node(node) => lab::node(&node)?,
        Command::Apply(files) => objects::apply(&files)?,
        Command::Delete(files) => objects::delete(&files)?,
        Command::Agent(agent) => agent::run(*agent)?,
        Command::Controller(controller) => servers::controller(controller)?,
        Command::Apiserver(apiserver) => apiserver::run(*apiserver)?,
        Command::Dns(dns) => servers::dns(dns)?,
        Command::Top(arguments) => top::run(&arguments)?,
        Command::Bench(Bench::Agent(agent)) => bench::agent(&agent)?,
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "portolan", &mut io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
