//! `metadata.managedFields`: the owners of an object's fields.

use serde_json::{Map, Value, json};

use super::Writer;
use super::set::FieldSet;

/// More managers that update than this are summed up.
const MAX_UPDATE_MANAGERS: usize = 10;

/// The manager that owns what those summed up owned.
const ANCIENT: &str = "ancient-changes";

/// How a manager writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who a manager is: two writes with the same identity share an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Identity {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, api_version: String) -> Self {
        Self {
            manager: writer.manager.to_owned(),
            operation,
            api_version,
            subresource: writer.subresource.to_owned(),
        }
    }

    /// As in the causes of a conflict: `conflict with "m" with subresource "status" using v1`.
    pub(super) fn described(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// A manager and what it owns.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Manager {
    pub(super) identity: Identity,
    /// Of its last write that changed something; a manager that only confirmed has none.
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

/// All managers of an object.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Managers(pub(super) Vec<Manager>);

impl Managers {
    /// Those of an object; `None` if its managedFields cannot be read or there are none.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let entries = object.pointer("/metadata/managedFields")?.as_array()?;
        let managers = entries.iter().map(manager).collect::<Option<Vec<_>>>()?;
        (!managers.is_empty()).then_some(Self(managers))
    }

    /// Whether an object asks for its owners to be forgotten: an empty list, or one empty entry.
    pub(super) fn is_reset(object: &Value) -> bool {
        match object.pointer("/metadata/managedFields").and_then(Value::as_array) {
            Some(entries) => match &entries[..] {
                [] => true,
                [only] => only.as_object().is_some_and(Map::is_empty),
                _ => false,
            },
            None => false,
        }
    }

    pub(super) fn get(&self, identity: &Identity) -> Option<&Manager> {
        self.0.iter().find(|m| m.identity == *identity)
    }

    pub(super) fn set(&mut self, manager: Manager) {
        match self.0.iter_mut().find(|m| m.identity == manager.identity) {
            Some(old) => *old = manager,
            None => self.0.push(manager),
        }
    }

    /// Takes fields from every manager but one, and forgets managers that own nothing.
    pub(super) fn take(&mut self, fields: &FieldSet, except: Option<&Identity>) {
        for manager in self.0.iter_mut().filter(|m| Some(&m.identity) != except) {
            manager.fields = manager.fields.difference(fields);
        }
        self.0.retain(|m| !m.fields.is_empty());
    }

    /// Everything that is owned.
    pub(super) fn owned(&self) -> FieldSet {
        self.0.iter().fold(FieldSet::default(), |all, m| all.union(&m.fields))
    }

    /// Sums up the oldest managers that update when there are too many.
    pub(super) fn cap(&mut self) {
        self.sort();
        let updates = |m: &Manager| m.identity.operation == Operation::Update;
        let mut surplus =
            self.0.iter().filter(|m| updates(m)).count().saturating_sub(MAX_UPDATE_MANAGERS);
        while surplus > 0 {
            let oldest = self.0.iter().position(|m| updates(m) && m.identity.manager != ANCIENT);
            let Some(oldest) = oldest else { return };
            let gone = self.0.remove(oldest);
            let ancient = Identity {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                ..gone.identity
            };
            match self.0.iter_mut().find(|m| m.identity == ancient) {
                Some(bucket) => {
                    bucket.fields = bucket.fields.union(&gone.fields);
                    bucket.time = bucket.time.take().max(gone.time);
                    surplus -= 1;
                }
                // The first one only changes its name; it takes another to shrink the list.
                None => self.0.insert(oldest, Manager { identity: ancient, ..gone }),
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            let key = |m: &Manager| (m.identity.operation, m.time.clone());
            let names = |m: &Manager| {
                let Identity { manager, api_version, subresource, .. } = m.identity.clone();
                (manager, api_version, subresource)
            };
            key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
        });
    }

    /// Writes the managers into an object; none at all removes the field.
    pub(super) fn write(mut self, object: &mut Value) {
        self.sort();
        let entries: Vec<Value> = self.0.iter().map(to_entry).collect();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if entries.is_empty() {
            metadata.remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), entries.into());
        }
    }
}

fn manager(entry: &Value) -> Option<Manager> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    Some(Manager {
        identity: Identity {
            manager: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        },
        time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
        fields: match entry.get("fieldsV1") {
            Some(fields) => FieldSet::from_value(fields)?,
            None => FieldSet::default(),
        },
    })
}

fn to_entry(manager: &Manager) -> Value {
    let Identity { manager: name, operation, api_version, subresource } = &manager.identity;
    let mut entry = json!({
        "manager": name, "operation": operation.as_str(), "apiVersion": api_version,
        "fieldsType": "FieldsV1", "fieldsV1": manager.fields.to_value(),
    });
    if let Some(time) = &manager.time {
        entry["time"] = time.as_str().into();
    }
    if !subresource.is_empty() {
        entry["subresource"] = subresource.as_str().into();
    }
    entry
}
