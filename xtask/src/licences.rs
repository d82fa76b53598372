//! Licences of all dependencies, and no second copy of a library without a reason.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Violation;
use crate::metadata::{list, load, text};

/// Licences that Apache-2.0 software may link.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "Apache-2.0 WITH LLVM-exception",
];

/// Libraries that are linked twice, and why nothing here can change it.
const TWICE: &[(&str, &str)] = &[
    ("base64", "kube's WebSocket client is a major version behind"),
    ("bit-vec", "tests only: proptest's bit sets follow another major version"),
    ("getrandom", "ring, tempfile and hickory each follow another major version"),
    ("hashbrown", "schema and HTTP libraries follow another major version"),
    ("itertools", "benches only: criterion follows another major version"),
    ("syn", "build time only: derive macros of two generations"),
    ("synstructure", "build time only: derive macros of two generations"),
];

/// A second cryptography provider must not sneak in through default features.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "ring is the provider"),
    ("aws-lc-sys", "ring is the provider"),
    ("openssl", "rustls is the TLS library"),
];

pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let metadata = match load(root, true) {
        Ok(metadata) => metadata,
        Err(error) => return vec![error],
    };
    let mut violations = Vec::new();
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for package in used(&metadata) {
        let name = text(package, "name");
        if package["source"].is_null() {
            continue;
        }
        *versions.entry(name).or_default() += 1;
        if !acceptable(text(package, "license")) {
            let licence = text(package, "license");
            violations.push(format!("licences: {name} is {licence:?}, which is not on the list"));
        }
        if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            violations.push(format!("licences: {name} must not be linked: {reason}"));
        }
    }
    for (name, count) in versions {
        if count > 1 && !TWICE.iter().any(|(known, _)| *known == name) {
            violations.push(format!(
                "licences: {name} is linked in {count} versions; agree on one or give the reason"
            ));
        }
    }
    violations
}

/// The packages that the resolved graph for this platform really contains.
fn used(metadata: &serde_json::Value) -> Vec<&serde_json::Value> {
    let nodes: Vec<&str> =
        list(&metadata["resolve"], "nodes").iter().map(|node| text(node, "id")).collect();
    let packages = list(metadata, "packages").iter();
    packages.filter(|package| nodes.contains(&text(package, "id"))).collect()
}

/// An SPDX expression without parentheses deeper than one level: every AND part needs one
/// allowed OR alternative.
fn acceptable(expression: &str) -> bool {
    let flat = expression.replace('/', " OR ");
    flat.split(" AND ").all(|part| {
        let part = part.trim().trim_matches(|c| c == '(' || c == ')');
        part.split(" OR ")
            .any(|licence| ALLOWED.contains(&licence.trim().trim_matches(|c| c == '(' || c == ')')))
    })
}

#[cfg(test)]
mod tests {
    use super::acceptable;

    #[test]
    fn every_and_part_needs_an_allowed_alternative() {
        assert!(acceptable("MIT OR GPL-3.0-only"));
        assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(acceptable("MIT/Apache-2.0"));
        assert!(!acceptable("MIT AND MPL-2.0"));
        assert!(!acceptable(""));
    }
}
