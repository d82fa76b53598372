//! Bad input to `up`: refused before anything starts, with a message that says what to change.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::text;

/// Runs `portolan up` with a manifest and further arguments; it must be refused, with these words.
fn refused(manifest: &str, arguments: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let output = up(folder.path(), manifest, arguments);
    assert!(!output.status.success(), "{manifest}");
    let said = text(&output);
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in: {said}");
    }
}

fn up(folder: &Path, manifest: &str, arguments: &[&str]) -> Output {
    let file = folder.join("web.yaml");
    std::fs::write(&file, manifest).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.arg("up").arg("-f").arg(&file).arg("--state").arg(folder.join("state"));
    command.args(arguments).output().unwrap()
}

const SERVICE: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 80}]\n";

#[test]
fn an_unknown_field_is_named_with_file_and_line() {
    let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  prots: []\n";
    refused(manifest, &[], &["web.yaml:5", "spec.prots"]);
}

#[test]
fn an_unknown_kind_is_named_with_file_and_line() {
    let manifest =
        format!("{SERVICE}---\napiVersion: v1\nkind: Sevrice\nmetadata: {{name: web}}\n");
    refused(&manifest, &[], &["web.yaml:", "Sevrice"]);
}

#[test]
fn broken_yaml_is_named_with_file_and_line() {
    refused("apiVersion: v1\nkind: [Service\n", &[], &["web.yaml:"]);
    refused("apiVersion: v1\nkind: Service\n\tmetadata: {}\n", &[], &["web.yaml:2", "tab"]);
}

#[test]
fn a_wrong_value_is_named_with_its_field() {
    let manifest = SERVICE.replace("80", "eighty");
    refused(&manifest, &[], &["web.yaml:", "Service \"web\"", "spec.ports.port", "int32"]);
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    refused(SERVICE, &["-f", "/does/not/exist.yaml"], &["/does/not/exist.yaml"]);
}

#[test]
fn a_pool_over_other_networks_is_refused() {
    refused(SERVICE, &["--pool", "172.30.0.0/27"], &["--pool", "172.30.0.0/27", "overlaps"]);
    refused(SERVICE, &["--pool", "10.96.0.0/24"], &["--pool", "external network"]);
}

#[test]
fn the_state_of_another_version_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("version"), "999\n").unwrap();
    let output = up(folder.path(), SERVICE, &[]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("999") && said.contains("--state"), "{said}");
    assert_eq!(std::fs::read_to_string(state.join("version")).unwrap(), "999\n");
}
