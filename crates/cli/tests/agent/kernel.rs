//! What nf_tables holds and what happens to it, told by the independent `nft`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::place::run;
use crate::process::until;

/// The maps: Services and endpoints are their elements.
pub(crate) fn maps() -> String {
    run("nft", &["list", "maps"])
}

pub(crate) fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// Waits until the maps hold something.
pub(crate) async fn programmed(text: &str) {
    until(&format!("{text} is programmed"), || maps().contains(text).then_some(())).await;
}

/// Waits until the maps hold it no more.
pub(crate) async fn gone(text: &str) {
    until(&format!("{text} is gone"), || (!maps().contains(text)).then_some(())).await;
}

/// Every change of the tables from its start to its end, as `nft monitor` tells them.
pub(crate) struct Monitor {
    process: Child,
    changes: Arc<Mutex<Vec<String>>>,
}

impl Monitor {
    /// Starts it and waits until it sees changes.
    pub(crate) async fn start() -> Self {
        let nft = testkit::program("nft").expect("the test has looked for it");
        let mut process =
            Command::new(nft).arg("monitor").stdout(Stdio::piped()).spawn().expect("nft can start");
        let changes = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (process.stdout.take().expect("is a pipe"), Arc::clone(&changes));
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                kept.lock().expect("nobody panicked").push(line);
            }
        });
        let monitor = Self { process, changes };
        until("nft monitor sees changes", || monitor.sees("first")).await;
        monitor
    }

    /// Whether it has told of a table that was made for this question.
    fn sees(&self, table: &str) -> Option<()> {
        run("nft", &["add", "table", "inet", table]);
        run("nft", &["delete", "table", "inet", table]);
        self.lines().iter().any(|line| line.contains(&format!("table inet {table}"))).then_some(())
    }

    fn lines(&self) -> Vec<String> {
        self.changes.lock().expect("nobody panicked").clone()
    }

    /// What was removed or emptied until now.
    pub(crate) async fn losses(&self) -> Vec<String> {
        // Events come in order: behind the last one of ours, everything before has been told.
        until("nft monitor has told everything", || self.sees("last")).await;
        let lost = |line: &String| {
            let removal = ["delete", "destroy", "flush"].iter().any(|verb| line.starts_with(verb));
            removal && !line.contains("table inet ")
        };
        self.lines().into_iter().filter(lost).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}
