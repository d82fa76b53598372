//! Names of kinds, and the conditions that say whether they are free (CR3; apiextensions
//! `controller/status`, `controller/establish`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::rules::fields::Fields;
use crate::status::quote;

/// `spec.names` or `status.acceptedNames`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    /// As in paths.
    pub plural: String,
    /// For people.
    pub singular: String,
    /// Short ones for `kubectl`.
    pub short_names: Vec<String>,
    /// Kind of an object.
    pub kind: String,
    /// Kind of a list.
    pub list_kind: String,
    /// Groups of resources, such as `all`.
    pub categories: Vec<String>,
}

impl Names {
    pub(super) fn parse(names: &Value) -> Self {
        let text = |name: &str| names.text(name).to_owned();
        let texts = |name: &str| names.texts(name).into_iter().map(str::to_owned).collect();
        Self {
            plural: text("/plural"),
            singular: text("/singular"),
            short_names: texts("/shortNames"),
            kind: text("/kind"),
            list_kind: text("/listKind"),
            categories: texts("/categories"),
        }
    }

    fn to_value(&self) -> Value {
        let mut names = json!({ "kind": self.kind, "plural": self.plural });
        for (name, text) in [("singular", &self.singular), ("listKind", &self.list_kind)] {
            if !text.is_empty() {
                names[name] = text.as_str().into();
            }
        }
        for (name, list) in [("shortNames", &self.short_names), ("categories", &self.categories)] {
            if !list.is_empty() {
                names[name] = list.clone().into();
            }
        }
        names
    }

    fn resources(&self) -> impl Iterator<Item = &String> {
        [&self.plural, &self.singular].into_iter().chain(&self.short_names)
    }
}

/// The status that a definition shall have beside the others, `now` being an RFC 3339 time; `None`
/// when it has it already. Names that others of its group hold are not accepted; once established
/// a definition stays so.
pub fn settle(definition: &Value, others: &[&Value], now: &str) -> Option<Value> {
    let uid = definition.text("/metadata/uid");
    let group = definition.text("/spec/group");
    let others = others
        .iter()
        .filter(|other| other.text("/spec/group") == group && other.text("/metadata/uid") != uid);
    let held: Vec<Names> =
        others.map(|other| Names::parse(other.at("/status/acceptedNames"))).collect();
    let resources: BTreeSet<&String> = held.iter().flat_map(Names::resources).collect();
    let kinds: BTreeSet<&String> =
        held.iter().flat_map(|names| [&names.kind, &names.list_kind]).collect();
    let wanted = Names::parse(definition.at("/spec/names"));
    let accepted = Names::parse(definition.at("/status/acceptedNames"));
    let (names, conflict) = accept(&wanted, &accepted, &resources, &kinds);

    let mut status = definition.at("/status").clone();
    if !status.is_object() {
        status = json!({});
    }
    status["acceptedNames"] = names.to_value();
    let accepted = match &conflict {
        Some((reason, message)) => ("False", *reason, message.as_str()),
        None => ("True", "NoConflicts", "no conflicts found"),
    };
    set_condition(&mut status, "NamesAccepted", accepted, now);
    let established = match (is_established(definition), conflict) {
        (true, _) => None,
        (false, None) => {
            Some(("True", "InitialNamesAccepted", "the initial names have been accepted"))
        }
        (false, Some(_)) => Some(("False", "NotAccepted", "not all names are accepted")),
    };
    if let Some(established) = established {
        set_condition(&mut status, "Established", established, now);
    }
    (status != *definition.at("/status")).then_some(status)
}

/// Whether a definition's kinds are served.
pub fn is_established(definition: &Value) -> bool {
    let conditions = definition.list("/status/conditions").iter();
    conditions
        .filter(|condition| condition["type"] == "Established")
        .any(|condition| condition["status"] == "True")
}

/// The names that are free or its own already, and the last conflict.
fn accept(
    wanted: &Names,
    accepted: &Names,
    resources: &BTreeSet<&String>,
    kinds: &BTreeSet<&String>,
) -> (Names, Option<(&'static str, String)>) {
    let mut names = accepted.clone();
    let mut conflict = None;
    let mut check = |wanted: &String, own: &mut String, taken: &BTreeSet<&String>, reason| {
        if wanted == own || !taken.contains(wanted) {
            own.clone_from(wanted);
        } else {
            conflict = Some((reason, format!("{} is already in use", quote(wanted))));
        }
    };
    check(&wanted.plural, &mut names.plural, resources, "PluralConflict");
    check(&wanted.singular, &mut names.singular, resources, "SingularConflict");
    check(&wanted.kind, &mut names.kind, kinds, "KindConflict");
    check(&wanted.list_kind, &mut names.list_kind, kinds, "ListKindConflict");
    let taken: Vec<String> = wanted
        .short_names
        .iter()
        .filter(|name| !accepted.short_names.contains(name) && resources.contains(name))
        .map(|name| format!("{} is already in use", quote(name)))
        .collect();
    match &taken[..] {
        [] => names.short_names.clone_from(&wanted.short_names),
        [one] => conflict = Some(("ShortNamesConflict", one.clone())),
        many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    names.categories.clone_from(&wanted.categories);
    (names, conflict)
}

/// Sets a condition; its time changes with its status only.
pub(crate) fn set_condition(
    status: &mut Value,
    ty: &str,
    (value, reason, message): (&str, &str, &str),
    now: &str,
) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(conditions) = status["conditions"].as_array_mut() else { return };
    let mut condition = json!({
        "lastTransitionTime": now, "message": message, "reason": reason, "status": value,
        "type": ty,
    });
    match conditions.iter_mut().find(|condition| condition["type"] == ty) {
        Some(old) => {
            if old["status"] == value {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}
