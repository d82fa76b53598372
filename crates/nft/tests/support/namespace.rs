//! Programs inside a namespace.

use std::process::Command;

pub(crate) use testkit::Namespace;

/// Runs a program given as words; panics with what it said if it fails.
pub(crate) fn run(line: &str) {
    output(line).unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// What a program prints, or what it complains about.
pub(crate) fn output(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let program = testkit::program(words.next().unwrap()).ok_or("no such program")?;
    let output = Command::new(program).args(words).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
