//! The built-in image `portolan/web`: it answers who it is and whom it saw, over HTTP(S), TCP and
//! UDP, and over gRPC how it is.
//!
//! ```text
//!  GET /            pod=web-1 node=node1 client=10.244.2.3:40112
//!  GET /json        {"pod": "web-1", "namespace": "default", "node": "node1", "client": "..."}
//!  GET /healthz     200 while ready, else 503
//!  POST /ready      be ready; POST /unready: do not
//!  gRPC             grpc.health.v1: SERVING while ready
//!  TCP, UDP         each line or datagram is answered by the line of GET / and the echo
//! ```
//!
//! A thread a connection: a waiting one costs some kilobytes, and nothing else runs in the process.

mod grpc;
mod tls;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

/// The command's name: `portolan web`.
pub(crate) const NAME: &str = "web";
/// Stack of a connection's thread; a TLS handshake needs most of it, and what is not touched costs
/// nothing.
const STACK: usize = 256 << 10;
/// The longest request head or line that is read.
const LONGEST: u64 = 16 << 10;

const HELP: &str = "\
portolan web: answer who this pod is and whom it saw

Options (or the environment variable in parentheses):
  --http PORT[,PORT]   HTTP ports (WEB_HTTP) [default: 8080]
  --https PORT[,PORT]  HTTPS ports, with a self-signed certificate (WEB_HTTPS) [default: none]
  --grpc PORT[,PORT]   ports of the gRPC health protocol, without TLS (WEB_GRPC) [default: none]
  --tcp PORT[,PORT]    TCP echo ports (WEB_TCP) [default: 9090]
  --udp PORT[,PORT]    UDP echo ports (WEB_UDP) [default: 8080]
  --delay-ms N         wait before each answer (WEB_DELAY_MS) [default: 0]
  --drain-ms N         go on serving after SIGTERM (WEB_DRAIN_MS) [default: 500]
  --unready            start unready, until POST /ready (WEB_UNREADY=1)
  --help
";

/// What this server was told, and who it is.
struct Web {
    pod: String,
    namespace: String,
    node: String,
    delay: Duration,
    ready: AtomicBool,
}

/// `portolan web`: serves until SIGTERM or SIGINT.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let options = match Options::read(arguments, |name| std::env::var(name).ok()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(message) => return fail(&message),
    };
    // Blocked before any thread exists, so that all inherit it and only `wait` sees the signal.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    if let Err(error) = signals.thread_block() {
        return fail(&format!("could not block signals: {error}"));
    }
    let name = |variable: &str| std::env::var(variable).unwrap_or_default();
    let web = Arc::new(Web {
        pod: Some(name("PORTOLAN_POD"))
            .filter(|pod| !pod.is_empty())
            .unwrap_or_else(|| name("HOSTNAME")),
        namespace: name("PORTOLAN_NAMESPACE"),
        node: name("PORTOLAN_NODE"),
        delay: options.delay,
        ready: AtomicBool::new(options.ready),
    });
    if let Err(error) = serve(&web, &options) {
        return fail(&format!("could not listen: {error}"));
    }
    // Whatever it gives, it is time to go.
    let _ = signals.wait();
    web.ready.store(false, Ordering::Relaxed);
    // Nodes learn a little later than we do that no new connection should come here.
    std::thread::sleep(options.drain);
    ExitCode::SUCCESS
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "portolan web: {message}");
    ExitCode::FAILURE
}

/// The command line.
#[derive(PartialEq, Eq, Debug)]
struct Options {
    http: Vec<u16>,
    https: Vec<u16>,
    grpc: Vec<u16>,
    tcp: Vec<u16>,
    udp: Vec<u16>,
    delay: Duration,
    drain: Duration,
    ready: bool,
}

impl Options {
    /// From arguments, then the environment, then defaults. `None` when help is wanted.
    fn read(
        arguments: &[String],
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let mut given = std::collections::BTreeMap::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match name {
                "--help" | "-h" => return Ok(None),
                "--unready" => drop(given.insert(name.to_owned(), "1".to_owned())),
                "--http" | "--https" | "--grpc" | "--tcp" | "--udp" | "--delay-ms"
                | "--drain-ms" => {
                    let value = inline
                        .or_else(|| rest.next().cloned())
                        .ok_or_else(|| format!("{name} needs a value"))?;
                    given.insert(name.to_owned(), value);
                }
                _ => return Err(format!("unknown option {argument:?}; see --help")),
            }
        }
        let text = |name: &str, default: &str| {
            let variable =
                format!("WEB_{}", name.trim_start_matches('-').to_uppercase().replace('-', "_"));
            given
                .get(name)
                .cloned()
                .or_else(|| env(&variable))
                .unwrap_or_else(|| default.to_owned())
        };
        let ports = |name: &str, default: &str| -> Result<Vec<u16>, String> {
            let text = text(name, default);
            let parts = text.split(',').filter(|part| !part.is_empty());
            parts
                .map(|part| part.parse().map_err(|_| format!("{name} {part:?} is not a port")))
                .collect()
        };
        let milliseconds = |name: &str, default: &str| {
            let text = text(name, default);
            text.parse()
                .map(Duration::from_millis)
                .map_err(|_| format!("{name} {text:?} is not a number of milliseconds"))
        };
        Ok(Some(Self {
            http: ports("--http", "8080")?,
            https: ports("--https", "")?,
            grpc: ports("--grpc", "")?,
            tcp: ports("--tcp", "9090")?,
            udp: ports("--udp", "8080")?,
            delay: milliseconds("--delay-ms", "0")?,
            drain: milliseconds("--drain-ms", "500")?,
            ready: text("--unready", "") != "1",
        }))
    }
}

fn serve(web: &Arc<Web>, options: &Options) -> io::Result<()> {
    let any = |port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    for port in &options.http {
        accept(web, TcpListener::bind(any(*port))?, |web, stream, client| {
            stream.set_nodelay(true)?;
            web.http(stream, client)
        })?;
    }
    if !options.https.is_empty() {
        let tls = tls::config(&web.pod)?;
        for port in &options.https {
            let tls = tls.clone();
            accept(web, TcpListener::bind(any(*port))?, move |web, stream, client| {
                stream.set_nodelay(true)?;
                web.http(tls::accept(&tls, stream)?, client)
            })?;
        }
    }
    for port in &options.grpc {
        grpc::serve(web, TcpListener::bind(any(*port))?)?;
    }
    for port in &options.tcp {
        accept(web, TcpListener::bind(any(*port))?, Web::echo_tcp)?;
    }
    for port in &options.udp {
        let (web, socket) = (web.clone(), UdpSocket::bind(any(*port))?);
        thread(move || web.echo_udp(&socket))?;
    }
    Ok(())
}

fn accept(
    web: &Arc<Web>,
    listener: TcpListener,
    answer: impl Fn(&Web, TcpStream, SocketAddr) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<()> {
    let web = web.clone();
    thread(move || {
        loop {
            let Ok((stream, client)) = listener.accept() else { continue };
            let (web, answer) = (web.clone(), answer.clone());
            // A client that breaks off, or one too many for the machine, is the client's to notice.
            let _ = thread(move || drop(answer(&web, stream, canonical(client))));
        }
    })
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

/// IPv4 clients of a dual-stack socket in their own form.
fn canonical(client: SocketAddr) -> SocketAddr {
    SocketAddr::new(client.ip().to_canonical(), client.port())
}

impl Web {
    fn line(&self, client: SocketAddr) -> String {
        format!("pod={} node={} client={client}\n", self.pod, self.node)
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    fn http(&self, stream: impl Read + Write, client: SocketAddr) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            std::thread::sleep(self.delay);
            let (code, kind, body) = self.answer(&request, client);
            let close = request.close;
            let head = format!(
                "HTTP/1.1 {code}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nX-Pod: {}\r\nX-Node: {}\r\n{}\r\n",
                body.len(),
                self.pod,
                self.node,
                if close { "Connection: close\r\n" } else { "" },
            );
            let body = if request.method == "HEAD" { "" } else { &body };
            reader.get_mut().write_all((head + body).as_bytes())?;
            if close {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        request: &Request,
        client: SocketAddr,
    ) -> (&'static str, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/ready") => {
                self.ready.store(true, Ordering::Relaxed);
                ("200 OK", TEXT, "ready\n".to_owned())
            }
            ("POST", "/unready") => {
                self.ready.store(false, Ordering::Relaxed);
                ("200 OK", TEXT, "unready\n".to_owned())
            }
            ("GET" | "HEAD", "/healthz") if self.is_ready() => ("200 OK", TEXT, "ok\n".to_owned()),
            ("GET" | "HEAD", "/healthz") => {
                ("503 Service Unavailable", TEXT, "unready\n".to_owned())
            }
            (_, path) if request.wants_json || path == "/json" => {
                let body = json!({
                    "pod": self.pod, "namespace": self.namespace, "node": self.node,
                    "client": client.ip().to_string(), "clientPort": client.port(),
                    "method": request.method, "path": request.path,
                });
                ("200 OK", "application/json", format!("{body}\n"))
            }
            _ => ("200 OK", TEXT, self.line(client)),
        }
    }

    fn echo_tcp(&self, stream: TcpStream, client: SocketAddr) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while (&mut reader).take(LONGEST).read_until(b'\n', &mut line)? > 0 {
            std::thread::sleep(self.delay);
            let answer = [self.line(client).as_bytes(), &line].concat();
            reader.get_mut().write_all(&answer)?;
            line.clear();
        }
        Ok(())
    }

    fn echo_udp(&self, socket: &UdpSocket) {
        let mut packet = vec![0; 65536];
        loop {
            let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
            std::thread::sleep(self.delay);
            let answer = [self.line(canonical(client)).as_bytes(), &packet[..length]].concat();
            // A datagram may be lost; UDP says no more.
            let _ = socket.send_to(&answer, client);
        }
    }
}

/// As much of a request as matters here.
#[derive(Debug, Default)]
struct Request {
    method: String,
    path: String,
    wants_json: bool,
    close: bool,
}

/// The next request of a connection; `None` at its end. Its body is read and thrown away.
fn read_request(reader: &mut BufReader<impl Read>) -> io::Result<Option<Request>> {
    let mut head = reader.take(LONGEST);
    let mut line = String::new();
    if head.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or("/"));
    let mut request = Request {
        method: method.to_owned(),
        path: target.split('?').next().unwrap_or("/").to_owned(),
        close: words.next() != Some("HTTP/1.1"),
        ..Request::default()
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        head.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "accept" => request.wants_json = value.contains("application/json"),
            "connection" => request.close |= value.eq_ignore_ascii_case("close"),
            "content-length" => length = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Some(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str], env: &[(&str, &str)]) -> Result<Option<Options>, String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let env: std::collections::BTreeMap<_, _> = env.iter().copied().collect();
        Options::read(&arguments, |name| env.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn arguments_win_over_the_environment() {
        let options = read(
            &["--http", "1,2", "--unready"],
            &[("WEB_HTTP", "3"), ("WEB_UDP", "4"), ("WEB_TCP", "")],
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            (options.http, options.udp, options.tcp, options.ready),
            (vec![1, 2], vec![4], vec![], false)
        );
        assert!(read(&["--http=x"], &[]).unwrap_err().contains("not a port"));
        assert!(read(&["--nope"], &[]).unwrap_err().contains("--help"));
        assert!(read(&["-h"], &[]).unwrap().is_none());
    }

    #[test]
    fn it_answers_who_it_is_until_told_to_be_unready() {
        let web = Web {
            pod: "p".to_owned(),
            namespace: "d".to_owned(),
            node: "n".to_owned(),
            delay: Duration::ZERO,
            ready: AtomicBool::new(true),
        };
        let client = "10.0.0.1:5".parse().unwrap();
        let ask = |method: &str, path: &str| {
            let request =
                Request { method: method.to_owned(), path: path.to_owned(), ..Request::default() };
            web.answer(&request, client)
        };
        assert_eq!(ask("GET", "/").2, "pod=p node=n client=10.0.0.1:5\n");
        assert!(ask("GET", "/json").2.contains(r#""client":"10.0.0.1""#));
        assert_eq!(ask("GET", "/healthz").0, "200 OK");
        ask("POST", "/unready");
        assert_eq!(ask("GET", "/healthz").0, "503 Service Unavailable");
    }
}
