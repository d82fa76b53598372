//! The Python client, `kubernetes` on PyPI.

use std::process::Command;

use crate::harness::{Server, installed, script};

#[test]
fn python_lists_watches_writes_and_elects_a_leader() {
    let name = "python_lists_watches_writes_and_elects_a_leader";
    let Some(python) = installed(name, "python/bin/python") else { return };
    let server = Server::start();
    let mut command = Command::new(python);
    command.arg(script("session.py"));
    server.session(command);
}
