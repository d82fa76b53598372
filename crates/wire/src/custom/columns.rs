//! `additionalPrinterColumns`: what `kubectl get` shows of custom resources (CR9).

use serde_json::Value;

use super::CustomKind;
use crate::jsonpath::JsonPath;
use crate::kinds::{Column, NAME_COLUMN, age};
use crate::rules::fields::Fields;

#[derive(Debug)]
pub(super) struct PrinterColumn {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i32,
    path: Option<JsonPath>,
}

/// The columns behind the name; the age when none are declared.
pub(super) fn parse(columns: &[Value]) -> Vec<PrinterColumn> {
    if columns.is_empty() {
        return vec![PrinterColumn {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: "Time since the object was created.".to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        }];
    }
    let column = |column: &Value| PrinterColumn {
        name: column.text("/name").to_owned(),
        kind: column.text("/type").to_owned(),
        format: column.text("/format").to_owned(),
        description: match column.text("/description") {
            "" => {
                let path = column.text("/jsonPath");
                format!("Custom resource definition column (in JSONPath format): {path}")
            }
            text => text.to_owned(),
        },
        priority: i32::try_from(column.int("/priority")).unwrap_or(0),
        path: JsonPath::parse(column.text("/jsonPath")).ok(),
    };
    columns.iter().map(column).collect()
}

impl CustomKind {
    /// Columns of `kubectl get`.
    pub fn columns(&self) -> Vec<Column<'_>> {
        let own = self.columns.iter().map(|column| Column {
            name: &column.name,
            kind: &column.kind,
            format: &column.format,
            description: &column.description,
            priority: column.priority,
        });
        std::iter::once(NAME_COLUMN).chain(own).collect()
    }

    /// Cells of one row. `now` is microseconds since the epoch.
    pub fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        let own = self.columns.iter().map(|column| {
            let value = column.path.as_ref().and_then(|path| path.find(object));
            value.map_or(Value::Null, |value| cell(&column.kind, value, now))
        });
        std::iter::once(object.text("/metadata/name").into()).chain(own).collect()
    }
}

/// A value as its column shows it; null when it is not of the column's type.
fn cell(kind: &str, value: &Value, now: i64) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => {
            #[expect(clippy::cast_possible_truncation, reason = "an integer column cuts fractions")]
            let whole = || number.as_f64().map(|number| number as i64);
            number.as_i64().or_else(whole).map_or(Value::Null, Value::from)
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match age::since(text, now).as_str() {
            "<unknown>" => "<invalid>".into(),
            age => age.into(),
        },
        _ => Value::Null,
    }
}
