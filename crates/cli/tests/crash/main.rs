//! The API server, killed at any moment under writers: what was acknowledged stays (L5).
//!
//! Each round starts the shipped binary, lets writers work over HTTPS, kills it (SIGKILL) at a
//! random moment, starts it again and compares what it holds with what the writers were told and
//! a watch has shown. `PORTOLAN_CRASH_ROUNDS` asks for more rounds than the usual few, and
//! `PORTOLAN_CRASH_SEED` repeats the choices of a run.
//!
//! ```text
//!  writers ─▶ journal (sent, acknowledged) ─┐
//!  watch ───▶ journal (seen) ───────────────┼─▶ check ◀─ lists after the restart
//! ```

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check;
mod client;
mod disk;
mod journal;
mod server;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use journal::Journal;
use server::Server;
use testkit::fuzz::{Random, seed_from_clock};

const WRITERS: usize = 6;
const USUAL_ROUNDS: usize = 20;
/// Milliseconds of work before a kill.
const LONGEST: usize = 60;
/// One round in this many is killed while it starts.
const EARLY: usize = 8;
/// A long run tells how far it is after this many rounds.
const TOLD: usize = 100;

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("PORTOLAN_CRASH_ROUNDS").map_or(USUAL_ROUNDS, |n| n.try_into().unwrap());
    let seed = number("PORTOLAN_CRASH_SEED").unwrap_or_else(seed_from_clock);
    eprintln!("{rounds} rounds; to repeat the choices: PORTOLAN_CRASH_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(kill(rounds, seed));
}

async fn kill(rounds: usize, seed: u64) {
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::new(WRITERS);
    for round in 0..rounds {
        if random.once_in(EARLY) {
            let server = Server::spawn(folder.path());
            tokio::time::sleep(micros(&mut random)).await;
            server.kill();
        }
        let server = Arc::new(Server::spawn(folder.path()).serving().await);
        let problems = check::state(&server, &mut journal).await;
        assert!(problems.is_empty(), "round {round}, seed {seed}: {problems:#?}");
        journal = work(&server, journal, &mut random).await;
        Arc::into_inner(server).unwrap().kill();
        if (round + 1) % TOLD == 0 {
            eprintln!("{} kills, {} acknowledged writes", round + 1, journal.acknowledged);
        }
    }
    let server = Server::spawn(folder.path()).serving().await;
    let problems = check::state(&server, &mut journal).await;
    assert!(problems.is_empty(), "at the end, seed {seed}: {problems:#?}");
    server.kill();
    let (acknowledged, settled) = (journal.acknowledged, journal.settled);
    eprintln!("{rounds} kills, {acknowledged} acknowledged writes, {settled} cut off");
    assert!(acknowledged > rounds as u64, "the writers have written nothing");
}

/// Writers and a watch, until the server has been killed under them.
async fn work(server: &Arc<Server>, mut journal: Journal, random: &mut Random) -> Journal {
    let mut tasks = Vec::new();
    for lane in journal.lanes.drain(..) {
        let client = Client::connect(server).await.unwrap();
        tasks.push(tokio::spawn(writer::write(client, lane, random.fork())));
    }
    let watching = tokio::spawn(writer::watch(server.clone(), journal.newest));
    tokio::time::sleep(micros(random)).await;
    server.strike();
    for task in tasks {
        journal.lanes.push(task.await.unwrap());
    }
    journal.seen = watching.await.unwrap();
    journal
}

fn micros(random: &mut Random) -> Duration {
    Duration::from_micros(random.below(LONGEST * 1000) as u64)
}
