//! The API server and the agent as processes of their own: what is measured is what is shipped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ::cluster::Client;
use anyhow::{Context as _, bail};
use apiserver::tls::Pki;

/// Where the agent serves its metrics.
pub(super) const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
const API_PORT: u16 = 6443;
/// How long the API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A child process that ends with this value.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// When it was started.
    pub(super) started: Instant,
}

impl Running {
    fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let started = Instant::now();
        let child = Command::new(std::env::current_exe().context("find this program")?)
            .args(arguments)
            .env("PORTOLAN_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start portolan {}", arguments.join(" ")))?;
        Ok(Self { child, started })
    }

    /// The agent of the node.
    pub(super) fn agent(kubeconfig: &std::path::Path) -> anyhow::Result<Self> {
        Self::start(&[
            "agent".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            "--hostname-override=node1".to_owned(),
            format!("--metrics-bind-address={METRICS}"),
            "--healthz-bind-address=".to_owned(),
        ])
    }

    /// A line of `/proc/PID/status` that is a size, in bytes.
    pub(super) fn memory(&self, name: &str) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kibibytes
            .map(|kibibytes| kibibytes * 1024)
            .with_context(|| format!("find {name} in {path}"))
    }

    /// Fails when the process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait().context("look after a child process")? {
            None => Ok(()),
            Some(status) => bail!("a process of the measurement has ended: {status}"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The embedded API server with an empty store.
#[derive(Debug)]
pub(super) struct Apiserver {
    /// An administrator's.
    pub(super) kubeconfig: PathBuf,
    process: Running,
    folder: PathBuf,
}

impl Apiserver {
    /// Starts it and waits until it answers.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("portolan-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let state = folder.join("state");
        let pki = Pki::open(state.join("pki"))?;
        let admin = pki.kept_client("bench", "portolan-bench", &["system:masters"])?;
        let url = format!("https://127.0.0.1:{API_PORT}");
        let kubeconfig = pki.keep_kubeconfig("bench", &url, &admin)?;
        let process = Running::start(&[
            "apiserver".to_owned(),
            format!("--state={}", state.display()),
            format!("--secure-port={API_PORT}"),
            "--service-cluster-ip-range=10.96.0.0/12".to_owned(),
            "--controllers=none".to_owned(),
        ])?;
        let mut server = Self { kubeconfig, process, folder };
        let client = server.client().await?;
        while client.get("/readyz").await.is_err()
            && client.get("/api/v1/namespaces/default").await.is_err()
        {
            server.process.check()?;
            if server.process.started.elapsed() > PATIENCE {
                bail!("the API server does not answer");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    /// A client of it.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::from_kubeconfig(&self.kubeconfig).await?)
    }
}

impl Drop for Apiserver {
    fn drop(&mut self) {
        // The folder of a measurement that was broken off stays behind otherwise.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
