//! Passing a request on, and its answer back: plain, or upgraded to a stream of bytes.

use std::sync::Arc;

use futures::StreamExt;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use wire::status::{self, Failure};

use super::dial::{Place, unreachable};
use crate::http::Server;
use crate::http::reply::Body;

/// Whether the client wants to change the protocol.
pub(super) fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named = connection
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    named && headers.contains_key(UPGRADE)
}

/// Sends the request to a place, for this `Host`, under another path and gives the answer as it
/// comes. When both
/// sides agree to an upgrade, their bytes are passed on until one ends, or the server does.
pub(super) async fn forward(
    server: &Arc<Server>,
    mut sender: SendRequest<Body>,
    (place, host): (&Place, &str),
    mut request: Request<Incoming>,
    path_and_query: &str,
) -> Result<Response<Body>, Failure> {
    let upgrading = wants_upgrade(request.headers()).then(|| upgrade::on(&mut request));
    let outgoing = outgoing(request, host, path_and_query, upgrading.is_some())?;
    let mut response =
        sender.send_request(outgoing).await.map_err(|error| unreachable(place, &error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = upgrading else {
            return Err(status::internal("the backend changed the protocol unasked"));
        };
        let backend = upgrade::on(&mut response);
        tokio::spawn(pass(server.clone(), client, backend));
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, empty()));
    }
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers, false);
    Ok(Response::from_parts(head, stream(server, body)))
}

/// A body that is passed on frame by frame and ends with the server.
pub(super) fn stream(server: &Server, body: Incoming) -> Body {
    let frames = BodyStream::new(body)
        .map(|frame| frame.map_err(std::io::Error::other))
        .take_until(Box::pin(server.drained()));
    BodyExt::boxed_unsync(StreamBody::new(frames))
}

/// No body.
pub(super) fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn outgoing(
    request: Request<Incoming>,
    host: &str,
    path_and_query: &str,
    upgrading: bool,
) -> Result<Request<Body>, Failure> {
    let (mut head, body) = request.into_parts();
    head.uri = path_and_query
        .parse::<Uri>()
        .map_err(|error| status::bad_request(format!("cannot proxy to this path: {error}")))?;
    head.version = http::Version::HTTP_11;
    strip(&mut head.headers, upgrading);
    // Credentials are for this server, not for those behind it.
    head.headers.remove(AUTHORIZATION);
    let impersonates = |name: &&HeaderName| name.as_str().starts_with("impersonate-");
    let impersonating: Vec<HeaderName> =
        head.headers.keys().filter(impersonates).cloned().collect();
    for name in impersonating {
        head.headers.remove(name);
    }
    let host =
        HeaderValue::from_str(host).map_err(|error| status::bad_request(error.to_string()))?;
    head.headers.insert(HOST, host);
    let body = if upgrading {
        empty()
    } else {
        BodyExt::boxed_unsync(body.map_err(std::io::Error::other))
    };
    Ok(Request::from_parts(head, body))
}

/// Removes what concerns one connection only (RFC 9110 7.6.1), but for an upgrade.
fn strip(headers: &mut HeaderMap, upgrading: bool) {
    if upgrading {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    headers.remove(HeaderName::from_static("keep-alive"));
}

async fn pass(server: Arc<Server>, client: OnUpgrade, backend: OnUpgrade) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "upgrade failed");
            return;
        }
    };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    tokio::select! {
        () = server.drained() => {}
        passed = tokio::io::copy_bidirectional(&mut client, &mut backend) => {
            if let Err(error) = passed {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "upgraded connection broke");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn an_upgrade_is_named_twice() {
        let both = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert!(wants_upgrade(&both));
        assert!(!wants_upgrade(&headers(&[("upgrade", "websocket")])));
        assert!(!wants_upgrade(&headers(&[("connection", "upgrade")])));
    }

    #[test]
    fn what_concerns_one_connection_is_not_passed_on() {
        let mut all = headers(&[
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("transfer-encoding", "chunked"),
            ("accept", "*/*"),
        ]);
        strip(&mut all, false);
        assert_eq!(all, headers(&[("accept", "*/*")]));
    }
}
