//! Answers as HTTP responses.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use wire::status::Failure;

use super::negotiate::Format;
use crate::encode;

/// Body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// All of the body at once.
pub(crate) fn bytes(code: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(never).boxed_unsync();
    response(code, content_type, body)
}

/// Plain text.
pub(crate) fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = bytes(code, "text/plain; charset=utf-8", body);
    let nosniff = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(nosniff, HeaderValue::from_static("nosniff"));
    response
}

/// What kube-apiserver says when it has too much to do.
pub(crate) fn too_many_requests() -> Response<Body> {
    let mut response = text(429, "Too many requests, please try again later.\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A path that nothing is served at.
pub(crate) fn not_found() -> Response<Body> {
    text(404, "404 page not found\n")
}

/// A `Status`, in the encoding that the client asked for. The audit log finds the failure among
/// the response's extensions.
pub(crate) fn failure(failure: &Failure, format: Format) -> Response<Body> {
    let json = Bytes::from(failure.to_value().to_string());
    let (format, body) = match encode::render(format, json.clone()) {
        Ok(body) => (format, body),
        Err(_) => (Format::Json, json),
    };
    let mut response = bytes(failure.code, format.content_type(), body);
    response.extensions_mut().insert(failure.clone());
    if let Some(seconds) = failure.details["retryAfterSeconds"].as_u64() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A body that comes piece by piece.
pub(crate) fn stream(
    code: u16,
    content_type: &str,
    pieces: impl Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let frames = pieces.map(|piece| Ok::<_, std::io::Error>(Frame::data(piece)));
    response(code, content_type, BodyExt::boxed_unsync(StreamBody::new(frames)))
}

/// Adds `Warning` headers (RFC 7234 5.5, code 299), each text once.
pub(crate) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for (index, warning) in warnings.iter().enumerate() {
        if warnings[..index].contains(warning) {
            continue;
        }
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        // Control characters cannot stand in a header, and say nothing in a warning.
        let text: String = quoted.chars().filter(|char| !char.is_control()).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

fn response(code: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn never(error: Infallible) -> std::io::Error {
    match error {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_quoted_and_comes_once() {
        let mut response = not_found();
        let warning = "unknown field \"a\"\n".to_owned();
        warn(&mut response, &[warning.clone(), warning]);
        let headers: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(headers, ["299 - \"unknown field \\\"a\\\"\""]);
    }

    #[test]
    fn a_failure_tells_when_to_come_back() {
        let response = failure(&wire::status::too_many_requests("busy", 3), Format::Json);
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[RETRY_AFTER], "3");
    }
}
