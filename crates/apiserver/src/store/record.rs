//! One object in memory: its JSON text and what selectors ask about.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::Value;

use super::Spec;

/// A version of an object. The JSON text is shared by all who read or watch it; no parsed
/// `Value` is kept.
#[derive(Debug)]
pub(crate) struct Record {
    /// `metadata.resourceVersion`, or the version of the deletion.
    pub(crate) version: u64,
    /// The text, kind and apiVersion first.
    pub(crate) json: Bytes,
    /// `metadata.labels`, by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// Selectable fields other than name and namespace.
    fields: Box<[(Cow<'static, str>, Box<str>)]>,
    /// The form in which it was written, see [`Spec::era`].
    pub(crate) era: u32,
}

impl Record {
    /// Gives the object its version and encodes it.
    pub(crate) fn new(spec: &Spec, mut object: Value, version: u64) -> Self {
        // Where forms change, the writer may have known another version or an earlier form.
        let era = if spec.era == 0 { 0 } else { (spec.on_load)(&mut object) };
        Self::of_era(spec, object, version, era)
    }

    /// An object that was written before this process, or before its resource was given another
    /// form.
    pub(super) fn loaded(spec: &Spec, mut object: Value, version: u64) -> Self {
        let era = (spec.on_load)(&mut object);
        Self::of_era(spec, object, version, era)
    }

    fn of_era(spec: &Spec, mut object: Value, version: u64, era: u32) -> Self {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), version.to_string().into());
        }
        Self {
            version,
            json: encode(&spec.kind, &spec.api_version, &object),
            labels: labels(&object),
            fields: (spec.fields)(&object)
                .into_iter()
                .map(|(field, value)| (field, value.into_boxed_str()))
                .collect(),
            era,
        }
    }

    /// The same object with another version.
    pub(crate) fn with_version(&self, spec: &Spec, version: u64) -> Self {
        Self::of_era(spec, self.value(), version, self.era)
    }

    /// The parsed object.
    pub(crate) fn value(&self) -> Value {
        // The text was made by `encode` or parsed on load.
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// A label.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let position = self.labels.binary_search_by(|(label, _)| (**label).cmp(key)).ok()?;
        Some(&self.labels[position].1)
    }

    /// A selectable field; a field the object lacks is empty.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    }
}

/// The JSON text of an object: kind and apiVersion first, so that a list can cut them off.
pub(crate) fn encode(kind: &str, api_version: &str, object: &Value) -> Bytes {
    let mut text = Vec::with_capacity(1024);
    text.extend_from_slice(br#"{"kind":""#);
    text.extend_from_slice(kind.as_bytes());
    text.extend_from_slice(br#"","apiVersion":""#);
    text.extend_from_slice(api_version.as_bytes());
    text.push(b'"');
    for (name, value) in object.as_object().into_iter().flatten() {
        if name == "kind" || name == "apiVersion" {
            continue;
        }
        text.extend_from_slice(b",");
        // Writing a Value to memory cannot fail: its keys are strings.
        drop(serde_json::to_writer(&mut text, name));
        text.push(b':');
        drop(serde_json::to_writer(&mut text, value));
    }
    text.push(b'}');
    text.into()
}

fn labels(object: &Value) -> Box<[(Box<str>, Box<str>)]> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let mut labels: Vec<(Box<str>, Box<str>)> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
        .collect();
    labels.sort();
    labels.into_boxed_slice()
}
