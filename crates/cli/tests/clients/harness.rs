//! An API server for one test: the shipped binary on a free port, ended when the test ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// A running API server in a state folder of its own.
pub(crate) struct Server {
    folder: tempfile::TempDir,
    process: Child,
    log: Arc<Log>,
    /// Such as `https://127.0.0.1:40123`.
    pub(crate) url: String,
}

impl Server {
    /// Starts one with its controllers and waits until it serves.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one that changes no object by itself.
    pub(crate) fn start_without_controllers() -> Self {
        Self::start_with(&["--controllers", "none"])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(tokens, format!("{TOKEN},admin,1,\"system:masters\"\n")).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (process, url) = serve(folder.path(), "0", arguments, &log);
        Self { folder, process, log, url }
    }

    /// Kills the server and starts another one with the same state on the same port.
    pub(crate) fn kill_and_restart(&mut self) {
        self.process.kill().and_then(|()| self.process.wait()).unwrap();
        let port = self.url.rsplit(':').next().unwrap().to_owned();
        (self.process, self.url) = serve(self.folder.path(), &port, &[], &self.log);
    }

    /// A kubeconfig of the administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let file = self.folder.path().join("kubeconfig");
        let authority = self.folder.path().join("state/pki/ca.crt");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n\
             users: [{{name: test, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.url,
            authority.display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Runs a client's session; it must succeed.
    pub(crate) fn session(&self, mut command: Command) {
        let output = command.env("KUBECONFIG", self.kubeconfig()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It holds nothing that outlives the folder.
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("the API server ended with {ended:?} and said:\n{}", log.join("\n"));
        }
    }
}

/// Starts a server and waits until it serves; its process and its address.
fn serve(folder: &Path, port: &str, arguments: &[&str], log: &Arc<Log>) -> (Child, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["apiserver", "--secure-port", port, "--state"])
        .arg(folder.join("state"))
        .arg("--token-auth-file")
        .arg(folder.join("tokens"))
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let url = loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("the API server did not start: {:?}", log.lock().unwrap());
        };
        let address = line.split_whitespace().find(|word| word.starts_with("https://"));
        let address = address.map(str::to_owned);
        log.lock().unwrap().push(line);
        if let Some(address) = address {
            break address;
        }
    };
    let kept = log.clone();
    // Ends when the server does.
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            kept.lock().unwrap().push(line);
        }
    });
    (process, url)
}

type Log = Mutex<Vec<String>>;

/// A file below `.venv`, where `scripts/setup` installs clients; skips the test aloud when it is
/// missing.
pub(crate) fn installed(test: &str, path: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv").join(path);
    if file.exists() {
        return Some(file);
    }
    testkit::skip(test, &format!("no .venv/{path}: scripts/setup installs it"));
    None
}

/// A script of these tests.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// The administrator's token.
pub(crate) const TOKEN: &str = "client-tests";

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
