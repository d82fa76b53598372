//! A watch that is read while other requests are made.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::client::{Answer, Client};
use super::shape::shape;

/// A stream being read; ends with the value.
pub(crate) struct Watch {
    reading: JoinHandle<Result<Result<Vec<Value>, Answer>, String>>,
}

impl Watch {
    /// Opens a stream; returns when the server has begun to answer.
    pub(crate) async fn start(client: &Client, mut step: Value) -> Result<Self, String> {
        let seconds = step["watch"]["seconds"].as_f64().unwrap_or(4.0);
        if step["query"].is_object() {
            let default = |query: &mut Value, key: &str, value: String| {
                if query[key].is_null() {
                    query[key] = value.into();
                }
            };
            default(&mut step["query"], "watch", "true".to_owned());
            default(&mut step["query"], "timeoutSeconds", format!("{seconds:.0}"));
        }
        let end = Instant::now() + Duration::from_secs_f64(seconds);
        let response = client.open(&step, None).await?;
        let reading = tokio::spawn(async move {
            let (parts, body) = response.into_parts();
            if parts.status != 200 {
                let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
                return Ok(Err(Answer::new(parts.status.as_u16(), &parts.headers, body.to_vec())));
            }
            read(body, &step, end).await.map(Ok)
        });
        Ok(Self { reading })
    }

    /// The events, or the answer when it was no stream.
    pub(crate) async fn finish(mut self) -> Result<Result<Vec<Value>, Answer>, String> {
        (&mut self.reading).await.map_err(|error| error.to_string())?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Reads until the server ends the stream, the time is over, or enough has come.
async fn read(mut body: Body, step: &Value, mut end: Instant) -> Result<Vec<Value>, String> {
    let enough = step["watch"]["stopAfter"].as_u64().and_then(|count| usize::try_from(count).ok());
    let keeps_bookmarks = step["watch"]["bookmarks"] == "keep";
    let (mut events, mut buffer) = (Vec::new(), Vec::new());
    while let Ok(Some(frame)) = timeout_at(end, body.frame()).await {
        let frame = frame.map_err(|error| error.to_string())?;
        buffer.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(length) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=length).collect();
            let event: Value = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
            if !is_left_out(&event, events.last(), keeps_bookmarks) {
                events.push(event);
            }
            if enough.is_some_and(|enough| events.len() >= enough) {
                // A moment for anything that should not come.
                end = end.min(Instant::now() + Duration::from_millis(500));
            }
        }
    }
    Ok(events.into_iter().map(|event| shown(event, step)).collect())
}

/// Bookmarks other than the one after the initial events count once, if at all.
fn is_left_out(event: &Value, last: Option<&Value>, keeps_bookmarks: bool) -> bool {
    let is_plain = |event: &Value| {
        event["type"] == "BOOKMARK"
            && event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"].is_null()
    };
    is_plain(event) && (!keeps_bookmarks || last.is_some_and(is_plain))
}

fn shown(event: Value, step: &Value) -> Value {
    let object = &event["object"];
    let object = if event["type"] == "BOOKMARK" {
        let metadata = &object["metadata"];
        json!({
            "kind": object["kind"], "apiVersion": object["apiVersion"],
            "metadata": {
                "annotations": metadata["annotations"],
                "resourceVersion": metadata["resourceVersion"],
            },
        })
    } else {
        shape(
            object,
            &json!({
                "pick": step["pick"], "ignore": step["ignore"], "sort": step["sort"],
            }),
        )
    };
    json!({ "type": event["type"], "object": object })
}
