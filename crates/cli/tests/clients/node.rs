//! The JavaScript client, `@kubernetes/client-node` on npm.

use std::process::Command;

use crate::harness::{Server, installed, script};

#[test]
fn node_lists_watches_and_writes() {
    let name = "node_lists_watches_and_writes";
    let package = "node/node_modules/@kubernetes/client-node/dist/index.js";
    let Some(library) = installed(name, package) else { return };
    let Some(node) = testkit::program("node") else {
        return testkit::skip(name, "there is no node");
    };
    let server = Server::start();
    let mut command = Command::new(node);
    command.arg(script("session.mjs")).arg(library);
    server.session(command);
}
