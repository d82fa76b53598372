//! Runs every file of `stories/` at three depths.
//!
//! ```text
//!  stories/*.txtar ─▶ Story ─▶ model:  wire + plan against verdict        (milliseconds)
//!                        ├───▶ fake:   nft's tables in a fake kernel
//!                        └───▶ kernel: nf_tables, real packets, namespaces
//!  arbitrary, packets, changes ─▶ properties: model and fake kernel
//!                            └──▶ in_kernel::random, in_kernel::changes: the real kernel
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod changes;
mod in_fake;
mod in_kernel;
mod in_model;
mod packets;
mod properties;
mod runs;
mod story;

use std::path::PathBuf;

fn stories() -> Vec<story::Story> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../stories");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txtar"));
    files.sort();
    assert!(!files.is_empty(), "no stories in {}", folder.display());
    files.iter().map(|file| story::Story::read(file)).collect()
}

#[test]
fn every_story_holds_in_the_model() {
    let mut failures = Vec::new();
    for story in stories() {
        failures.extend(in_model::run(&story));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_story_holds_in_the_tables() {
    let mut failures = Vec::new();
    let mut refused = 0;
    for story in stories() {
        for seed in 0..20 {
            failures.extend(in_fake::run(&story, seed, &mut refused));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(refused > 20, "only {refused} transactions failed");
}

#[test]
fn every_story_holds_in_the_kernel() {
    if let Err(reason) = in_kernel::enter("every_story_holds_inside_the_namespaces") {
        for story in stories() {
            testkit::skip(&format!("{} in the kernel", story.name), &reason);
        }
    }
}

#[test]
#[ignore = "every_story_holds_in_the_kernel runs it as root of namespaces of its own"]
fn every_story_holds_inside_the_namespaces() {
    let failures = in_kernel::run_all(&stories());
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
