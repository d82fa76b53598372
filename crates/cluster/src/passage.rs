//! What every request passes on its way to the server: the token that a file holds at that moment,
//! and somebody who counts.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use kube::client::Body;

/// One request, and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// HTTP method.
    pub method: Method,
    /// Host and port of the server.
    pub host: Arc<str>,
    /// Status of the answer; `None` when none came.
    pub status: Option<StatusCode>,
    /// Until the head of the answer came.
    pub took: Duration,
    /// Whether the answer goes on for as long as somebody watches.
    pub watch: bool,
}

/// Is told of every request of a client.
pub type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// A bearer token in a file, which whoever issued it replaces before it expires.
///
/// The file is read for every request, as there are few of them: a token that was replaced because
/// the old one is worth nothing any more helps at once. (kube-rs keeps tokens for most of a minute.)
pub(crate) struct TokenFile {
    path: PathBuf,
    /// The last one, for when the file is gone: some remove it once the process has started.
    last: Mutex<HeaderValue>,
}

impl TokenFile {
    /// Reads the first token.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<Self> {
        let last = Mutex::new(read(&path)?);
        Ok(Self { path, last })
    }

    fn header(&self) -> HeaderValue {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok(token) => *last = token,
            Err(error) => {
                let file = self.path.display();
                tracing::warn!(%error, "could not read the token in {file}, using the last one");
            }
        }
        last.clone()
    }
}

fn read(path: &std::path::Path) -> std::io::Result<HeaderValue> {
    let token = std::fs::read_to_string(path)?;
    let header = HeaderValue::try_from(format!("Bearer {}", token.trim()));
    let mut header =
        header.map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The same client, with the token of a file on each request.
pub(crate) fn with_token(kube: kube::Client, token: TokenFile) -> kube::Client {
    let token = Arc::new(token);
    layer(kube, move |kube, mut request| {
        request.headers_mut().insert(AUTHORIZATION, token.header());
        async move { kube.send(request).await }
    })
}

/// The same client, with somebody who is told of each request.
pub(crate) fn observed(kube: kube::Client, host: Arc<str>, observer: Observer) -> kube::Client {
    layer(kube, move |kube, request| {
        let (host, observer) = (Arc::clone(&host), Arc::clone(&observer));
        let (method, watch) = (request.method().clone(), is_watch(request.uri().query()));
        let started = Instant::now();
        async move {
            let answer = kube.send(request).await;
            let status = answer.as_ref().ok().map(Response::status);
            observer(&Exchange { method, host, status, took: started.elapsed(), watch });
            answer
        }
    })
}

fn layer<A>(
    kube: kube::Client,
    send: impl Fn(kube::Client, Request<Body>) -> A + Send + 'static,
) -> kube::Client
where
    A: Future<Output = kube::Result<Response<Body>>> + Send + 'static,
{
    let namespace = kube.default_namespace().to_owned();
    let service = tower::service_fn(move |request| send(kube.clone(), request));
    kube::Client::new(service, namespace)
}

fn is_watch(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| matches!(pair, "watch" | "watch=1" | "watch=true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_anew_and_kept_when_its_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(TokenFile::open(path.clone()).is_err());
        std::fs::write(&path, "one\n").unwrap();
        let token = TokenFile::open(path.clone()).unwrap();
        assert_eq!(token.header(), "Bearer one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(token.header(), "Bearer two");
        assert!(token.header().is_sensitive());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(token.header(), "Bearer two");
    }

    #[test]
    fn watches_are_told_from_lists() {
        assert!(is_watch(Some("limit=5&watch=true")));
        assert!(!is_watch(Some("labelSelector=watch%3Dtrue&limit=5")));
        assert!(!is_watch(None));
    }
}
