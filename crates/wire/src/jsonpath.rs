//! The part of JSONPath that definitions use for columns, selectable fields and scale: fields,
//! quoted fields, indices, `[*]` and filters such as `[?(@.type=="Ready")]`.

use serde_json::Value;

/// A parsed path.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, PartialEq, Debug)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Filter { below: Vec<Self>, wanted: Value, is_equal: bool },
}

impl JsonPath {
    /// From text such as `.status.conditions[?(@.type=="Ready")].status`.
    ///
    /// # Errors
    /// What is not understood.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.strip_prefix('$').unwrap_or(text) };
        if !parser.rest.starts_with(['.', '[']) {
            return Err("must be a path that starts with a dot".to_owned());
        }
        let steps = parser.steps()?;
        match parser.rest {
            "" => Ok(Self(steps)),
            rest => Err(format!("unrecognized text {rest:?}")),
        }
    }

    /// The first value at this path.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        find(&self.0, value)
    }

    /// The names of a path that is nothing but fields.
    pub(crate) fn fields(&self) -> Option<Vec<&str>> {
        self.0
            .iter()
            .map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Sets the value at a path of fields, making objects on the way.
    pub(crate) fn set(&self, object: &mut Value, value: Value) {
        let mut at = object;
        for name in self.fields().unwrap_or_default() {
            if !at.is_object() {
                *at = Value::Object(serde_json::Map::new());
            }
            at = &mut at[name];
        }
        *at = value;
    }
}

fn find<'v>(steps: &[Step], value: &'v Value) -> Option<&'v Value> {
    let Some((step, rest)) = steps.split_first() else { return Some(value) };
    match step {
        Step::Field(name) => find(rest, value.get(name)?),
        Step::Index(index) => {
            let items = value.as_array()?;
            let from_end = || items.len().checked_sub(usize::try_from(-index).ok()?);
            let at = usize::try_from(*index).ok().or_else(from_end)?;
            find(rest, items.get(at)?)
        }
        Step::All => match value {
            Value::Array(items) => items.iter().find_map(|item| find(rest, item)),
            Value::Object(fields) => fields.values().find_map(|item| find(rest, item)),
            _ => None,
        },
        Step::Filter { below, wanted, is_equal } => {
            let fits =
                |item: &&Value| find(below, item).is_some_and(|v| (v == wanted) == *is_equal);
            value.as_array()?.iter().filter(fits).find_map(|item| find(rest, item))
        }
    }
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn steps(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if let Some(rest) = self.rest.strip_prefix("[?(") {
                self.rest = rest;
                steps.push(self.filter()?);
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                let end = rest.find(']').ok_or("unterminated array")?;
                steps.push(bracket(rest[..end].trim())?);
                self.rest = &rest[end + 1..];
            } else if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                match self.name() {
                    name if name.is_empty() && self.rest.starts_with('[') => {}
                    name if name.is_empty() && steps.is_empty() && self.rest.is_empty() => {}
                    name if name.is_empty() => return Err("empty field".to_owned()),
                    name if name == "*" => steps.push(Step::All),
                    name => steps.push(Step::Field(name)),
                }
            } else {
                return Ok(steps);
            }
        }
    }

    /// A name up to the next dot or bracket; a backslash takes the character behind it as it is.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => name.extend(chars.next().map(|(_, char)| char)),
                '.' | '[' | '=' | '!' | ')' | ' ' => {
                    end = at;
                    break;
                }
                char => name.push(char),
            }
        }
        self.rest = &self.rest[end..];
        name
    }

    /// Behind `[?(`: `@.path=="text")]`.
    fn filter(&mut self) -> Result<Step, String> {
        self.rest = self.rest.trim_start().strip_prefix('@').ok_or("filter without @")?;
        let below = self.steps()?;
        let operator = self.rest.trim_start();
        let (is_equal, literal) = match (operator.strip_prefix("=="), operator.strip_prefix("!=")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("unrecognized operator in a filter".to_owned()),
        };
        let end = literal.find(")]").ok_or("unterminated filter")?;
        let wanted = literal[..end].trim();
        let quoted = |quote: char| wanted.strip_prefix(quote)?.strip_suffix(quote);
        let wanted = match quoted('"').or_else(|| quoted('\'')) {
            Some(text) => text.into(),
            None => serde_json::from_str(wanted).map_err(|_| "unrecognized literal in a filter")?,
        };
        self.rest = &literal[end + 2..];
        Ok(Step::Filter { below, wanted, is_equal })
    }
}

/// What stands between brackets.
fn bracket(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::All);
    }
    let quoted = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(name) = quoted('\'').or_else(|| quoted('"')) {
        return Ok(Step::Field(name.to_owned()));
    }
    text.parse().map(Step::Index).map_err(|_| format!("invalid array index {text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "spec": { "ports": [{ "p": 1 }, { "p": 2 }], "a.b": "dot" },
            "status": { "conditions": [
                { "type": "A", "status": "False" }, { "type": "Ready", "status": "True" },
            ]},
        });
        for (path, wanted) in [
            (".spec.ports[1].p", json!(2)),
            (".spec.ports[-1].p", json!(2)),
            (".spec.ports[*].p", json!(1)),
            (".spec['a.b']", json!("dot")),
            (r".spec.a\.b", json!("dot")),
            (r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            (".status.conditions[?(@.type!='Ready')].status", json!("False")),
        ] {
            assert_eq!(JsonPath::parse(path).unwrap().find(&object), Some(&wanted), "{path}");
        }
        assert_eq!(JsonPath::parse(".spec.none.x").unwrap().find(&object), None);
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for text in ["", "spec", ".spec[", ".a[x]", ".a[?(.b)]", ".a[?(@.b==1", ".a..b", ".a b"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[.a-c\\[\\]?()@='\"\\\\*0-9-]{0,24}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({ "a": [{ "b": 1 }] }));
            }
        }
    }
}
