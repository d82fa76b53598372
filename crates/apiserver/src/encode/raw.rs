//! Cutting JSON text without parsing it whole: stored objects are written by us and valid.

/// The top-level fields of a JSON object, in order.
pub(super) struct Fields<'a> {
    text: &'a [u8],
    at: usize,
}

/// One field.
pub(super) struct Field<'a> {
    /// The name, as written between the quotes.
    pub(super) name: &'a [u8],
    /// The value's text.
    pub(super) value: &'a [u8],
    /// Name, colon and value.
    pub(super) whole: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of this object.
    pub(super) fn of(text: &'a [u8]) -> Self {
        let open = skip_space(text, 0);
        let at = if text.get(open) == Some(&b'{') { open + 1 } else { text.len() };
        Self { text, at }
    }

    /// What has not been looked at: `,"next":...}` or `}`.
    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let mut start = skip_space(self.text, self.at);
        if self.text.get(start) == Some(&b',') {
            start = skip_space(self.text, start + 1);
        }
        if self.text.get(start) != Some(&b'"') {
            return None;
        }
        let name_end = skip_string(self.text, start);
        let colon = skip_space(self.text, name_end);
        let value = skip_space(self.text, colon + 1);
        let end = skip_value(self.text, value);
        self.at = end;
        Some(Field {
            name: self.text.get(start + 1..name_end - 1)?,
            value: self.text.get(value..end)?,
            whole: self.text.get(start..end)?,
        })
    }
}

/// The text of one top-level field.
pub(super) fn field<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    Fields::of(json).find(|field| field.name == name.as_bytes()).map(|field| field.value)
}

/// Appends the object without `kind` and `apiVersion`: items of a list carry none.
pub(super) fn push_without_type(out: &mut Vec<u8>, json: &[u8]) {
    out.push(b'{');
    let mut fields = Fields::of(json);
    let (mut types, mut first) = (0, true);
    while let Some(field) = fields.next() {
        if field.name == b"kind" || field.name == b"apiVersion" {
            types += 1;
            if types == 2 {
                let rest = fields.rest();
                out.extend_from_slice(if first {
                    rest.strip_prefix(b",").unwrap_or(rest)
                } else {
                    rest
                });
                return;
            }
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        out.extend_from_slice(field.whole);
    }
    out.push(b'}');
}

fn skip_space(text: &[u8], mut at: usize) -> usize {
    while matches!(text.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
        at += 1;
    }
    at
}

/// From the opening quote to behind the closing one.
fn skip_string(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn skip_value(text: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                at = skip_string(text, at);
                if depth == 0 {
                    return at;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn without_type(json: &str) -> String {
        let mut out = Vec::new();
        push_without_type(&mut out, json.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn kind_and_version_are_cut_wherever_they_stand() {
        let rest = r#"{"metadata":{"kind":"x","a":"}\"{"},"n":[1,{}]}"#;
        let first =
            r#"{"kind":"A","apiVersion":"v1","metadata":{"kind":"x","a":"}\"{"},"n":[1,{}]}"#;
        let last =
            r#"{"metadata":{"kind":"x","a":"}\"{"},"n":[1,{}],"apiVersion":"v1","kind":"A"}"#;
        let around =
            r#"{"apiVersion":"v1","metadata":{"kind":"x","a":"}\"{"},"n":[1,{}],"kind":"A"}"#;
        for text in [first, last, around, rest] {
            assert_eq!(without_type(text), rest);
        }
        assert_eq!(without_type(r#"{"kind":"A","apiVersion":"v1"}"#), "{}");
        assert_eq!(without_type("{}"), "{}");
    }

    #[test]
    fn fields_agree_with_a_parser() {
        let value = json!({
            "a": [1, "]", { "b": "\\\"" }], "c": null, "d": -1.5e3, "e": "", "f": { "g": true },
        });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let mut count = 0;
            for field in Fields::of(text.as_bytes()) {
                let name = std::str::from_utf8(field.name).unwrap();
                let parsed: Value = serde_json::from_slice(field.value).unwrap();
                assert_eq!(parsed, value[name]);
                count += 1;
            }
            assert_eq!(count, 5);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_walked(text in "[{}\\[\\]\",:a\\\\ 1]{0,30}") {
            let walked: usize = Fields::of(text.as_bytes()).map(|field| field.whole.len()).sum();
            proptest::prop_assert!(walked <= text.len());
            push_without_type(&mut Vec::new(), text.as_bytes());
        }
    }

    #[test]
    fn damaged_text_ends_the_walk() {
        for text in ["", "[", "{\"a", "{\"a\\", "{\"a\":", "{\"a\":{", "{\"a\":\"\\", "{a"] {
            assert!(Fields::of(text.as_bytes()).count() <= 1, "{text}");
            push_without_type(&mut Vec::new(), text.as_bytes());
        }
    }
}
