//! The shipped binary as a process, with controllers off: nobody but the writers writes Services.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// The administrator's token.
pub(crate) const TOKEN: &str = "crash";

/// A started process.
pub(crate) struct Server {
    process: Mutex<Child>,
    /// PEM text of its authority.
    pub(crate) authority: String,
    /// Such as `127.0.0.1:40123`; empty until it serves.
    pub(crate) address: String,
    authority_file: PathBuf,
}

impl Server {
    pub(crate) fn spawn(folder: &Path) -> Self {
        Self::spawn_with(Command::new(env!("CARGO_BIN_EXE_portolan")), folder, folder.join("state"))
    }

    /// Through a command that ends with the program.
    pub(crate) fn spawn_with(mut command: Command, folder: &Path, state: PathBuf) -> Self {
        let tokens = folder.join("tokens");
        std::fs::write(&tokens, format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let process = command
            .args(["apiserver", "--secure-port=0", "--controllers=none", "--state"])
            .arg(&state)
            .arg("--token-auth-file")
            .arg(&tokens)
            .env("PORTOLAN_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            process: Mutex::new(process),
            authority: String::new(),
            address: String::new(),
            authority_file: state.join("pki/ca.crt"),
        }
    }

    /// Waits until it serves.
    pub(crate) async fn serving(mut self) -> Self {
        let stderr = self.process.get_mut().unwrap().stderr.take().unwrap();
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        self.address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it did not start: {said:#?}") };
            let url = line.split_whitespace().find_map(|word| word.strip_prefix("https://"));
            if let Some(address) = url {
                break address.to_owned();
            }
            said.push(line);
        };
        // Its log must not fill the pipe. Ends when the server does.
        std::thread::spawn(move || lines.for_each(drop));
        // The process may have mounts of its own.
        let id = self.process.get_mut().unwrap().id();
        let file = format!("/proc/{id}/root{}", self.authority_file.display());
        self.authority = std::fs::read_to_string(file).unwrap();
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// SIGKILL.
    pub(crate) fn strike(&self) {
        self.process.lock().unwrap().kill().unwrap();
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(self) {
        let mut process = self.process.into_inner().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
