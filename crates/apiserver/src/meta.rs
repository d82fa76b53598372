//! ObjectMeta: what the server itself writes into it.

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Map, Value};

/// `metadata`, made when missing.
pub(crate) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    match metadata {
        Value::Object(map) => map,
        _ => unreachable!("was made an object two lines above"),
    }
}

/// A text of `metadata`, empty when missing.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<String> {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers
        .into_iter()
        .flatten()
        .filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
        .collect()
}

/// Sets `metadata.finalizers`; an empty list is left out.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let metadata = metadata(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Whether `metadata.deletionTimestamp` is set.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// Fills what the server gives a new object: uid, creation time, a generated name.
pub(crate) fn start(object: &mut Value) {
    let generate_name = text(object, "generateName").to_owned();
    let metadata = metadata(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid().into());
    metadata.insert("creationTimestamp".to_owned(), seconds(Timestamp::now()).into());
    let is_named =
        metadata.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if !is_named && !generate_name.is_empty() {
        metadata.insert("name".to_owned(), generated(&generate_name).into());
    }
}

/// Takes over what an update may not change although clients may leave it out.
pub(crate) fn carry(new: &mut Value, old: &Value) {
    let metadata = metadata(new);
    metadata.remove("selfLink");
    let old = &old["metadata"];
    let has_uid = metadata.get("uid").and_then(Value::as_str).is_some_and(|uid| !uid.is_empty());
    if !has_uid {
        metadata.insert("uid".to_owned(), old["uid"].clone());
    }
    metadata.insert("creationTimestamp".to_owned(), old["creationTimestamp"].clone());
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !old[field].is_null() {
            metadata.insert(field.to_owned(), old[field].clone());
        }
    }
    match &old["generation"] {
        Value::Null => drop(metadata.remove("generation")),
        generation => drop(metadata.insert("generation".to_owned(), generation.clone())),
    }
}

/// A prefix and five random characters that spell no words (apiserver names.SimpleNameGenerator).
pub(crate) fn generated(prefix: &str) -> String {
    let end = prefix.char_indices().nth(LONGEST_PREFIX).map_or(prefix.len(), |(end, _)| end);
    let mut name = prefix[..end].to_owned();
    for byte in random::<SUFFIX_LENGTH>() {
        name.push(SUFFIX_LETTERS[usize::from(byte) % SUFFIX_LETTERS.len()].into());
    }
    name
}

/// A random (version 4) UUID.
pub(crate) fn uid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // It fails only where the kernel has no getrandom; all zeros would then collide and be
    // refused as taken, never be given twice.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        tracing::error!("the operating system gives no random bytes");
    }
    bytes
}

/// A time as `metav1.Time` writes it: RFC 3339 with whole seconds.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Names have at most 63 characters.
const LONGEST_PREFIX: usize = 63 - SUFFIX_LENGTH;
const SUFFIX_LENGTH: usize = 5;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_random_uuids() {
        let uid = uid();
        assert_eq!(uid.len(), 36);
        assert_eq!(&uid[14..15], "4");
        assert_ne!(uid, super::uid());
    }

    #[test]
    fn generated_names_fit() {
        let name = generated(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(generated("web-").starts_with("web-"));
    }
}
