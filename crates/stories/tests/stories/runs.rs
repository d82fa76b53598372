//! Runs of random cases. What fails shrinks, and its seed is kept in `proptest-regressions`, from
//! where every later run tries it first.

use std::fmt::Debug;
use std::path::Path;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, TestCaseError, TestRunner};

/// Tries `usual` cases, times the number in `PORTOLAN_STORY_FACTOR` if that is set.
///
/// Unlike `proptest!` it returns, so that the caller can judge all cases together.
pub(crate) fn run<S: Strategy>(
    name: &'static str,
    usual: u32,
    config: Config,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: Debug,
{
    let factor = std::env::var("PORTOLAN_STORY_FACTOR").ok();
    let cases = usual * factor.map_or(1, |text| text.parse::<u32>().unwrap());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proptest-regressions");
    let file = folder.join(format!("{name}.txt"));
    // A path for the whole run; there is one run in a process under nextest.
    let file: &'static str = Box::leak(file.display().to_string().into_boxed_str());
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(file))),
        source_file: Some(file!()),
        test_name: Some(name),
        ..config
    });
    if let Err(failure) = runner.run(strategy, test) {
        panic!("{failure}\n{runner}");
    }
}
