//! Real packets through a real kernel, without being root: everything happens in a user
//! namespace and network namespaces of its own.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test without libtest")]

#[path = "kernel/affinity.rs"]
mod affinity;
#[path = "kernel/firewall.rs"]
mod firewall;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/namespace.rs"]
mod namespace;
#[path = "kernel/packets.rs"]
mod packets;
#[path = "kernel/tables.rs"]
mod tables;
#[path = "support/view.rs"]
mod view;

use std::panic::catch_unwind;
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};

/// A test and its name.
type Test = (&'static str, fn());

/// Not libtest's main: entering a user namespace is only possible before the first thread.
fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let all =
        [affinity::TESTS, firewall::TESTS, packets::TESTS, tables::TESTS].into_iter().flatten();
    let chosen = |name: &str| filter.as_deref().is_none_or(|filter| name.contains(filter));
    let chosen: Vec<&Test> = all.filter(|(name, _)| chosen(name)).collect();
    if std::env::args().any(|argument| argument == "--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if let Err(reason) = enter() {
        chosen.iter().for_each(|(name, _)| testkit::skip(name, &reason));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in chosen {
        let passed = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
