//! The shipped binary, as a process that can be killed and started again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The administrator's token.
pub(crate) const TOKEN: &str = "bench";

/// One state folder and the process that serves it.
pub(crate) struct Server {
    folder: PathBuf,
    controllers: String,
    process: Option<Child>,
    /// Such as `127.0.0.1:40123`.
    pub(crate) address: String,
    /// From spawning the process to its word that it serves.
    pub(crate) took: Duration,
}

impl Server {
    /// Not yet started.
    pub(crate) fn new(folder: &Path, controllers: &str) -> Self {
        std::fs::write(folder.join("tokens"), format!("{TOKEN},admin,1,\"system:masters\"\n"))
            .unwrap();
        Self {
            folder: folder.to_owned(),
            controllers: controllers.to_owned(),
            process: None,
            address: String::new(),
            took: Duration::ZERO,
        }
    }

    /// Starts it and waits until it says that it serves.
    pub(crate) fn start(&mut self) {
        let start = Instant::now();
        let mut process = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["apiserver", "--secure-port=0", "--state"])
            .arg(self.folder.join("state"))
            .arg("--token-auth-file")
            .arg(self.folder.join("tokens"))
            .arg(format!("--controllers={}", self.controllers))
            .env("PORTOLAN_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        self.process = Some(process);
        let url = lines.find_map(|line| {
            line.unwrap()
                .split_whitespace()
                .find_map(|word| word.strip_prefix("https://").map(str::to_owned))
        });
        self.address = url.expect("the server says where it serves");
        self.took = start.elapsed();
        // Its log must not fill the pipe. Ends when the server does.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Without any warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().and_then(|()| process.wait()).unwrap();
        }
    }

    /// PEM text of the authority of its certificate.
    pub(crate) fn authority(&self) -> String {
        std::fs::read_to_string(self.folder.join("state/pki/ca.crt")).unwrap()
    }

    /// MiB of resident memory.
    pub(crate) fn resident(&self) -> f64 {
        let id = self.process.as_ref().map(Child::id).unwrap_or_default();
        let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        value.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
