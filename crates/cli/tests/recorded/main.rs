//! Answers of a real API server, recorded case by case, asked of ours again.
//!
//! What it is: a replayer of `data/cases.jsonl` (requests and normalised answers of kube-apiserver
//! and kube-controller-manager 1.36) and of `data/kubectl.json` (command lines and what kubectl 1.37
//! printed). What it is not: a place for exceptions; a case that fails shows a rule that is wrong.
//!
//! ```text
//!  cases ─▶ Runner ─▶ Client ─▶ portolan apiserver (with its controllers)
//!              └─▶ Matcher: placeholders such as <uid#1> stand for what differs from run to run
//! ```
//!
//! `RECORDED_ONLY=text cargo test -p portolan --test recorded` runs the cases whose group or id has
//! the text in it. A case is a JSON object with `steps`; each step says what is sent (`method`,
//! `path`, `query`, `body`, ...), how it is compared (`pick`, `ignore`, `poll`, `watch`, ...) and what
//! was answered (`expect`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "scores are part of what a replay says")]

mod client;
mod compare;
mod json;
mod kubectl;
mod matcher;
mod runner;
mod server;
mod shape;
mod watch;

use serde_json::Value;

use self::client::Client;
use self::runner::Runner;
use self::server::{Profile, Server};

#[tokio::test]
async fn requests_are_answered_as_recorded() {
    replay(Profile::Main).await;
}

#[tokio::test]
async fn requests_to_tight_ranges_are_answered_as_recorded() {
    replay(Profile::Tight).await;
}

async fn replay(profile: Profile) {
    let server = Server::start(profile);
    let mut runner = Runner::new(Client::new(&server).await);
    let only = std::env::var("RECORDED_ONLY").unwrap_or_default();
    let (mut failures, mut passed) = (Vec::new(), 0);
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let id = case["id"].as_str().unwrap();
        let label = format!("{} {id}", case["group"].as_str().unwrap());
        if case["profile"].as_str().unwrap_or("main") != profile.name() || !label.contains(&only) {
            continue;
        }
        let before = runner.scores.differences.len();
        match runner.case(&case).await {
            Ok(()) => passed += 1,
            Err(why) => failures.push(format!("{id}: {why}")),
        }
        for difference in &runner.scores.differences[before..] {
            println!("{id}: {difference}");
        }
    }
    println!("{passed} passed; {}", runner.scores.lines().join("; "));
    let failed = failures.len();
    assert!(failures.is_empty(), "{failed} failed, {passed} passed:\n{}", failures.join("\n"));
}

const CASES: &str = include_str!("data/cases.jsonl");
