//! A JSON reader that keeps what `serde_json::Value` loses: the order of keys, duplicate keys and
//! the spelling of numbers. Its errors have the texts of Go's `encoding/json`.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// Nesting deeper than this is refused (objects of the API are about ten levels deep).
pub(crate) const MAX_DEPTH: usize = 256;
/// More values than this are refused (L4): an object of one member takes six bytes of a body and half
/// a KiB of memory. Objects of the API that fill a body have some ten thousand.
const MAX_VALUES: usize = 250_000;

/// A parsed document.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    /// As spelt, such as `80.0`.
    Number(String),
    String(String),
    Array(Vec<Self>),
    Object(Vec<Member>),
}

/// A key and its value.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) value: Node,
}

impl Node {
    /// What Go calls this value in an error.
    pub(crate) fn go_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Value of a key; the last one of several.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().rfind(|m| m.key == key).map(|m| &m.value),
            _ => None,
        }
    }

    /// Whether a key appears twice in one object, at any depth.
    pub(crate) fn has_duplicates(&self) -> bool {
        match self {
            Self::Array(items) => items.iter().any(Self::has_duplicates),
            Self::Object(members) => {
                let mut seen = BTreeSet::new();
                members.iter().any(|m| !seen.insert(&m.key) || m.value.has_duplicates())
            }
            _ => false,
        }
    }

    /// The paths of keys that appear again in their object, such as `spec.ports[0].port`, in
    /// document order.
    pub(crate) fn duplicates(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_duplicates("", &mut found);
        found
    }

    fn collect_duplicates(&self, path: &str, found: &mut Vec<String>) {
        match self {
            Self::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.collect_duplicates(&format!("{path}[{index}]"), found);
                }
            }
            Self::Object(members) => {
                let mut seen = BTreeSet::new();
                for Member { key, value } in members {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    if !seen.insert(key) {
                        found.push(path.clone());
                    }
                    value.collect_duplicates(&path, found);
                }
            }
            _ => {}
        }
    }

    /// The same without what `Value` cannot hold.
    pub(crate) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => (*b).into(),
            Self::Number(text) => number(text),
            Self::String(s) => s.as_str().into(),
            Self::Array(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(members) => {
                members.iter().map(|m| (m.key.clone(), m.value.to_value())).collect()
            }
        }
    }

    /// Like [`Self::to_value`]; each part is freed once it is converted, so that the two trees are
    /// never both whole.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::String(s) => s.into(),
            Self::Array(items) => items.into_iter().map(Self::into_value).collect(),
            Self::Object(members) => {
                members.into_iter().map(|m| (m.key, m.value.into_value())).collect()
            }
            scalar => scalar.to_value(),
        }
    }

    /// From a value that was parsed before, such as a patched object.
    pub(crate) fn from_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n.to_string()),
            Value::String(s) => Self::String(s.clone()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from_value).collect()),
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(k, v)| Member { key: k.clone(), value: Self::from_value(v) })
                    .collect(),
            ),
        }
    }
}

/// A number as spelt; one that no number type holds becomes null, as there is no other choice.
fn number(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}

/// Why a text is not JSON, in Go's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SyntaxError {
    Character(char, String),
    End,
    Depth,
    Values,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Character(c, place) => write!(f, "invalid character {} {place}", quoted(*c)),
            Self::End => f.write_str("unexpected end of JSON input"),
            Self::Depth => f.write_str("exceeded max depth"),
            Self::Values => write!(f, "exceeded {MAX_VALUES} values"),
        }
    }
}

fn quoted(c: char) -> String {
    match c {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        '\\' => r"'\\'".to_owned(),
        '\n' => r"'\n'".to_owned(),
        '\t' => r"'\t'".to_owned(),
        '\r' => r"'\r'".to_owned(),
        c if c < ' ' || c == '\u{7f}' => format!("'\\x{:02x}'", u32::from(c)),
        c if c < '\u{a0}' && c > '\u{7f}' => format!("'\\u{:04x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}

/// Parses one JSON document. Bytes that are not UTF-8 become U+FFFD, as in Go.
pub(crate) fn parse(body: &[u8]) -> Result<Node, SyntaxError> {
    let text = String::from_utf8_lossy(body);
    let mut reader = Reader { rest: &text, depth: 0, values: 0 };
    let node = reader.value("looking for beginning of value")?;
    match reader.peek() {
        None => Ok(node),
        Some(c) => Err(SyntaxError::Character(c, "after top-level value".to_owned())),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
    values: usize,
}

impl Reader<'_> {
    /// The next character that is not blank.
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    /// Takes a character of which only some are right here.
    fn expect<T>(
        &mut self,
        place: &str,
        accept: impl Fn(char) -> Option<T>,
    ) -> Result<T, SyntaxError> {
        let c = self.peek().ok_or(SyntaxError::End)?;
        let found = accept(c).ok_or_else(|| SyntaxError::Character(c, place.to_owned()))?;
        self.take();
        Ok(found)
    }

    fn value(&mut self, place: &str) -> Result<Node, SyntaxError> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(SyntaxError::Values);
        }
        match self.peek().ok_or(SyntaxError::End)? {
            '{' => self.nested(Self::object),
            '[' => self.nested(Self::array),
            '"' => Ok(Node::String(self.string()?)),
            't' => self.literal("true", Node::Bool(true)),
            'f' => self.literal("false", Node::Bool(false)),
            'n' => self.literal("null", Node::Null),
            '-' | '0'..='9' => self.number(),
            c => Err(SyntaxError::Character(c, place.to_owned())),
        }
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Node, SyntaxError>,
    ) -> Result<Node, SyntaxError> {
        if self.depth == MAX_DEPTH {
            return Err(SyntaxError::Depth);
        }
        self.depth += 1;
        self.take();
        let node = read(self);
        self.depth -= 1;
        node
    }

    fn object(&mut self) -> Result<Node, SyntaxError> {
        let mut members = Vec::new();
        if self.peek() == Some('}') {
            self.take();
            return Ok(Node::Object(members));
        }
        loop {
            match self.peek().ok_or(SyntaxError::End)? {
                '"' => {}
                c => {
                    let place = "looking for beginning of object key string".to_owned();
                    return Err(SyntaxError::Character(c, place));
                }
            }
            let key = self.string()?;
            self.expect("after object key", |c| (c == ':').then_some(()))?;
            let value = self.value("looking for beginning of value")?;
            members.push(Member { key, value });
            let more = self.expect("after object key:value pair", |c| match c {
                ',' => Some(true),
                '}' => Some(false),
                _ => None,
            })?;
            if !more {
                return Ok(Node::Object(members));
            }
        }
    }

    fn array(&mut self) -> Result<Node, SyntaxError> {
        let mut items = Vec::new();
        if self.peek() == Some(']') {
            self.take();
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value("looking for beginning of value")?);
            let more = self.expect("after array element", |c| match c {
                ',' => Some(true),
                ']' => Some(false),
                _ => None,
            })?;
            if !more {
                return Ok(Node::Array(items));
            }
        }
    }

    fn literal(&mut self, word: &str, node: Node) -> Result<Node, SyntaxError> {
        for expected in word.chars() {
            let c = self.take().ok_or(SyntaxError::End)?;
            if c != expected {
                let place = format!("in literal {word} (expecting '{expected}')");
                return Err(SyntaxError::Character(c, place));
            }
        }
        Ok(node)
    }

    fn number(&mut self) -> Result<Node, SyntaxError> {
        let start = self.rest;
        if self.rest.starts_with('-') {
            self.take();
        }
        if self.rest.starts_with('0') {
            self.take();
        } else {
            self.digits("in numeric literal")?;
        }
        if self.rest.starts_with('.') {
            self.take();
            self.digits("after decimal point in numeric literal")?;
        }
        if self.rest.starts_with(['e', 'E']) {
            self.take();
            if self.rest.starts_with(['+', '-']) {
                self.take();
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(Node::Number(start[..start.len() - self.rest.len()].to_owned()))
    }

    fn digits(&mut self, place: &str) -> Result<(), SyntaxError> {
        match self.rest.chars().next() {
            None => return Err(SyntaxError::End),
            Some(c) if !c.is_ascii_digit() => {
                return Err(SyntaxError::Character(c, place.to_owned()));
            }
            Some(_) => {}
        }
        self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_digit());
        Ok(())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.take();
        let mut text = String::new();
        loop {
            let plain = self.rest.find(|c: char| c == '"' || c == '\\' || c < ' ');
            let end = plain.ok_or(SyntaxError::End)?;
            text.push_str(&self.rest[..end]);
            self.rest = &self.rest[end..];
            match self.take().ok_or(SyntaxError::End)? {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                c => return Err(SyntaxError::Character(c, "in string literal".to_owned())),
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let c = self.take().ok_or(SyntaxError::End)?;
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            _ => return Err(SyntaxError::Character(c, "in string escape code".to_owned())),
        })
    }

    /// The rest of `\uXXXX`, with its second half if it is a surrogate.
    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let high = self.hex4()?;
        if let Some(c) = char::from_u32(high) {
            return Ok(c);
        }
        let saved = self.rest;
        if (0xd800..0xdc00).contains(&high) && self.rest.starts_with("\\u") {
            self.rest = &self.rest[2..];
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.rest = saved;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let mut code = 0;
        for _ in 0..4 {
            let c = self.take().ok_or(SyntaxError::End)?;
            let digit = c.to_digit(16).ok_or_else(|| {
                SyntaxError::Character(c, "in \\u hexadecimal character escape".to_owned())
            })?;
            code = code * 16 + digit;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err("must be refused").to_string()
    }

    #[test]
    fn errors_have_go_words() {
        assert_eq!(error("{\"kind\":\"Service\""), "unexpected end of JSON input");
        assert_eq!(error("{\"a\":\"\\q\"}"), "invalid character 'q' in string escape code");
        assert_eq!(error("not json"), "invalid character 'o' in literal null (expecting 'u')");
        assert_eq!(error("{a}"), {
            "invalid character 'a' looking for beginning of object key string"
        });
        assert_eq!(error("[1 2]"), "invalid character '2' after array element");
        assert_eq!(error("{} x"), "invalid character 'x' after top-level value");
        assert_eq!(error("01"), "invalid character '1' after top-level value");
        assert_eq!(error(&"[".repeat(MAX_DEPTH + 1)), "exceeded max depth");
    }

    #[test]
    fn keeps_duplicates_order_and_spelling() {
        let node = parse(br#"{"b":80.0,"a":1,"b":2}"#).expect("is JSON");
        let Node::Object(members) = &node else { panic!("is an object") };
        let keys: Vec<_> = members.iter().map(|m| m.key.as_str()).collect();
        assert_eq!(keys, ["b", "a", "b"]);
        assert_eq!(members[0].value, Node::Number("80.0".to_owned()));
        assert_eq!(node.get("b"), Some(&Node::Number("2".to_owned())));
    }

    #[test]
    fn joins_surrogates_and_replaces_lone_ones() {
        let node = parse(br#""\ud83d\ude00\ud83dx""#).expect("is JSON");
        assert_eq!(node, Node::String("😀\u{fffd}x".to_owned()));
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}:,0-9.eE+\"\\\\ua-f tn-]{0,24}") {
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            if let Ok(theirs) = theirs {
                let ours = parse(text.as_bytes()).map(|n| n.to_value());
                prop_assert_eq!(ours, Ok(theirs));
            }
        }
    }
}
