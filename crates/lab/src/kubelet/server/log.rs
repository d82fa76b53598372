//! `containerLogs`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::query::Query;
use super::{Body, text};
use crate::kubelet::container::Runner;
use crate::kubelet::logs::{Line, Lines};

/// Chunks that may wait for a slow reader.
const QUEUE: usize = 8;

/// What is asked for.
struct Wanted {
    follow: bool,
    timestamps: bool,
    since: Option<Timestamp>,
    limit: Option<u64>,
}

/// Answers with a container's log.
///
/// # Errors
/// In the words that kubectl shows.
pub(super) fn serve(runner: &Runner, pod: &str, query: &Query) -> Result<Response<Body>, String> {
    let previous = query.is_on("previous");
    let name = &runner.spec.name;
    let Some(log) = runner.log(previous) else {
        return Err(if previous {
            format!("previous terminated container {name:?} in pod {pod:?} not found")
        } else {
            format!(
                "container {name:?} in pod {pod:?} is waiting to start: {}",
                runner.waiting_reason()
            )
        });
    };
    let seconds = query.number("sinceSeconds")?.and_then(|seconds| i64::try_from(seconds).ok());
    let since = match (query.get("sinceTime"), seconds) {
        (Some(time), _) => {
            Some(time.parse().map_err(|_| format!("sinceTime {time:?} is not a time"))?)
        }
        (None, Some(seconds)) => {
            Timestamp::from_second(Timestamp::now().as_second().saturating_sub(seconds)).ok()
        }
        (None, None) => None,
    };
    let wanted = Wanted {
        follow: query.is_on("follow"),
        timestamps: query.is_on("timestamps"),
        since,
        limit: query.number("limitBytes")?,
    };
    let tail = query.number("tailLines")?.map(|tail| usize::try_from(tail).unwrap_or(usize::MAX));
    let lines = log.read(tail).map_err(|error| format!("could not read the log: {error}"))?;
    let (send, receive) = mpsc::channel(QUEUE);
    tokio::task::spawn_local(copy(lines, wanted, send));
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = Chunks(receive).boxed_unsync();
    Ok(response)
}

async fn copy(mut lines: Lines, wanted: Wanted, send: mpsc::Sender<Result<Bytes, std::io::Error>>) {
    let mut left = wanted.limit.unwrap_or(u64::MAX);
    loop {
        let mut chunk = Vec::new();
        let more = loop {
            match lines.next() {
                Ok(Some(line)) => wanted.add(&line, &mut chunk),
                Ok(None) => break wanted.follow,
                Err(error) => {
                    // A reader that has gone away needs no answer.
                    let _ = send.send(Err(error)).await;
                    return;
                }
            }
            if chunk.len() >= 32 << 10 {
                break true;
            }
        };
        chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= chunk.len() as u64;
        let waits = chunk.is_empty();
        if !waits && send.send(Ok(chunk.into())).await.is_err() {
            return;
        }
        if !more || left == 0 {
            return;
        }
        if waits {
            let grown = tokio::select! {
                grown = lines.wait() => grown,
                () = send.closed() => return,
            };
            if !grown && !matches!(lines.peek(), Ok(true)) {
                return;
            }
        }
    }
}

impl Wanted {
    fn add(&self, line: &Line, chunk: &mut Vec<u8>) {
        let time = || line.time.parse::<Timestamp>().ok();
        if self.since.is_some_and(|since| time().is_some_and(|time| time < since)) {
            return;
        }
        if self.timestamps {
            chunk.extend(line.time.as_bytes());
            chunk.push(b' ');
        }
        chunk.extend(&line.text);
    }
}

/// A body of chunks as they come.
struct Chunks(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)).map(|chunk| chunk.map(Frame::data)))
    }
}
