//! A disk that fills up: writes are refused with a clear error, reads and watches go on, and with
//! room again writes are taken again (L6).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::Server;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[test]
fn a_full_disk_refuses_writes_and_keeps_serving_reads() {
    if let Some(why) = testkit::no_namespaces() {
        let test = "a_full_disk_refuses_writes_and_keeps_serving_reads";
        return testkit::skip(test, &format!("no mount namespace of its own: {why}"));
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(fill_up(folder.path()));
}

async fn fill_up(folder: &Path) {
    let disk = folder.join("disk");
    std::fs::create_dir(&disk).unwrap();
    let server = Server::spawn_with(on_small_disk(&disk), folder, disk.join("state"));
    let server = server.serving().await;
    let disk = PathBuf::from(format!("/proc/{}/root{}", server.id(), disk.display()));
    let mut client = Client::connect(&server).await.unwrap();
    let (mut written, refusal) = write_until_refused(&mut client, &disk.join("ballast")).await;
    let message = refusal["message"].as_str().unwrap();
    assert!(message.contains("state.redb cannot be written: make room"), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    assert_eq!((&refusal["code"], &refusal["reason"]), (&json!(500), &json!("InternalError")));

    // Every acknowledged object is there, and nothing else; deleting needs room as well.
    assert_eq!(names(&mut client).await, written);
    let (code, _) = client.ask("GET", &format!("{CONFIG_MAPS}/c-0"), &Value::Null).await.unwrap();
    assert_eq!(code, 200);
    let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let watch = Client::connect(&server).await.unwrap().send("GET", &watch, &Value::Null).await;
    assert_eq!(watch.unwrap().status(), 200);

    // With room again no restart is needed.
    std::fs::remove_file(disk.join("ballast")).unwrap();
    let (code, answer) = client.ask("POST", CONFIG_MAPS, &object("after", 1)).await.unwrap();
    assert_eq!(code, 201, "{answer}");
    written.push("after".to_owned());
    written.sort();
    assert_eq!(names(&mut client).await, written);
    server.kill();
}

/// The program in mount and user namespaces of its own, with a small file system at `disk`.
fn on_small_disk(disk: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg("mount -t tmpfs -o size=12m tmpfs \"$0\" && exec \"$@\"")
        .arg(disk)
        .arg(env!("CARGO_BIN_EXE_portolan"));
    command
}

/// Uses the disk up, then the room that the store has left inside its file. What was acknowledged,
/// and the first refusal.
async fn write_until_refused(client: &mut Client, ballast: &Path) -> (Vec<String>, Value) {
    let mut written = Vec::new();
    for number in 0..100 {
        let name = format!("c-{number}");
        let (code, answer) =
            client.ask("POST", CONFIG_MAPS, &object(&name, 300_000)).await.unwrap();
        if code != 201 {
            return (written, answer);
        }
        written.push(name);
        written.sort();
        if number == 0 {
            let mut file = File::create(ballast).unwrap();
            while file.write_all(&[0; 65536]).is_ok() {}
        }
    }
    panic!("no write was refused");
}

/// Names of the ConfigMaps.
async fn names(client: &mut Client) -> Vec<String> {
    let (code, list) = client.ask("GET", CONFIG_MAPS, &Value::Null).await.unwrap();
    assert_eq!(code, 200);
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn object(name: &str, size: usize) -> Value {
    json!({ "metadata": { "name": name }, "data": { "a": "x".repeat(size) } })
}
