//! A main for tests that libtest's cannot run.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::skip;

/// Does `before` on the main thread, such as entering a user namespace, and runs the tests there
/// one after the other; or does what else the command line asks, such as listing them.
///
/// Where `before` says why they cannot run here, every test that was asked for is skipped aloud.
pub fn run_tests(
    tests: impl IntoIterator<Item = (&'static str, impl FnOnce() + Send + 'static)>,
    before: impl FnOnce() -> Result<(), String>,
) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // On one thread they run on the main one.
    arguments.test_threads = Some(1);
    let why_not = if arguments.list { None } else { before().err() };
    let mut trials = Vec::new();
    for (name, test) in tests {
        let why_not = why_not.clone();
        trials.push(Trial::test(name, move || {
            match why_not {
                Some(reason) => skip(name, &reason),
                None => test(),
            }
            Ok(())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
