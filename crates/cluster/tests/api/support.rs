//! An API server that does exactly what a test tells it: for what a healthy server never does.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use portolan_cluster::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// What the server does next.
pub(crate) enum Step {
    /// Answers one request that is no watch.
    Answer(StatusCode, Value),
    /// Answers one watch with these events, and keeps it open.
    Watch(Vec<Value>),
    /// Answers one watch with these events, and ends it.
    WatchAndEnd(Vec<Value>),
}

/// The server. Dropping it closes every connection.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    requests: Vec<String>,
    open: Vec<mpsc::UnboundedSender<Bytes>>,
}

impl Scripted {
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), steps).await
    }

    /// Starts where another one was before.
    pub(crate) async fn start_at(
        address: SocketAddr,
        steps: impl IntoIterator<Item = Step>,
    ) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        socket.bind(address).expect("the address is free");
        let listener = socket.listen(16).expect("can listen");
        let address = listener.local_addr().expect("is bound");
        let script = Script { steps: steps.into_iter().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&script)));
        Self { address, script, _tasks: tasks }
    }

    /// A client of this server.
    pub(crate) async fn client(&self) -> Client {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        write!(
            file,
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: 'http://{}'}}}}]\n\
             users: [{{name: test, user: {{}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address
        )
        .expect("can write");
        Client::from_kubeconfig(file.path()).await.expect("is a good kubeconfig")
    }

    /// Path, query and method of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.script.lock().expect("nobody panicked").requests.clone()
    }
}

/// A list of objects.
pub(crate) fn list(items: &[Value], resource_version: &str, more: &str) -> Step {
    let metadata = json!({ "resourceVersion": resource_version, "continue": more });
    let body = json!({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": items});
    Step::Answer(StatusCode::OK, body)
}

/// A failure as Kubernetes tells it.
pub(crate) fn failure(code: u16, reason: &str) -> Step {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "no", "reason": reason, "code": code,
    });
    Step::Answer(StatusCode::from_u16(code).expect("is a code"), body)
}

/// A pod, as a list holds it.
pub(crate) fn pod(name: &str, resource_version: &str) -> Value {
    json!({"metadata": {
        "name": name, "namespace": "default", "uid": name, "resourceVersion": resource_version,
    }})
}

/// A watch event.
pub(crate) fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

async fn accept(listener: TcpListener, script: Arc<Mutex<Script>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let script = Arc::clone(&script);
        connections.spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let response = respond(&script, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let io = TokioIo::new(stream);
            let builder = hyper::server::conn::http1::Builder::new();
            drop(builder.serve_connection(io, service).await);
        });
    }
}

fn respond(
    script: &Mutex<Script>,
    request: &Request<Incoming>,
) -> Response<BoxBody<Bytes, Infallible>> {
    let mut script = script.lock().expect("nobody panicked");
    script.requests.push(format!("{} {}", request.method(), request.uri()));
    let (status, body) = match script.steps.pop_front() {
        Some(Step::Answer(status, body)) => {
            (status, Full::new(Bytes::from(body.to_string())).boxed())
        }
        Some(Step::Watch(events)) => {
            let (sender, body) = stream(events);
            script.open.push(sender);
            (StatusCode::OK, body)
        }
        Some(Step::WatchAndEnd(events)) => (StatusCode::OK, stream(events).1),
        // The script is over: keep the client waiting.
        None => {
            let (sender, body) = stream(Vec::new());
            script.open.push(sender);
            (StatusCode::OK, body)
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}

fn stream(events: Vec<Value>) -> (mpsc::UnboundedSender<Bytes>, BoxBody<Bytes, Infallible>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    for event in events {
        sender.send(Bytes::from(format!("{event}\n"))).expect("the receiver is below");
    }
    let frames = futures::stream::unfold(receiver, |mut receiver| async move {
        let bytes: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(bytes)), receiver))
    });
    (sender, BodyExt::boxed(StreamBody::new(frames.map(|frame| frame))))
}
