//! Pod templates with and without the label that tells ReplicaSets of one Deployment apart.

use std::sync::Arc;

use model::{Labels, PodTemplate};

/// Label of a ReplicaSet, its pods and its selector.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// Letters that cannot form words by accident; upstream's alphabet for generated names.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates differ in nothing but the hash label.
pub(crate) fn is_same(one: &PodTemplate, other: &PodTemplate) -> bool {
    without_hash(&one.labels) == without_hash(&other.labels)
        && parts(&one.body) == parts(&other.body)
}

/// The hash of a template; `collision` gives other values when a name is already taken.
pub(crate) fn hash(template: &PodTemplate, collision: u32) -> String {
    let mut hash = Fnv::default();
    let (head, tail) = parts(&template.body);
    hash.add(head.as_bytes());
    hash.add(tail.as_bytes());
    for (key, value) in without_hash(&template.labels) {
        hash.add(key.as_bytes());
        hash.add(&[0]);
        hash.add(value.as_bytes());
        hash.add(&[0]);
    }
    if collision > 0 {
        hash.add(&collision.to_le_bytes());
    }
    let letter = |digit: u8| char::from(SAFE[usize::from(digit) % SAFE.len()]);
    hash.0.to_string().bytes().map(letter).collect()
}

/// The template with the hash label, in the labels and in the text.
pub(crate) fn with_hash(template: &PodTemplate, hash: &str) -> PodTemplate {
    let mut labels = template.labels.clone();
    labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
    let body = match parts(&template.body) {
        (_, "") => Arc::clone(&template.body),
        (head, tail) => format!("{head}{}{tail}", as_json(&labels)).into(),
    };
    PodTemplate { labels, body }
}

fn without_hash(labels: &Labels) -> Labels {
    let mut labels = labels.clone();
    labels.remove(HASH_LABEL);
    labels
}

/// The text before and after the object `metadata.labels`; all of it and nothing when it has none.
///
/// The text is canonical JSON (keys sorted, no blanks), so `metadata` comes before `spec`, a quote
/// inside a string is escaped, and neither keys nor values of labels can hold a brace.
fn parts(body: &str) -> (&str, &str) {
    const LABELS: &str = "\"labels\":";
    let metadata = &body[..body.find("\"spec\":{").unwrap_or(body.len())];
    let Some(at) = metadata.find("\"labels\":{") else { return (body, "") };
    let (head, rest) = body.split_at(at + LABELS.len());
    rest.split_once('}').map_or((body, ""), |(_, tail)| (head, tail))
}

fn as_json(labels: &Labels) -> String {
    let entries: Vec<String> =
        labels.iter().map(|(key, value)| format!("\"{key}\":\"{value}\"")).collect();
    format!("{{{}}}", entries.join(","))
}

/// FNV-1a, 32 bits.
struct Fnv(u32);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x811c_9dc5)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(body: &str) -> PodTemplate {
        PodTemplate { labels: Labels::from([("app".into(), "web".into())]), body: body.into() }
    }

    #[test]
    fn the_hash_label_does_not_count_and_appears_in_the_text() {
        let plain = template(r#"{"metadata":{"labels":{"app":"web"}},"spec":{"x":1}}"#);
        let hashed = with_hash(&plain, "abc");
        assert_eq!(
            &*hashed.body,
            r#"{"metadata":{"labels":{"app":"web","pod-template-hash":"abc"}},"spec":{"x":1}}"#
        );
        assert!(is_same(&plain, &hashed));
        assert_eq!(hash(&plain, 0), hash(&hashed, 0));
        assert_ne!(hash(&plain, 0), hash(&plain, 1));
    }

    #[test]
    fn everything_else_counts() {
        let one = template(r#"{"metadata":{"labels":{"app":"web"}},"spec":{"x":1}}"#);
        let other = template(r#"{"metadata":{"labels":{"app":"web"}},"spec":{"x":2}}"#);
        assert!(!is_same(&one, &other));
        let mut labels = one.clone();
        labels.labels.insert("tier".into(), "front".into());
        assert!(!is_same(&one, &labels));
    }

    #[test]
    fn labels_inside_the_spec_are_not_those_of_the_pod() {
        let body = r#"{"spec":{"volumes":[{"metadata":{"labels":{"a":"b"}}}]}}"#;
        assert_eq!(&*with_hash(&template(body), "abc").body, body);
    }
}
