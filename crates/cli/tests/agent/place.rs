//! Where a test runs: a network and a mount namespace of its own.

use std::path::Path;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "PORTOLAN_TEST_INSIDE";

/// Runs a test of these files inside. True in the process that is inside, false in the one that has
/// started it, and where it cannot run.
pub(crate) fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if let Some(reason) = testkit::no_namespaces() {
        testkit::skip(test, &reason);
        return false;
    }
    for program in ["nft", "ip", "mount"] {
        if testkit::program(program).is_none() {
            testkit::skip(test, &format!("the program {program} is not here"));
            return false;
        }
    }
    let unshare = testkit::program("unshare").expect("no_namespaces has used it");
    let status = Command::new(unshare)
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().expect("has a path"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("can start");
    assert!(status.success(), "the test failed inside its namespace");
    false
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(test);
}

/// Hides what is in a folder and makes one below it, for this test only.
pub(crate) fn cover(folder: &str, below: &str) {
    run("mount", &["-t", "tmpfs", "tmpfs", folder]);
    std::fs::create_dir_all(Path::new(folder).join(below)).expect("can be made");
}

/// What a program prints; it has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let path = testkit::program(program).unwrap_or_else(|| panic!("{program} is not here"));
    let output = Command::new(path).args(arguments).output().expect("can start");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
