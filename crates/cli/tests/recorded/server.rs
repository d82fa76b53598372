//! The shipped binary as an API server with its controllers.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The administrator's token.
pub(crate) const TOKEN: &str = "recorded-tests";

/// What the recorded server was configured with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// Both families.
    Main,
    /// Few addresses and node ports, no external IPs.
    Tight,
}

impl Profile {
    /// As cases name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Tight => "tight",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Main => &["--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"],
            Self::Tight => &[
                "--service-cluster-ip-range=10.96.0.0/28",
                "--service-node-port-range=30000-30007",
                "--enable-admission-plugins=DenyServiceExternalIPs",
            ],
        }
    }
}

/// A running server; it ends with the value.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    process: Child,
    /// Such as `https://127.0.0.1:40123`.
    pub(crate) url: String,
}

impl Server {
    /// Starts one and waits until it serves.
    pub(crate) fn start(profile: Profile) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_portolan"))
            .args(["apiserver", "--secure-port=0", "--state"])
            .arg(folder.path().join("state"))
            .arg("--token-auth-file")
            .arg(&tokens)
            .args(profile.flags())
            .env("PORTOLAN_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let url = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it did not start: {said:?}") };
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("https://")) {
                break url.to_owned();
            }
            said.push(line);
        };
        // Its log must not fill the pipe. Ends when the server does.
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, process, url }
    }

    /// Where the server is and how to know it; without a user.
    pub(crate) fn kubeconfig(&self) -> String {
        let authority = self.folder.path().join("state/pki/ca.crt");
        format!(
            "{{apiVersion: v1, kind: Config, current-context: test, users: [],
              clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}],
              contexts: [{{name: test, context: {{cluster: test}}}}]}}",
            self.url,
            authority.display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that outlives the folder.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}
