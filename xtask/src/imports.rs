//! Who may import whom: the table of ARCHITECTURE.md, from `cargo metadata`.

use std::path::Path;

use crate::Violation;
use crate::metadata::{list, load, text};

/// For each crate, our crates that it may depend on. Development dependencies are free:
/// a test may join what the product keeps apart.
const MATRIX: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("wire", &["model"]),
    ("plan", &["model"]),
    ("verdict", &["model"]),
    ("nft", &["model"]),
    ("announce", &["model"]),
    ("dns", &["model"]),
    ("spdy", &[]),
    ("cluster", &["model", "wire"]),
    ("apiserver", &["model", "wire", "plan"]),
    ("daemon", &["model", "plan", "cluster", "nft", "announce", "dns"]),
    (
        "lab",
        &[
            "model",
            "wire",
            "plan",
            "verdict",
            "nft",
            "announce",
            "dns",
            "spdy",
            "cluster",
            "apiserver",
            "daemon",
        ],
    ),
];

/// Libraries that pure crates must not see: clocks, randomness, logs, async, I/O.
const IMPURE: &[&str] = &[
    "kube",
    "k8s-openapi",
    "tokio",
    "tracing",
    "rand",
    "getrandom",
    "hyper",
    "futures",
    "libc",
    "nix",
    "socket2",
];
const PURE: &[&str] = &["model", "wire", "plan", "verdict", "spdy"];

/// Kubernetes' own Rust types stay in one crate (invariant: `plan` cannot know JSON).
const KUBE_TYPES: &[&str] = &["kube", "k8s-openapi"];

pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let metadata = match load(root, false) {
        Ok(metadata) => metadata,
        Err(error) => return vec![error],
    };
    list(&metadata, "packages").iter().flat_map(check_package).collect()
}

fn check_package(package: &serde_json::Value) -> Vec<Violation> {
    let Some(name) = text(package, "name").strip_prefix("portolan-") else { return Vec::new() };
    let mut violations = Vec::new();
    for dependency in list(package, "dependencies") {
        if !dependency["kind"].is_null() {
            continue;
        }
        let imported = text(dependency, "name");
        if let Some(ours) = imported.strip_prefix("portolan-") {
            let row = MATRIX.iter().find(|(crate_name, _)| *crate_name == name);
            let allowed = row.is_some_and(|(_, allowed)| allowed.contains(&ours));
            if !allowed {
                violations.push(format!("imports: {name} must not import {ours}"));
            }
        }
        if PURE.contains(&name) && IMPURE.contains(&imported) {
            violations.push(format!("imports: {name} is pure and must not import {imported}"));
        }
        if name != "cluster" && KUBE_TYPES.contains(&imported) {
            violations.push(format!("imports: only cluster may import {imported}, not {name}"));
        }
    }
    violations
}
