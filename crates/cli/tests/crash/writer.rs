//! Those who write and those who watch.

use std::sync::Arc;

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::client::{Client, Gone, SERVICES};
use crate::journal::{Kind, Lane, Open};
use crate::server::Server;
use testkit::fuzz::Random;

/// Services that one writer has at a time.
const MOST: usize = 12;

/// Writes until the server is gone.
pub(crate) async fn write(mut client: Client, mut lane: Lane, mut random: Random) -> Lane {
    while step(&mut client, &mut lane, &mut random).await.is_ok() {}
    lane
}

/// One write, from what is noted before it is sent to what is noted when it is acknowledged.
async fn step(client: &mut Client, lane: &mut Lane, random: &mut Random) -> Result<(), Gone> {
    let (open, method, body) = choose(lane, random);
    let path = match open.kind {
        Kind::Create => SERVICES.to_owned(),
        Kind::Change | Kind::Delete => format!("{SERVICES}/{}", open.name),
    };
    lane.open = Some(open.clone());
    let (code, answer) = client.ask(method, &path, &body).await?;
    lane.open = None;
    assert!(matches!(code, 200 | 201), "{method} {path} {body}: {code} {answer}");
    if open.kind == Kind::Delete {
        lane.services.remove(&open.name);
        return Ok(());
    }
    let version = version(&answer);
    lane.services.insert(open.name, version);
    lane.acknowledged.push(version);
    Ok(())
}

fn choose(lane: &mut Lane, random: &mut Random) -> (Open, &'static str, Value) {
    let count = lane.services.len();
    let wants_new = count == 0 || (count < MOST && random.once_in(2));
    if wants_new {
        lane.names += 1;
        let name = format!("w{}-{}", lane.number, lane.names);
        let object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
            "spec": spec(random),
        });
        return (Open { name, kind: Kind::Create }, "POST", object);
    }
    let at = random.below(count);
    let name = lane.services.keys().nth(at).unwrap().clone();
    if count >= MOST || random.once_in(3) {
        return (Open { name, kind: Kind::Delete }, "DELETE", Value::Null);
    }
    let mut patch = json!({ "metadata": { "labels": { "n": random.number().to_string() } } });
    if random.once_in(2) {
        patch["spec"] = spec(random);
    }
    (Open { name, kind: Kind::Change }, "PATCH", patch)
}

/// Also as a patch each leads to a Service that can be: the old values give way.
fn spec(random: &mut Random) -> Value {
    let ports = json!([
        { "name": "a", "port": 80 },
        { "name": "b", "port": 80, "protocol": "UDP" },
    ]);
    match random.below(4) {
        0 => json!({ "type": "ClusterIP", "ports": ports, "externalTrafficPolicy": null }),
        1 => json!({ "type": "NodePort", "ports": ports }),
        2 => json!({
            "type": "LoadBalancer", "ports": ports, "externalTrafficPolicy": "Local",
        }),
        _ => json!({
            "type": "NodePort", "ports": ports, "ipFamilyPolicy": "PreferDualStack",
        }),
    }
}

/// Watches Services until the server is gone: versions and names of what came whole.
pub(crate) async fn watch(server: Arc<Server>, after: u64) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    let path = format!("{SERVICES}?watch=1&resourceVersion={after}");
    let Ok(mut client) = Client::connect(&server).await else { return seen };
    let Ok(response) = client.send("GET", &path, &Value::Null).await else { return seen };
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    let mut rest = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        rest.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).unwrap();
            assert_ne!(event["type"], "ERROR", "{event}");
            let name = event["object"]["metadata"]["name"].as_str().unwrap();
            seen.push((version(&event["object"]), name.to_owned()));
        }
    }
    seen
}

/// `metadata.resourceVersion`.
pub(crate) fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}
