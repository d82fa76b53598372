//! `meta.k8s.io` Tables: the columns and cells that `kubectl get` prints.

use std::borrow::Cow;

use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::{self, Failure};

use super::push_partial;
use crate::api::Stored;

/// `includeObject`: what of the object goes with its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Include {
    /// Its metadata, the default.
    Metadata,
    /// All of it.
    Object,
    /// Nothing.
    None,
}

impl Include {
    /// Parses the query value.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "Object" => Ok(Self::Object),
            "None" => Ok(Self::None),
            _ => Err(status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must \
                 be 'Metadata', 'Object', 'None', or empty",
                status::quote(text)
            ))),
        }
    }
}

/// The text up to `metadata`. Later frames of a watch show no columns.
pub(super) fn head(row: &Kind, version: &str, with_columns: bool) -> Vec<u8> {
    let columns = if with_columns {
        Value::Array(row.columns().iter().map(column).collect())
    } else {
        Value::Null
    };
    format!(
        "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\
         \"columnDefinitions\":{columns},"
    )
    .into_bytes()
}

/// Appends the row of one object. `now` is microseconds since the epoch.
pub(super) fn push_row(
    out: &mut Vec<u8>,
    row: &Kind,
    version: &str,
    include: Include,
    object: &Stored,
    now: i64,
) -> Result<(), Failure> {
    let cells = Value::Array(row.cells(&*value(object)?, now));
    out.extend_from_slice(format!("{{\"cells\":{cells},\"object\":").as_bytes());
    match include {
        Include::Metadata => push_partial(out, version, &object.json),
        Include::Object => out.extend_from_slice(&object.json),
        Include::None => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
    Ok(())
}

fn column(column: &wire::kinds::Column<'_>) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format,
        "description": column.description, "priority": column.priority,
    })
}

/// The parsed object.
fn value(object: &Stored) -> Result<Cow<'_, Value>, Failure> {
    match &object.value {
        Some(value) => Ok(Cow::Borrowed(value)),
        None => serde_json::from_slice(&object.json)
            .map(Cow::Owned)
            .map_err(|error| super::unreadable(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_include_is_refused_with_the_real_words() {
        let failure = Include::parse("Foo").unwrap_err();
        assert_eq!(
            failure.message,
            "Unable to convert to Table as requested: includeObject: Invalid value: \"Foo\": must \
             be 'Metadata', 'Object', 'None', or empty"
        );
    }
}
