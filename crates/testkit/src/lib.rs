//! What tests of several crates share.
//!
//! What it is: skipping aloud, finding real programs, network namespaces, damaged input, and a
//! main for tests that must do something before the first thread starts. What it is not: a dependency of the product, or a home for fakes.
//!
//! ```text
//!  test ─▶ skip(reason) ─▶ $PORTOLAN_SKIPS ─▶ the test command's closing line
//!      └─▶ Namespace::run(closure) ─▶ a thread that lives in a network namespace
//! ```

pub mod fuzz;
mod harness;
mod namespace;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use harness::run_tests;
pub use namespace::Namespace;

/// Says that a test cannot run here. The test command counts it as skipped.
///
/// The caller returns right after: `return testkit::skip("name of the test", "why")`.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    let Some(file) = std::env::var_os("PORTOLAN_SKIPS") else { return };
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    let written = opened.and_then(|mut file| writeln!(file, "{test}: {reason}"));
    assert!(written.is_ok(), "note a skipped test in {}: {written:?}", file.display());
}

/// Every real kubectl that is here: those that the test command installed, and one in PATH.
/// Empty when there is none.
pub fn kubectls() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv");
    let mut found: Vec<PathBuf> = std::fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin/kubectl"))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.reverse();
    found.extend(program("kubectl"));
    found
}

/// A program in PATH or in the folders of system programs.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Why this machine cannot make unprivileged network namespaces; `None` when it can.
pub fn no_namespaces() -> Option<String> {
    let unshare = program("unshare")?;
    let output = Command::new(unshare)
        .args(["--user", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
