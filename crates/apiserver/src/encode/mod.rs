//! From stored objects to the bytes that a client asked for.
//!
//! What it is: the shapes (object, list, `Table`, `PartialObjectMetadata`, watch event) in the
//! encodings (JSON, YAML, protobuf). Stored JSON is cut and joined as text, because lists are long
//! and are nearly always asked for as JSON; only Tables look inside, and only other encodings
//! parse the whole.
//!
//! ```text
//!  Stored ─ shape ─▶ JSON text ─ render ─▶ bytes (as they are, indented, YAML, protobuf)
//! ```

mod raw;
mod table;

use bytes::Bytes;
use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::{self, Failure};

use crate::api::{More, Stored, WatchEvent};
use crate::http::negotiate::{Format, Negotiated, Shape};
use crate::http::query::Query;
use table::Include;

/// Encodes answers of one kind for one client.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    row: Kind,
    format: Format,
    shape: Shape,
    include: Include,
    /// Microseconds since the epoch, for ages in Tables.
    clock: fn() -> i64,
    /// Whether a Table of this watch has shown its columns already.
    columns_sent: bool,
}

impl Encoder {
    /// For a kind and what was negotiated.
    pub(crate) fn new(row: Kind, negotiated: Negotiated, query: &Query) -> Result<Self, Failure> {
        let include = match negotiated.shape {
            Shape::Table(_) => Include::parse(query.get("includeObject").unwrap_or_default())?,
            _ => Include::Metadata,
        };
        let clock = || jiff::Timestamp::now().as_microsecond();
        let Negotiated { format, shape } = negotiated;
        Ok(Self { row, format, shape, include, clock, columns_sent: false })
    }

    /// The Content-Type of an answer that is no watch.
    pub(crate) fn content_type(&self) -> &'static str {
        self.format.content_type()
    }

    /// The Content-Type of a watch.
    pub(crate) fn stream_type(&self) -> &'static str {
        self.format.stream_type()
    }

    /// One object. One of another kind (a `Status`, a `Scale`) has no other shape than its own.
    pub(crate) fn object(&self, object: &Stored) -> Result<Bytes, Failure> {
        if !self.is_own_kind(&object.json) {
            return render(self.format, object.json.clone());
        }
        match self.shape {
            Shape::PartialList(_) => Err(status::not_acceptable_because(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list \
                 ({})",
                go_type(self.row.group(), self.row.kind())
            ))),
            _ => render(self.format, self.shaped(object, true)?),
        }
    }

    /// A list, in pieces of some 64 KiB.
    pub(crate) fn list(
        self,
        items: Vec<Stored>,
        resource_version: u64,
        more: Option<More>,
    ) -> Result<Pieces, Failure> {
        if let Shape::Partial(_) = self.shape {
            return Err(status::not_acceptable_because(format!(
                "you requested PartialObjectMetadata, but the requested object is a list ({})",
                go_type(self.row.group(), &self.row.list_kind())
            )));
        }
        let format = self.format;
        let mut pieces =
            Pieces::of_list(self.list_head(resource_version, more), items.into_iter(), self);
        if format == Format::Json {
            return Ok(pieces);
        }
        let mut text = Vec::new();
        for piece in &mut pieces {
            text.extend_from_slice(&piece);
        }
        render(format, text.into()).map(Pieces::of_one)
    }

    /// One frame of a watch.
    pub(crate) fn event(&mut self, event: &WatchEvent) -> Result<Bytes, Failure> {
        let (kind, text) = match event {
            WatchEvent::Added(object) => ("ADDED", self.watched(object)?),
            WatchEvent::Modified(object) => ("MODIFIED", self.watched(object)?),
            WatchEvent::Deleted(object) => ("DELETED", self.watched(object)?),
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                let object = self.bookmark(*resource_version, *initial_events_end);
                ("BOOKMARK", self.watched(&object)?)
            }
            WatchEvent::Error(failure) => ("ERROR", failure.to_value().to_string().into()),
        };
        frame(self.format, kind, &text)
    }

    fn watched(&mut self, object: &Stored) -> Result<Bytes, Failure> {
        let text = self.shaped(object, !self.columns_sent)?;
        self.columns_sent = true;
        Ok(text)
    }

    fn shaped(&self, object: &Stored, with_columns: bool) -> Result<Bytes, Failure> {
        match self.shape {
            Shape::Object => Ok(object.json.clone()),
            Shape::Partial(version) | Shape::PartialList(version) => {
                let mut out = Vec::new();
                push_partial(&mut out, version, &object.json);
                Ok(out.into())
            }
            Shape::Table(version) => {
                let metadata = raw::field(&object.json, "metadata").unwrap_or(b"{}");
                let resource_version = raw::field(metadata, "resourceVersion").unwrap_or(b"\"\"");
                let mut out = table::head(&self.row, version, with_columns);
                out.extend_from_slice(b"\"metadata\":{\"resourceVersion\":");
                out.extend_from_slice(resource_version);
                out.extend_from_slice(b"},\"rows\":[");
                table::push_row(
                    &mut out,
                    &self.row,
                    version,
                    self.include,
                    object,
                    (self.clock)(),
                )?;
                out.extend_from_slice(b"]}");
                Ok(out.into())
            }
        }
    }

    /// The list's text up to its first item.
    fn list_head(&self, resource_version: u64, more: Option<More>) -> Vec<u8> {
        let mut metadata = json!({ "resourceVersion": resource_version.to_string() });
        if let Some(more) = more {
            metadata["continue"] = more.token.into();
            if let Some(remaining) = more.remaining {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let (kind, api_version) = match self.shape {
            Shape::Table(version) => {
                let mut head = table::head(&self.row, version, true);
                head.extend_from_slice(format!("\"metadata\":{metadata},\"rows\":[").as_bytes());
                return head;
            }
            Shape::Partial(version) | Shape::PartialList(version) => {
                ("PartialObjectMetadataList".to_owned(), format!("meta.k8s.io/{version}"))
            }
            Shape::Object => (self.row.list_kind(), self.row.api_version()),
        };
        format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\"metadata\":{metadata},\
             \"items\":["
        )
        .into_bytes()
    }

    fn push_item(&self, out: &mut Vec<u8>, object: &Stored) -> Result<(), Failure> {
        match self.shape {
            Shape::Object => raw::push_without_type(out, &object.json),
            Shape::Partial(version) | Shape::PartialList(version) => {
                push_partial(out, version, &object.json);
            }
            Shape::Table(version) => {
                let now = (self.clock)();
                table::push_row(out, &self.row, version, self.include, object, now)?;
            }
        }
        Ok(())
    }

    fn bookmark(&self, resource_version: u64, initial_events_end: bool) -> Stored {
        let mut metadata = json!({ "resourceVersion": resource_version.to_string() });
        if initial_events_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({
            "kind": self.row.kind(), "apiVersion": self.row.api_version(), "metadata": metadata,
        });
        Stored { json: object.to_string().into(), value: None }
    }

    fn is_own_kind(&self, json: &[u8]) -> bool {
        raw::field(json, "kind").is_some_and(|kind| {
            kind.strip_prefix(b"\"").and_then(|kind| kind.strip_suffix(b"\""))
                == Some(self.row.kind().as_bytes())
        })
    }
}

/// The text of an answer, piece by piece.
pub(crate) struct Pieces {
    head: Option<Vec<u8>>,
    items: std::vec::IntoIter<Stored>,
    /// `None` when the head is all there is.
    encoder: Option<Encoder>,
    first: bool,
}

impl Pieces {
    fn of_list(head: Vec<u8>, items: std::vec::IntoIter<Stored>, encoder: Encoder) -> Self {
        Self { head: Some(head), items, encoder: Some(encoder), first: true }
    }

    fn of_one(text: Bytes) -> Self {
        Self { head: Some(text.into()), items: Vec::new().into_iter(), encoder: None, first: true }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let head = self.head.take();
        if self.encoder.is_none() {
            return head.map(Bytes::from);
        }
        let mut out = head.unwrap_or_default();
        while out.len() < PIECE {
            let Some(object) = self.items.next() else {
                out.extend_from_slice(b"]}");
                self.encoder = None;
                break;
            };
            let before = out.len();
            if !self.first {
                out.push(b',');
            }
            // An object that cannot be shown is left out: it may not take the list with it.
            match self.encoder.as_ref().map(|encoder| encoder.push_item(&mut out, &object)) {
                Some(Ok(())) => self.first = false,
                _ => out.truncate(before),
            }
        }
        Some(out.into())
    }
}

/// JSON text in another encoding.
pub(crate) fn render(format: Format, text: Bytes) -> Result<Bytes, Failure> {
    if format == Format::Json {
        return Ok(text);
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| unreadable(&error))?;
    match format {
        Format::Json | Format::IndentedJson => {
            serde_json::to_vec_pretty(&value).map(Bytes::from).map_err(|error| unreadable(&error))
        }
        Format::Yaml => {
            serde_saphyr::to_string(&value).map(Bytes::from).map_err(|error| unreadable(&error))
        }
        Format::Protobuf => {
            wire::protobuf::encode(&value).map(Bytes::from).map_err(|error| unreadable(&error))
        }
    }
}

fn frame(format: Format, kind: &str, object: &[u8]) -> Result<Bytes, Failure> {
    let parsed = || serde_json::from_slice::<Value>(object).map_err(|error| unreadable(&error));
    match format {
        Format::Json | Format::IndentedJson => {
            let mut out = Vec::with_capacity(object.len() + 40);
            out.extend_from_slice(b"{\"type\":\"");
            out.extend_from_slice(kind.as_bytes());
            out.extend_from_slice(b"\",\"object\":");
            out.extend_from_slice(object);
            out.extend_from_slice(b"}\n");
            Ok(out.into())
        }
        Format::Yaml => serde_saphyr::to_string(&json!({ "type": kind, "object": parsed()? }))
            .map(|text| Bytes::from(format!("---\n{text}")))
            .map_err(|error| unreadable(&error)),
        Format::Protobuf => wire::protobuf::watch_frame(kind, &parsed()?)
            .map(Bytes::from)
            .map_err(|error| unreadable(&error)),
    }
}

fn push_partial(out: &mut Vec<u8>, version: &str, json: &[u8]) {
    let head = format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{version}\",\
         \"metadata\":"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(raw::field(json, "metadata").unwrap_or(b"{}"));
    out.push(b'}');
}

/// The name of the type in the real server, which some of its texts show.
fn go_type(group: &str, kind: &str) -> String {
    let package = match group.split_once('.') {
        None if group.is_empty() => "core",
        None => group,
        Some((package, _)) => package,
    };
    format!("*{package}.{kind}")
}

fn unreadable(error: &dyn std::error::Error) -> Failure {
    status::internal(&format!("cannot encode the answer: {error}"))
}

const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
