//! The size ratchet: no file over 600 lines; what is over it already may only shrink.
//!
//! (Functions over 70 lines are clippy's `too_many_lines`.)

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Violation;

/// Longest allowed file, in lines, tests included.
const LIMIT: usize = 600;
/// Files that were longer when the rule came, with their length then.
const RATCHET: &str = "xtask/sizes.txt";

pub(crate) fn check(root: &Path) -> Vec<Violation> {
    let known = known(root);
    let mut violations = Vec::new();
    for (file, lines) in long_files(root) {
        match known.get(&file) {
            None => violations.push(format!("sizes: {file} has {lines} lines, over {LIMIT}: split it by topic")),
            Some(before) if lines > *before => violations.push(format!(
                "sizes: {file} grew from {before} to {lines} lines: it may only shrink"
            )),
            Some(before) if lines < *before => violations.push(format!(
                "sizes: {file} shrank from {before} to {lines} lines: run `cargo xtask sizes --tighten`"
            )),
            Some(_) => {}
        }
    }
    violations
}

/// Writes today's lengths down, so that they cannot grow again. Never adds a file.
pub(crate) fn tighten(root: &Path) -> Vec<Violation> {
    let known = known(root);
    let kept = long_files(root)
        .into_iter()
        .filter(|(file, lines)| known.get(file).is_some_and(|before| lines <= before));
    let text: String = kept.map(|(file, lines)| format!("{lines} {file}\n")).collect();
    match fs::write(root.join(RATCHET), text) {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("sizes: write {RATCHET}: {error}")],
    }
}

fn known(root: &Path) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root.join(RATCHET)).unwrap_or_default();
    let entry = |line: &str| {
        let (lines, file) = line.split_once(' ')?;
        Some((file.to_owned(), lines.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

fn long_files(root: &Path) -> BTreeMap<String, usize> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask"] {
        rust_files(&root.join(folder), &mut files);
    }
    let mut long = BTreeMap::new();
    for file in files {
        let lines = fs::read_to_string(&file).unwrap_or_default().lines().count();
        if lines > LIMIT {
            let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            long.insert(name, lines);
        }
    }
    long
}

/// All `.rs` files below a folder.
pub(crate) fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
