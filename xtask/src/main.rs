//! The repository's own rules, checked by machine.
//!
//! What it is: `cargo xtask check` runs every rule below and prints each violation on a
//! line of its own; each rule can be run alone. What it is not: it builds and tests
//! nothing (the `justfile` does).
//!
//! ```text
//!  cargo metadata ─▶ imports, licences, duplicates ─┐
//!  source files ───▶ sizes, spec ───────────────────┴─▶ violations
//! ```

mod imports;
mod licences;
mod metadata;
mod sizes;
mod spec;

use std::path::PathBuf;
use std::process::ExitCode;

/// One broken rule, for people.
pub(crate) type Violation = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let violations = match words.as_slice() {
        ["check"] => all(&root),
        ["imports"] => imports::check(&root),
        ["licences"] => licences::check(&root),
        ["sizes"] => sizes::check(&root),
        ["sizes", "--tighten"] => sizes::tighten(&root),
        ["spec"] => spec::check(&root),
        _ => {
            eprintln!("usage: cargo xtask check|imports|licences|sizes [--tighten]|spec");
            return ExitCode::from(2);
        }
    };
    for violation in &violations {
        eprintln!("xtask: {violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(root: &std::path::Path) -> Vec<Violation> {
    let checks = [imports::check, licences::check, sizes::check, spec::check];
    checks.iter().flat_map(|check| check(root)).collect()
}
