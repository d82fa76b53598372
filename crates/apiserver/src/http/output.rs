//! Answers of the registry as responses.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::Response;
use serde_json::Value;
use wire::status::{self, Failure};

use super::gzip;
use super::negotiate::Format;
use super::reply::{self, Body};
use super::server::Server;
use crate::api::{Answer, WatchEvent};
use crate::audit::Draft;
use crate::encode::Encoder;

/// Encodes an answer. `format` is that of failures; `gzip` tells whether the client accepts it.
pub(crate) fn respond(
    server: &Arc<Server>,
    answer: Answer,
    encoder: Encoder,
    format: Format,
    gzip: bool,
) -> (Response<Body>, Vec<String>) {
    match answer {
        Answer::Object { code, object, warnings } => {
            let content_type = encoder.content_type();
            let response = encoder
                .object(&object)
                .map(|body| gzip::answer(code, content_type, std::iter::once(body), gzip));
            (or_failure(response, format), warnings)
        }
        Answer::List { items, resource_version, more } => {
            let content_type = encoder.content_type();
            let response = encoder
                .list(items, resource_version, more)
                .map(|pieces| gzip::answer(200, content_type, pieces, gzip));
            (or_failure(response, format), Vec::new())
        }
        Answer::Watch(_) if server.has_most_watches() => {
            let failure = status::too_many_requests("Too many watches, please try again later.", 1);
            (reply::failure(&failure, format), Vec::new())
        }
        Answer::Watch(events) => (watch(server, events, encoder), Vec::new()),
        Answer::Failure(failure, warnings) => (reply::failure(&failure, format), warnings),
    }
}

/// Tells the audit log what is answered, in JSON: a `Status` always, other objects and lists when
/// it wants bodies. Failures are told by [`reply::failure`].
pub(crate) fn tell(
    draft: &mut Draft,
    answer: &Answer,
    encoder: impl FnOnce() -> Result<Encoder, Failure>,
) {
    let wanted = draft.wants_response_body();
    let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    match answer {
        Answer::Object { object, .. } if object.value()["kind"] == "Status" => {
            draft.status(&object.value());
        }
        Answer::Object { object, .. } if wanted => {
            let encoded = encoder().and_then(|encoder| encoder.object(object)).ok();
            encoded
                .and_then(|json| parse(&json))
                .into_iter()
                .for_each(|it| draft.response_body(it));
        }
        Answer::List { items, resource_version, more } if wanted => {
            let encoded = encoder()
                .and_then(|encoder| encoder.list(items.clone(), *resource_version, more.clone()));
            let whole: Option<Vec<u8>> =
                encoded.ok().map(|pieces| pieces.into_iter().flatten().collect());
            whole.and_then(|json| parse(&json)).into_iter().for_each(|it| draft.response_body(it));
        }
        _ => {}
    }
}

/// A stream of frames that ends with the watch, or with the server.
fn watch(
    server: &Arc<Server>,
    events: BoxStream<'static, WatchEvent>,
    mut encoder: Encoder,
) -> Response<Body> {
    let content_type = encoder.stream_type();
    let counted = server.metrics.count_watch();
    let frames = events
        .take_until(Box::pin(server.drained()))
        .map(move |event| {
            let _ = &counted;
            encoder.event(&event).unwrap_or_else(|failure| {
                let error = WatchEvent::Error(failure);
                encoder.event(&error).unwrap_or_else(|_| Bytes::new())
            })
        })
        .filter(|frame| std::future::ready(!frame.is_empty()));
    reply::stream(200, content_type, frames)
}

fn or_failure(response: Result<Response<Body>, Failure>, format: Format) -> Response<Body> {
    response.unwrap_or_else(|failure| reply::failure(&failure, format))
}
