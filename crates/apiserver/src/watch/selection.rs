//! Which objects a list or watch asks for: namespace, name, labels and fields.

use crate::store::Record;

use super::label::{self, Requirement};

/// Namespace, labelSelector and fieldSelector of a request.
#[derive(Clone, Default, Debug)]
pub(crate) struct Selection {
    /// Only this Namespace; empty for all, and for cluster-scoped kinds.
    namespace: String,
    labels: Vec<Requirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    field: Field,
    value: String,
    is_equal: bool,
}

#[derive(Clone, Debug)]
enum Field {
    Name,
    Namespace,
    Other(String),
}

impl Selection {
    /// Parses the selectors of a request. `known` are the kind's own selectable fields.
    ///
    /// # Errors
    ///
    /// The text for a 400 answer.
    pub(crate) fn parse(
        namespace: &str,
        label_selector: &str,
        field_selector: &str,
        known: &[&str],
    ) -> Result<Self, String> {
        let labels = label::parse(label_selector)?;
        let fields = parse_fields(field_selector, known)?;
        let mut selection = Self { namespace: namespace.to_owned(), labels, fields };
        selection.narrow();
        Ok(selection)
    }

    /// Whether everything in the namespace is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// What the paths of all selected objects start with.
    pub(crate) fn prefix(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) }
    }

    /// Whether the object at this path is selected.
    pub(crate) fn matches(&self, path: &str, record: &Record) -> bool {
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        (self.namespace.is_empty() || self.namespace == namespace)
            && self.labels.iter().all(|requirement| requirement.matches(record))
            && self.fields.iter().all(|requirement| {
                let value = match &requirement.field {
                    Field::Name => name,
                    Field::Namespace => namespace,
                    Field::Other(field) => record.field(field),
                };
                (value == requirement.value) == requirement.is_equal
            })
    }

    /// `metadata.namespace=x` over all namespaces reads only that one.
    fn narrow(&mut self) {
        if !self.namespace.is_empty() {
            return;
        }
        let namespace = self.fields.iter().find(|requirement| {
            matches!(requirement.field, Field::Namespace) && requirement.is_equal
        });
        if let Some(requirement) = namespace {
            self.namespace = requirement.value.clone();
        }
    }
}

/// `a=b,c!=d`; values may escape `\`, `,` and `=` with `\` (apimachinery fields.ParseSelector).
fn parse_fields(text: &str, known: &[&str]) -> Result<Vec<FieldRequirement>, String> {
    let mut requirements = Vec::new();
    for term in split_terms(text).into_iter().filter(|term| !term.is_empty()) {
        let (name, is_equal, value) = split_term(term)
            .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{term}'"))?;
        let value = unescape(value).ok_or_else(|| {
            format!("invalid field selector: invalid escape sequence in '{term}'")
        })?;
        let field = match name {
            "metadata.name" => Field::Name,
            "metadata.namespace" => Field::Namespace,
            name if known.contains(&name) => Field::Other(name.to_owned()),
            name => return Err(format!("field label not supported: {name}")),
        };
        requirements.push(FieldRequirement { field, value, is_equal });
    }
    Ok(requirements)
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut is_escaped) = (0, false);
    for (position, char) in text.char_indices() {
        match char {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            ',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let position = term.find(['=', '!'])?;
    let (name, rest) = term.split_at(position);
    let (is_equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else {
        (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?)
    };
    Some((name, is_equal, value))
}

fn unescape(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.push(chars.next().filter(|char| matches!(char, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            char => plain.push(char),
        }
    }
    Some(plain)
}
