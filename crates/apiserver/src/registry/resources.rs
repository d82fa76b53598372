//! The served kinds as the store knows them.

use std::sync::Arc;

use serde_json::Value;
use wire::kinds::{Env, KindRow, kinds};
use wire::schema::Gvk;

use crate::api::Stored;
use crate::store::{Key, Record, Spec, encode};

/// Every kind that has objects of its own, in a fixed order: the position is the store's
/// resource number.
pub(crate) struct Resources {
    rows: Vec<&'static KindRow>,
    specs: Vec<Arc<Spec>>,
}

impl Resources {
    /// From the table of kinds.
    pub(crate) fn new(env: &Env) -> Self {
        let rows: Vec<&KindRow> =
            kinds().iter().filter(|row| row.stored_as.is_none() && row.is_kept()).collect();
        let specs = rows.iter().map(|row| Arc::new(spec(row, env))).collect();
        Self { rows, specs }
    }

    /// What the store has to know.
    pub(crate) fn specs(&self) -> Vec<Arc<Spec>> {
        self.specs.clone()
    }

    /// The store's number of a kind's objects.
    pub(crate) fn number(&self, row: &'static KindRow) -> usize {
        let stored = row.stored_row();
        let is_stored = |candidate: &&KindRow| {
            (candidate.group, candidate.plural) == (stored.group, stored.plural)
        };
        // Every stored row is in `rows`: `new` took them from the same table.
        self.rows.iter().position(is_stored).unwrap_or_default()
    }

    /// How the store encodes a kind's objects.
    pub(crate) fn spec(&self, row: &'static KindRow) -> Arc<Spec> {
        self.specs[self.number(row)].clone()
    }

    /// Where an object of a kind is.
    pub(crate) fn key(&self, row: &'static KindRow, namespace: &str, name: &str) -> Key {
        Key::new(self.number(row), if row.namespaced { namespace } else { "" }, name)
    }

    /// The row of a group and plural.
    pub(crate) fn find(&self, group: &str, plural: &str) -> Option<&'static KindRow> {
        self.rows.iter().copied().find(|row| row.group == group && row.plural == plural)
    }
}

/// An object of the store as this kind shows it.
pub(crate) fn show(row: &'static KindRow, record: &Record) -> Stored {
    if row.stored_as.is_none() {
        return Stored { json: record.json.clone(), value: None };
    }
    show_value(row, record.value())
}

/// A parsed object of the store as this kind shows it.
pub(crate) fn show_value(row: &'static KindRow, mut object: Value) -> Stored {
    (row.from_stored)(&mut object);
    set_type(row, &mut object);
    Stored { json: encode(row.kind, &row.api_version(), &object), value: Some(Arc::new(object)) }
}

/// Sets kind and apiVersion.
pub(crate) fn set_type(row: &KindRow, object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("kind".to_owned(), row.kind.into());
        fields.insert("apiVersion".to_owned(), row.api_version().into());
    }
}

/// Names of the fields that selectors may name, besides those of metadata.
pub(crate) fn selectable(row: &KindRow) -> Vec<&'static str> {
    (row.selectable_fields)(&Value::Null).into_iter().map(|(name, _)| name).collect()
}

/// Group, version and kind.
pub(crate) fn gvk(row: &KindRow) -> Gvk<'static> {
    Gvk { group: row.group, version: row.version, kind: row.kind }
}

fn spec(row: &'static KindRow, env: &Env) -> Spec {
    let name = if row.group.is_empty() {
        row.plural.to_owned()
    } else {
        format!("{}.{}", row.plural, row.group)
    };
    let env = env.clone();
    Spec {
        name,
        kind: row.kind,
        api_version: row.api_version(),
        fields: Box::new(move |object| fields(row, object)),
        on_load: Box::new(move |object| (row.default_on_read)(object, &env)),
    }
}

/// The selectable fields of a stored kind and of those that show the same objects.
fn fields(row: &'static KindRow, object: &Value) -> Vec<(&'static str, String)> {
    let mut fields = (row.selectable_fields)(object);
    for alias in kinds().iter().filter(|alias| alias.stored_as == Some((row.group, row.plural))) {
        let mut object = object.clone();
        (alias.from_stored)(&mut object);
        for (name, value) in (alias.selectable_fields)(&object) {
            if fields.iter().all(|(known, _)| *known != name) {
                fields.push((name, value));
            }
        }
    }
    fields
}
