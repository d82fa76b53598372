//! The agent suite against any cluster: `PORTOLAN_TEST_KUBECONFIG` names one, of which the user may
//! make Nodes, ServiceCIDRs, and Services and EndpointSlices in the namespace `default`.
//!
//! Nodes of the tests are network namespaces, from which that cluster cannot be reached. So the process
//! outside passes connections on:
//!
//! ```text
//!  agent ─ 127.0.0.1 ─▶ inside ─ unix socket ─▶ outside ─▶ API server
//! ```

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cluster::Client;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;

/// Names the kubeconfig.
const KUBECONFIG: &str = "PORTOLAN_TEST_KUBECONFIG";
/// Names the socket of the process outside.
const SOCKET: &str = "PORTOLAN_TEST_API_SOCKET";

/// Whether the suite is to use another cluster.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os(KUBECONFIG).is_some()
}

/// The way to it, from inside a network namespace. What was made there is deleted in the end.
pub(crate) struct OtherCluster {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) address: SocketAddr,
    created: Mutex<Vec<String>>,
    _folder: TempDir,
}

impl OtherCluster {
    /// `None` when the embedded API server is to be used.
    pub(crate) fn reach() -> Option<Self> {
        let original = PathBuf::from(std::env::var_os(KUBECONFIG)?);
        let socket = PathBuf::from(std::env::var_os(SOCKET)?);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("has an address");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let outside = UnixStream::connect(&socket).expect("the process outside listens");
                pass(stream, outside);
            }
        });
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = folder.path().join("kubeconfig");
        let moved = moved(read(&original), &original, address).to_string();
        std::fs::write(&kubeconfig, moved).expect("can be written");
        Some(Self { kubeconfig, address, created: Mutex::default(), _folder: folder })
    }

    /// Remembers what has to be deleted.
    pub(crate) fn note(&self, path: String) {
        self.created.lock().expect("nobody panicked").push(path);
    }
}

impl Drop for OtherCluster {
    fn drop(&mut self) {
        let paths = std::mem::take(self.created.get_mut().expect("nobody panicked"));
        let kubeconfig = self.kubeconfig.clone();
        let deleting = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().expect("a runtime").block_on(async {
                let client = Client::from_kubeconfig(&kubeconfig).await.expect("a kubeconfig");
                for path in paths.iter().rev() {
                    // The test may have deleted it itself.
                    let json = "application/json";
                    drop(client.exchange(Method::DELETE, path, json, None).await);
                }
            });
        });
        let deleted = deleting.join().is_ok();
        assert!(deleted || std::thread::panicking(), "the test's objects could not be deleted");
    }
}

/// Outside: passes connections on while the value lives. The path is for the process inside.
pub(crate) struct Passage {
    folder: TempDir,
}

impl Passage {
    /// `None` when the embedded API server is to be used.
    pub(crate) fn open() -> Option<Self> {
        let server = host_and_port(&read(Path::new(&std::env::var_os(KUBECONFIG)?)));
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("api")).expect("is free");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let outside = TcpStream::connect(&server).expect("the API server answers");
                pass(outside, stream);
            }
        });
        Some(Self { folder })
    }

    pub(crate) fn environment(&self) -> (&'static str, PathBuf) {
        (SOCKET, Path::new(self.folder.path()).join("api"))
    }
}

fn read(kubeconfig: &Path) -> Value {
    let text = std::fs::read_to_string(kubeconfig).expect("the kubeconfig can be read");
    serde_saphyr::from_str(&text).expect("the kubeconfig is YAML")
}

/// Where the API server is, such as `192.0.2.1:6443`. Kubeconfigs with several clusters are not for
/// tests.
fn host_and_port(kubeconfig: &Value) -> String {
    let url = kubeconfig["clusters"][0]["cluster"]["server"].as_str().expect("names a server");
    let url: http::Uri = url.parse().expect("is a URL");
    format!("{}:{}", url.host().expect("has a host"), url.port_u16().unwrap_or(443))
}

/// The same kubeconfig with the server at another address, and with files named absolutely.
fn moved(mut kubeconfig: Value, original: &Path, address: SocketAddr) -> Value {
    let server = host_and_port(&kubeconfig);
    let (host, _) = server.rsplit_once(':').expect("has a port");
    let folder = original.parent().expect("is a file").canonicalize().expect("is there");
    let cluster = &mut kubeconfig["clusters"][0]["cluster"];
    cluster["server"] = format!("https://{address}").into();
    cluster["tls-server-name"] = host.trim_matches(['[', ']']).into();
    let file = |place: &mut Value, field: &str| {
        if let Some(path) = place[field].as_str() {
            place[field] = folder.join(path).display().to_string().into();
        }
    };
    file(&mut kubeconfig["clusters"][0]["cluster"], "certificate-authority");
    for field in ["client-certificate", "client-key", "tokenFile"] {
        file(&mut kubeconfig["users"][0]["user"], field);
    }
    kubeconfig
}

/// Copies both ways until both ends are done.
fn pass(tcp: TcpStream, unix: UnixStream) {
    let mut from_tcp = tcp.try_clone().expect("can be cloned");
    let mut from_unix = unix.try_clone().expect("can be cloned");
    let (mut to_tcp, mut to_unix) = (tcp, unix);
    std::thread::spawn(move || {
        drop(io::copy(&mut from_tcp, &mut to_unix));
        drop(to_unix.shutdown(Shutdown::Write));
    });
    std::thread::spawn(move || {
        drop(io::copy(&mut from_unix, &mut to_tcp));
        drop(to_tcp.shutdown(Shutdown::Write));
    });
}
