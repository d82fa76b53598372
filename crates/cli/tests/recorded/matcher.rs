//! Recorded values against live ones: placeholders, and what ties them together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::LazyLock;

use ipnet::IpNet;
use regex::{Captures, Regex};
use serde_json::{Map, Value};

use super::json::{Names, plain, short, substitute_text};

/// Matches the answers of one case. The same placeholder number means the same value, another
/// number another value.
#[derive(Clone, Default)]
pub(crate) struct Matcher {
    values: BTreeMap<(String, String), String>,
    numbers: BTreeMap<(String, String), String>,
    /// The case's namespace, as `{ns}`.
    pub(crate) names: Names,
}

impl Matcher {
    /// The first difference between a recorded document and a live one; null counts as absent and
    /// managedFields do not count.
    pub(crate) fn diff(&mut self, want: &Value, got: &Value, path: &str) -> Option<String> {
        match want {
            Value::Object(want) => self.diff_objects(want, got, path),
            Value::Array(want) => {
                let Value::Array(got) = got else {
                    return Some(format!("{path}: expected a list, got {}", short(got)));
                };
                let mut pairs = want.iter().zip(got).enumerate();
                let differs =
                    pairs.find_map(|(i, (a, b))| self.diff(a, b, &format!("{path}[{i}]")));
                let (wanted, found) = (want.len(), got.len());
                let length = format!("{path}: expected {wanted} elements, got {found}");
                differs.or_else(|| (wanted != found).then_some(length))
            }
            Value::String(text) if self.text(text, got) => None,
            Value::Number(number) if !got.is_null() && number.as_f64() == got.as_f64() => None,
            want if want == got => None,
            want => Some(format!("{path}: expected {}, got {}", short(want), short(got))),
        }
    }

    fn diff_objects(
        &mut self,
        want: &Map<String, Value>,
        got: &Value,
        path: &str,
    ) -> Option<String> {
        let Value::Object(got) = got else {
            return Some(format!("{path}: expected an object, got {}", short(got)));
        };
        let mut known = BTreeSet::from(["managedFields".to_owned()]);
        for (key, want) in want.iter().filter(|(key, _)| *key != "managedFields") {
            let key = substitute_text(key, &self.names);
            let difference = match got.get(&key).unwrap_or(&Value::Null) {
                Value::Null if want.is_null() => None,
                Value::Null => Some(format!("{path}.{key}: expected {}, got nothing", short(want))),
                got => self.diff(want, got, &format!("{path}.{key}")),
            };
            if difference.is_some() {
                return difference;
            }
            known.insert(key);
        }
        let extra = got.iter().find(|(key, value)| !known.contains(*key) && !value.is_null());
        extra.map(|(key, value)| format!("{path}.{key}: expected nothing, got {}", short(value)))
    }

    /// The first difference between two failures; the message is not looked at.
    pub(crate) fn diff_failures(&mut self, want: &Value, got: &Value) -> Option<String> {
        if !is_failure(got) {
            return Some(format!("body: expected a failure, got {}", short(got)));
        }
        for key in ["reason", "code"] {
            if want[key] != got[key] {
                let (want, got) = (short(&want[key]), short(&got[key]));
                return Some(format!("body.{key}: expected {want}, got {got}"));
            }
        }
        for key in ["kind", "name"] {
            let (want, got) = (&want["details"][key], &got["details"][key]);
            let same = want.is_null() && got.is_null()
                || got.is_string() && self.text(want.as_str().unwrap_or_default(), got);
            if !same {
                let (want, got) = (short(want), short(got));
                return Some(format!("body.details.{key}: expected {want}, got {got}"));
            }
        }
        let causes = |status: &Value| -> BTreeSet<(String, String)> {
            let causes = status["details"]["causes"].as_array().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            causes
                .map(|cause| {
                    let field = substitute_text(&text(&cause["field"]), &self.names);
                    (field, text(&cause["reason"]))
                })
                .collect()
        };
        let (want, got) = (causes(want), causes(got));
        let missing: Vec<_> = want.difference(&got).collect();
        let extra: Vec<_> = got.difference(&want).collect();
        // A cause about a generated value cannot be told from another's.
        let generated = missing.iter().any(|(field, _)| PLACE.is_match(field));
        (want != got && !generated)
            .then(|| format!("body.details.causes: missing {missing:?}, unexpected {extra:?}"))
    }

    /// Whether a live value is what a recorded text stands for.
    pub(crate) fn text(&mut self, want: &str, got: &Value) -> bool {
        if let Some(place) = PLACE.captures(want).filter(|place| place[0].len() == want.len()) {
            return self.one(&place, got);
        }
        let Value::String(got) = got else { return false };
        let want = substitute_text(want, &self.names);
        let places: Vec<Captures<'_>> = PLACE.captures_iter(&want).collect();
        if places.is_empty() {
            return want == *got;
        }
        let mut pattern = r"\A(?s)".to_owned();
        let mut position = 0;
        for place in &places {
            let whole = place.get(0).unwrap();
            pattern.push_str(&regex::escape(&want[position..whole.start()]));
            pattern.push_str(match kind(place).0 {
                "uid" => "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
                "rv" | "port" => r"(\d+)",
                "num" => r"(-?\d+(?:\.\d+)?)",
                "ip" => "([0-9a-f.:]+)",
                "time" | "microtime" => r"([0-9T:.-]+(?:Z|[+-]\d\d:\d\d))",
                "gen" => "([A-Za-z0-9._-]+)",
                _ => "(.*?)",
            });
            position = whole.end();
        }
        pattern.push_str(&regex::escape(&want[position..]));
        pattern.push_str(r"\z");
        let pattern = Regex::new(&pattern).unwrap();
        let Some(found) = pattern.captures(got) else { return false };
        let mut parts = places.iter().enumerate();
        parts.all(|(i, place)| self.one(place, &found[i + 1].into()))
    }

    /// Whether a live value satisfies one placeholder.
    fn one(&mut self, place: &Captures<'_>, got: &Value) -> bool {
        let (kind, argument) = kind(place);
        let argument = substitute_text(argument, &self.names);
        let text = plain(got);
        if !is_one(kind, &argument, got, &text) {
            return false;
        }
        let Some(number) = place.get(2) else { return true };
        let key = (kind.to_owned(), number.as_str().to_owned());
        let value = (kind.to_owned(), text.clone());
        if let Some(known) = self.values.get(&key) {
            return *known == text;
        }
        if self.numbers.get(&value).is_some_and(|known| *known != key.1) {
            return false;
        }
        self.numbers.insert(value, key.1.clone());
        self.values.insert(key, text);
        true
    }
}

/// Whether a document is a Status of a failure.
pub(crate) fn is_failure(document: &Value) -> bool {
    document["kind"] == "Status" && document["status"] == "Failure"
}

fn is_one(kind: &str, argument: &str, got: &Value, text: &str) -> bool {
    match kind {
        "any" => true,
        "num" => got.is_number() || got.is_string() && NUMBER.is_match(text),
        "bool" => got.is_boolean(),
        "str" | "continue" => got.is_string() && !text.is_empty(),
        "rv" => got.is_string() && !["", "0"].contains(&text),
        "uid" => UUID.is_match(text),
        "time" => TIME.is_match(text) && !text.contains('.'),
        "microtime" => TIME.is_match(text) && text.contains('.'),
        "age" => AGE.is_match(text),
        "ip" => text.parse().is_ok_and(|ip| is_in(ip, argument)),
        "port" => {
            let ends = argument.split_once('-');
            let ends = ends.and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse().ok()?)));
            ends.is_some_and(|(a, b)| text.parse().is_ok_and(|port| (a..=b).contains(&port)))
        }
        "gen" => text.strip_prefix(argument).is_some_and(|rest| SUFFIX.is_match(rest)),
        other => panic!("unknown placeholder {other:?}"),
    }
}

/// A range is a network, or two addresses with a dash between them.
fn is_in(ip: IpAddr, range: &str) -> bool {
    if let Ok(network) = range.parse::<IpNet>() {
        return network.contains(&ip);
    }
    let ends = range.split_once('-');
    let ends = ends.and_then(|(a, b)| Some((a.parse::<IpAddr>().ok()?, b.parse().ok()?)));
    ends.is_some_and(|(a, b)| ip.is_ipv4() == a.is_ipv4() && (a..=b).contains(&ip))
}

fn kind<'a>(place: &'a Captures<'_>) -> (&'a str, &'a str) {
    place[1].split_once(':').unwrap_or((&place[1], ""))
}

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).unwrap());)*
    };
}

patterns! {
    PLACE = r"<(uid|rv|time|microtime|age|any|num|str|bool|continue|ip:[^#<>]*|port:[^#<>]*|gen:[^#<>]*)(#\d+)?>";
    UUID = r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z";
    TIME = r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\z";
    AGE = r"\A(<invalid>|\d+(y|d|h|m|s|ms)(\d+(d|h|m|s))?)\z";
    NUMBER = r"\A-?\d+(\.\d+)?\z";
    SUFFIX = r"\A[a-z0-9]{4,12}\z";
}
