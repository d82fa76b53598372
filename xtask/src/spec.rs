//! The ledger of rules: every id in `spec/` is cited by code and by a story or test, or is
//! refused with a reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Violation;
use crate::sizes::rust_files;

/// One line of a `spec/*.txt` file: `ID status text`.
struct Rule {
    id: String,
    status: Status,
}

#[derive(PartialEq, Eq)]
enum Status {
    /// Done: cited by code and by a story or test.
    Done,
    /// Planned for a later milestone; told in the README.
    Later,
    /// Not followed, with the reason in the text.
    Refused,
}

pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let (rules, mut violations) = ledger(root);
    let (code, proofs) = contents(root);
    for rule in rules {
        if rule.status != Status::Done {
            continue;
        }
        if !cited(&code, &rule.id) {
            violations.push(format!("spec: {} is done but no code cites it", rule.id));
        }
        if !cited(&proofs, &rule.id) {
            violations.push(format!("spec: {} is done but no story or test cites it", rule.id));
        }
    }
    violations
}

fn ledger(root: &Path) -> (Vec<Rule>, Vec<Violation>) {
    let mut rules = Vec::new();
    let mut violations = Vec::new();
    let mut seen = BTreeMap::new();
    let files = fs::read_dir(root.join("spec")).into_iter().flatten().flatten();
    for file in files.filter(|file| file.path().extension().is_some_and(|end| end == "txt")) {
        let name = file.file_name().display().to_string();
        for line in fs::read_to_string(file.path()).unwrap_or_default().lines() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            let (Some(id), Some(status)) = (words.next(), words.next()) else { continue };
            let status = match status {
                "done" => Status::Done,
                "later" => Status::Later,
                "refused" if words.clone().count() > 3 => Status::Refused,
                _ => {
                    violations.push(format!(
                        "spec: {name}: {id}: want done, later or refused with a reason"
                    ));
                    continue;
                }
            };
            if seen.insert(id.to_owned(), ()).is_some() {
                violations.push(format!("spec: {name}: {id} stands twice"));
            }
            rules.push(Rule { id: id.to_owned(), status });
        }
    }
    (rules, violations)
}

/// Stories and files whose whole purpose is testing.
fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("/tests/") || text.contains("tests.rs") || text.ends_with(".txtar")
}

/// The texts of production code, and those of stories and tests. A file's part from
/// its inline `mod tests` on counts as test.
fn contents(root: &Path) -> (Vec<String>, Vec<String>) {
    let mut files = Vec::new();
    rust_files(&root.join("crates"), &mut files);
    let stories = fs::read_dir(root.join("stories")).into_iter().flatten().flatten();
    files.extend(stories.map(|file| file.path()));
    let (mut code, mut proofs) = (Vec::new(), Vec::new());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        if is_test(&file) {
            proofs.push(text);
        } else if let Some((before, after)) = text.split_once("#[cfg(test)]\nmod tests {") {
            code.push(before.to_owned());
            proofs.push(after.to_owned());
        } else {
            code.push(text);
        }
    }
    (code, proofs)
}

/// Whether an id stands in a text as a word of its own (`D2` is not in `D20`).
fn cited(texts: &[String], id: &str) -> bool {
    texts.iter().any(|text| {
        text.match_indices(id).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + id.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
    })
}
