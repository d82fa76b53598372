//! Real packets through a real kernel, without being root: everything happens in a user
//! namespace and network namespaces of its own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it measured and fails by panicking"
)]

#[path = "kernel/affinity.rs"]
mod affinity;
#[path = "kernel/counters.rs"]
mod counters;
#[path = "kernel/firewall.rs"]
mod firewall;
#[path = "support/lab.rs"]
mod lab;
#[path = "kernel/listing.rs"]
mod listing;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "kernel/packets.rs"]
mod packets;
#[path = "kernel/repairs.rs"]
mod repairs;
#[path = "kernel/resets.rs"]
mod resets;
#[path = "kernel/spread.rs"]
mod spread;
#[path = "kernel/tables.rs"]
mod tables;
#[path = "support/view.rs"]
mod view;

use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};

/// A test and its name.
type Test = (&'static str, fn());

/// Entering a user namespace is only possible before the first thread.
fn main() -> ExitCode {
    let all = [
        affinity::TESTS,
        counters::TESTS,
        firewall::TESTS,
        listing::TESTS,
        packets::TESTS,
        repairs::TESTS,
        resets::TESTS,
        spread::TESTS,
        tables::TESTS,
    ];
    testkit::run_tests(all.into_iter().flatten().copied(), enter)
}

/// Becomes root of a new user namespace.
fn enter() -> Result<(), String> {
    if testkit::program("ip").is_none() {
        return Err("the program ip (iproute2) is missing".to_owned());
    }
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("cannot make a user namespace: {error}"))?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| format!("cannot write /proc/self/{file}: {error}"))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}
