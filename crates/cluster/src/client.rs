//! The connection: where the server is, who we are, one request at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use wire::from_model::Call;

use crate::passage::{self, Observer, TokenFile};

/// Content type of all bodies but patches.
pub(crate) const JSON: &str = "application/json";
/// Who we are, also as field manager.
const USER_AGENT: &str = concat!("portolan/", env!("CARGO_PKG_VERSION"));
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one request may take before it counts as failed. Watches are not bound by it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to one API server. Cheap to clone; connections are pooled.
#[derive(Clone)]
pub struct Client {
    pub(crate) kube: kube::Client,
    /// Host and port of the server, for people.
    pub(crate) host: Arc<str>,
}

/// Why there is no [`Client`].
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or names something that is missing.
    #[error("could not read the kubeconfig {}: give the path of a readable kubeconfig", path.display())]
    Kubeconfig {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<kube::config::KubeconfigError>,
    },
    /// Not in a pod, or without a mounted service account.
    #[error("could not use the pod's service account: run in a pod or give a kubeconfig")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// Neither a kubeconfig nor a pod's service account was found.
    #[error(
        "found neither a kubeconfig nor a pod's service account: give --kubeconfig FILE, or set \
         KUBECONFIG"
    )]
    Infer(#[source] Box<kube::config::InferConfigError>),
    /// The URL of the server makes no sense.
    #[error("{url:?} is no URL of an API server, such as https://192.0.2.1:6443")]
    Server {
        /// What was given.
        url: String,
        /// What is wrong with it.
        source: http::uri::InvalidUri,
    },
    /// The file that the configuration names for the bearer token cannot be read.
    #[error("could not read the bearer token in {}", path.display())]
    Token {
        /// Where it is looked for.
        path: PathBuf,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The credentials or certificates in the configuration are unusable.
    #[error("could not set up TLS and credentials from the configuration")]
    Setup(#[source] Box<kube::Error>),
}

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server answered with a `metav1.Status`.
    #[error("{method} {path}: the API server refused: {message}")]
    Status {
        /// HTTP method.
        method: String,
        /// Request path, without the query.
        path: String,
        /// HTTP status code.
        code: u16,
        /// `Status.reason`, such as `NotFound`; may be empty.
        reason: String,
        /// `Status.message`.
        message: String,
        /// `details.retryAfterSeconds`, when the server asks for patience.
        retry_after: Option<Duration>,
    },
    /// The server could not be reached or the connection broke.
    #[error("{method} {path}: no answer from the API server")]
    Transport {
        /// HTTP method.
        method: String,
        /// Request path, without the query.
        path: String,
        /// What went wrong.
        source: Box<kube::Error>,
    },
    /// The server did not answer in time.
    #[error("{method} {path}: no answer from the API server within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// HTTP method.
        method: String,
        /// Request path, without the query.
        path: String,
    },
    /// The answer is not the JSON that was expected.
    #[error("{method} {path}: the answer is not what the API promises")]
    Answer {
        /// HTTP method.
        method: String,
        /// Request path, without the query.
        path: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl RequestError {
    /// HTTP status code, when the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Status { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the object (or the resource type) does not exist: 404 or 410.
    pub fn is_gone(&self) -> bool {
        matches!(self.code(), Some(404 | 410))
    }

    /// Whether the object has changed meanwhile, or exists already: 409.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..=599),
            Self::Transport { .. } | Self::Timeout { .. } => true,
            Self::Answer { .. } => false,
        }
    }
}

impl Client {
    /// From a kubeconfig file, with its current context. Does not connect yet.
    ///
    /// # Errors
    /// When the file cannot be read or its credentials not be used.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self, ConnectError> {
        Self::from_kubeconfig_at(path, None).await
    }

    /// From a kubeconfig file, but with the server at another URL when one is given.
    ///
    /// # Errors
    /// As [`Self::from_kubeconfig`], and when the URL is none.
    pub async fn from_kubeconfig_at(
        path: &Path,
        server: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let failed =
            |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .map_err(failed)?;
        Self::new(moved(config, server)?)
    }

    /// From the service account that Kubernetes mounts into pods.
    ///
    /// # Errors
    /// Outside of a pod, or in one without a service account.
    pub fn in_cluster() -> Result<Self, ConnectError> {
        Self::new(
            kube::Config::incluster().map_err(|error| ConnectError::InCluster(Box::new(error)))?,
        )
    }

    /// From `KUBECONFIG`, `~/.kube/config` or the pod's service account, whichever comes first.
    ///
    /// # Errors
    /// When there is none of them.
    pub async fn infer() -> Result<Self, ConnectError> {
        Self::infer_at(None).await
    }

    /// As [`Self::infer`], but with the server at another URL when one is given.
    ///
    /// # Errors
    /// As [`Self::infer`], and when the URL is none.
    pub async fn infer_at(server: Option<&str>) -> Result<Self, ConnectError> {
        let config = kube::Config::infer().await;
        let config = config.map_err(|error| ConnectError::Infer(Box::new(error)))?;
        Self::new(moved(config, server)?)
    }

    /// Carries out a call that `wire` has put together. The answer is what the server sent: an
    /// object, a list or a `Status`. Follows `if_missing` when the object does not exist.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn request(&self, call: Call) -> Result<Value, RequestError> {
        let mut call = call;
        loop {
            let answer = self
                .exchange(method(call.method), &call.path, call.content_type, Some(&call.body))
                .await;
            match (answer, call.if_missing) {
                (Err(error), Some(instead)) if error.is_gone() => call = *instead,
                (answer, _) => return answer,
            }
        }
    }

    /// GET of a path with its query, such as `/api/v1/nodes/a`.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn get(&self, path: &str) -> Result<Value, RequestError> {
        self.exchange(Method::GET, path, JSON, None).await
    }

    /// One request and its answer. `path` includes the query.
    ///
    /// # Errors
    /// When the server refuses or does not answer within 30 s.
    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, RequestError> {
        let target = Target::new(&method, path);
        let mut request = http::Request::builder().method(method).uri(path);
        let body = match body {
            Some(body) => {
                request = request.header(http::header::CONTENT_TYPE, content_type);
                serde_json::to_vec(body).map_err(|error| target.answer(error))?
            }
            None => Vec::new(),
        };
        let request = request.body(body).map_err(|error| target.answer(error))?;
        match tokio::time::timeout(REQUEST_TIMEOUT, self.kube.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(target.failed(error)),
            Err(_elapsed) => Err(target.timeout()),
        }
    }

    /// The same client; the observer is told of each of its requests from now on.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        let kube = passage::observed(self.kube, Arc::clone(&self.host), observer);
        Self { kube, host: self.host }
    }

    /// Host and port of the server, such as `192.0.2.1:6443`.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn new(mut config: kube::Config) -> Result<Self, ConnectError> {
        // The controllers' own work queues decide when to try again.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let agent = http::HeaderValue::from_static(USER_AGENT);
        config.headers.push((http::header::USER_AGENT, agent));
        let token = token_file(&mut config)?;
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let kube =
            kube::Client::try_from(config).map_err(|error| ConnectError::Setup(Box::new(error)))?;
        let kube = match token {
            Some(token) => passage::with_token(kube, token),
            None => kube,
        };
        Ok(Self { kube, host: host.into() })
    }
}

/// Takes over from kube-rs the file that holds the token. A token in the configuration itself counts
/// more.
fn token_file(config: &mut kube::Config) -> Result<Option<TokenFile>, ConnectError> {
    if config.auth_info.token.is_some() {
        return Ok(None);
    }
    let Some(path) = config.auth_info.token_file.take().map(PathBuf::from) else { return Ok(None) };
    let failed = |source| ConnectError::Token { path: path.clone(), source };
    TokenFile::open(path.clone()).map(Some).map_err(failed)
}

fn moved(mut config: kube::Config, server: Option<&str>) -> Result<kube::Config, ConnectError> {
    if let Some(url) = server {
        let failed = |source| ConnectError::Server { url: url.to_owned(), source };
        config.cluster_url = url.parse().map_err(failed)?;
    }
    Ok(config)
}

fn method(method: wire::from_model::Method) -> Method {
    use wire::from_model::Method as Wire;
    match method {
        Wire::Post => Method::POST,
        Wire::Put => Method::PUT,
        Wire::Patch => Method::PATCH,
        Wire::Delete => Method::DELETE,
    }
}

/// What a request was for, to name it in errors.
pub(crate) struct Target {
    method: String,
    path: String,
}

impl Target {
    pub(crate) fn new(method: &Method, path: &str) -> Self {
        let path = path.split('?').next().unwrap_or_default();
        Self { method: method.to_string(), path: path.to_owned() }
    }

    pub(crate) fn failed(self, error: kube::Error) -> RequestError {
        let Self { method, path } = self;
        match error {
            kube::Error::Api(status) => RequestError::Status {
                method,
                path,
                code: status.code,
                reason: status.reason,
                message: status.message,
                retry_after: status
                    .details
                    .filter(|details| details.retry_after_seconds > 0)
                    .map(|details| Duration::from_secs(details.retry_after_seconds.into())),
            },
            kube::Error::SerdeError(source) => {
                RequestError::Answer { method, path, source: source.into() }
            }
            error => RequestError::Transport { method, path, source: Box::new(error) },
        }
    }

    pub(crate) fn answer(
        &self,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> RequestError {
        let Self { method, path } = self;
        RequestError::Answer { method: method.clone(), path: path.clone(), source: error.into() }
    }

    fn timeout(self) -> RequestError {
        RequestError::Timeout { method: self.method, path: self.path }
    }
}
