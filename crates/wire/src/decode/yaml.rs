//! YAML bodies. They become the same tree as JSON ones; duplicate keys are reported with lines.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Options, Spanned};

use super::json::{MAX_DEPTH, Member, Node};

/// A parsed YAML document.
pub(crate) struct Document {
    pub(crate) node: Node,
    /// `line 7: key "type" already set in map`, in document order.
    pub(crate) duplicates: Vec<String>,
}

/// Parses one YAML document (JSON is YAML too). The error is like
/// `yaml: line 3: found character that cannot start any token`.
pub(crate) fn parse(body: &[u8]) -> Result<Document, String> {
    let text = String::from_utf8_lossy(body);
    let mut options = Options::default();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    let tree: Tree =
        serde_saphyr::from_str_with_options(&text, options).map_err(|e| message(&e))?;
    let mut duplicates = Vec::new();
    let node = tree.node(&mut duplicates, 0)?;
    Ok(Document { node, duplicates })
}

/// The parser's error in the form of the real server's: line and cause only.
fn message(error: &serde_saphyr::Error) -> String {
    let error = error.without_snippet();
    let rendered = error.to_string();
    let cause = rendered.lines().next().unwrap_or_default();
    let cause = cause.rsplit_once(": ").map_or(cause, |(_, last)| last);
    let cause = cause.split_once(" at line ").map_or(cause, |(first, _)| first);
    // The parser names its surroundings first: "while parsing a node, did not find ...".
    let cause = match cause.split_once(", ") {
        Some((context, rest)) if context.starts_with("while ") => rest,
        _ => cause,
    };
    let cause = match cause {
        "tabs disallowed within this context (block indentation)" => {
            "found character that cannot start any token"
        }
        cause if cause.starts_with("unclosed bracket") => "did not find expected node content",
        cause => cause,
    };
    match error.location() {
        Some(at) => format!("yaml: line {}: {cause}", at.line()),
        None => format!("yaml: {cause}"),
    }
}

/// What serde hands over, before duplicates are looked for.
enum Tree {
    Scalar(Node),
    Array(Vec<Self>),
    Object(Vec<(Spanned<Key>, Self)>),
}

impl Tree {
    fn node(self, duplicates: &mut Vec<String>, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err("yaml: exceeded max depth".to_owned());
        }
        Ok(match self {
            Self::Scalar(node) => node,
            Self::Array(items) => {
                let items = items.into_iter().map(|i| i.node(duplicates, depth + 1));
                Node::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Object(entries) => {
                let mut members: Vec<Member> = Vec::with_capacity(entries.len());
                let mut places = BTreeMap::new();
                for (key, value) in entries {
                    let Spanned { value: Key(key), referenced, .. } = key;
                    let value = value.node(duplicates, depth + 1)?;
                    if let Some(place) = places.get(&key).copied() {
                        let line = referenced.line();
                        duplicates.push(format!("line {line}: key {key:?} already set in map"));
                        members[place] = Member { key, value };
                    } else {
                        places.insert(key.clone(), members.len());
                        members.push(Member { key, value });
                    }
                }
                Node::Object(members)
            }
        })
    }
}

/// A key: a scalar of any type, as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scalar key")
    }

    fn visit_str<E>(self, v: &str) -> Result<Key, E> {
        Ok(Key(v.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Null))
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Number(v.to_string())))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Number(v.to_string())))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::Number(v.to_string())))
    }

    fn visit_str<E>(self, v: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(Node::String(v.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).err().expect("must be refused")
    }

    #[test]
    fn errors_name_line_and_cause() {
        assert_eq!(error("{a: ["), "yaml: line 1: did not find expected node content");
        let tab = error("kind: Service\nmetadata:\n\tname: s\n");
        assert_eq!(tab, "yaml: line 3: found character that cannot start any token");
    }

    #[test]
    fn duplicate_keys_are_named_with_their_line() {
        let document = parse(b"a: 1\nb:\n  c: 1\n  c: 2\n").expect("is YAML");
        assert_eq!(document.duplicates, ["line 4: key \"c\" already set in map"]);
        let c = document.node.get("b").and_then(|b| b.get("c"));
        assert_eq!(c, Some(&Node::Number("2".to_owned())));
    }

    #[test]
    fn scalars_have_their_types() {
        let text = "i: 80\ns: '80'\nb: true\nn:\nt: 2024-01-01\nq: 100m\n";
        let node = parse(text.as_bytes()).expect("is YAML").node;
        let value = node.to_value();
        let expected = serde_json::json!({
            "i": 80, "s": "80", "b": true, "n": null, "t": "2024-01-01", "q": "100m"
        });
        assert_eq!(value, expected);
    }
}
