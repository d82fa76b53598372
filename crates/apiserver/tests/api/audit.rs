//! The audit log: events of requests, as the policy wants them.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::TestServer;
use crate::rights::ask;

#[tokio::test]
async fn who_did_what_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("audit.log");
    let server = TestServer::start_with(|config| {
        config.audit_log_path = Some(log.clone());
    })
    .await;
    let path = "/api/v1/namespaces/default/services/s";
    ask(&server, "Bearer U", "GET", path, &[("user-agent", "test")], &Value::Null).await;
    let actor = [("impersonate-user", "x")];
    ask(&server, "Bearer T", "GET", path, &actor, &Value::Null).await;
    ask(&server, "Bearer wrong", "GET", "/version", &[], &Value::Null).await;
    let watch = "/api/v1/services?watch=1&timeoutSeconds=1";
    ask(&server, "Bearer T", "GET", watch, &[], &Value::Null).await;
    let events = events_after(server, &log).await;
    let told = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let [verb, user, stage] = [&event["verb"], &event["user"]["username"], &event["stage"]];
        (text(user), text(verb), text(stage), code)
    };
    let row = |user: &str, verb: &str, stage: &str, code| {
        (user.to_owned(), verb.to_owned(), stage.to_owned(), code)
    };
    let told: Vec<_> = events.iter().map(told).collect();
    let nobody: Vec<_> = told.iter().filter(|(user, ..)| user.is_empty()).collect();
    assert_eq!(nobody, [&row("", "get", "ResponseStarted", 401)], "upstream writes one event");
    for expected in [
        row("somebody", "get", "RequestReceived", 0),
        row("somebody", "get", "ResponseComplete", 403),
        row("admin", "get", "ResponseComplete", 403),
        row("admin", "watch", "ResponseStarted", 200),
        row("admin", "watch", "ResponseComplete", 200),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    let refused = &events[1];
    assert_eq!(
        refused["objectRef"],
        json!({ "resource": "services", "namespace": "default", "name": "s", "apiVersion": "v1" })
    );
    assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    assert_eq!((&refused["userAgent"], &refused["level"]), (&json!("test"), &json!("Metadata")));
    let status = &refused["responseStatus"];
    assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("Forbidden")));
    assert_eq!(status["details"]["name"], "s");
    assert!(refused.get("responseObject").is_none());
    assert!(events.iter().any(|event| event["impersonatedUser"]["username"] == "x"));
}

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  nonResourceURLs: ['/healthz*', /version]
- level: Metadata
  resources: [{ group: '', resources: [secrets] }]
- level: Request
  verbs: [patch, delete]
- level: RequestResponse
  omitStages: [ResponseComplete]
  resources: [{ group: '', resources: [namespaces], resourceNames: [default] }]
- level: RequestResponse
  namespaces: [default]
  omitManagedFields: false
- level: RequestResponse
  resources: [{ group: '', resources: [namespaces] }]
";

#[tokio::test]
async fn bodies_are_written_as_the_policy_wants() {
    let folder = tempfile::tempdir().unwrap();
    let (log, policy) = (folder.path().join("audit.log"), folder.path().join("policy.yaml"));
    std::fs::write(&policy, POLICY).unwrap();
    let server = TestServer::start_with(|config| {
        config.audit_log_path = Some(log.clone());
        config.audit_policy_file = Some(policy);
    })
    .await;
    let namespace = json!({ "metadata": { "name": "n" } });
    server.json("POST", "/api/v1/namespaces", &namespace).await;
    server.json("GET", "/api/v1/namespaces/default", &Value::Null).await;
    let map = json!({ "metadata": { "generateName": "m-" }, "data": { "a": "b" } });
    server.json("POST", "/api/v1/namespaces/default/configmaps", &map).await;
    let secret = json!({ "metadata": { "name": "s" }, "stringData": { "password": "x" } });
    server.json("POST", "/api/v1/namespaces/default/secrets", &secret).await;
    let accept = [("accept", "application/vnd.kubernetes.protobuf")];
    server.ask("GET", "/api/v1/namespaces/default/configmaps", &accept, "").await;
    let patch = json!({ "metadata": { "labels": { "a": "b" } } });
    server.json("PATCH", "/api/v1/namespaces/n", &patch).await;
    server.json("GET", "/version", &Value::Null).await;
    server.json("GET", "/apis", &Value::Null).await;
    let events = events_after(server, &log).await;
    let of = |verb: &str, resource: &str| {
        let is = |event: &&Value| {
            event["verb"] == verb
                && event["objectRef"]["resource"] == resource
                && event["user"]["username"] == "admin"
        };
        events.iter().find(is).unwrap_or_else(|| panic!("no {verb} {resource} in {events:#?}"))
    };
    let created = of("create", "namespaces");
    assert_eq!(
        created["objectRef"],
        json!({
            "resource": "namespaces", "name": "n", "apiVersion": "v1",
        })
    );
    assert_eq!(created["requestObject"]["metadata"]["name"], "n");
    assert_eq!(created["responseObject"]["status"]["phase"], "Active");
    assert!(created["responseObject"]["metadata"].get("managedFields").is_none());
    let map = of("create", "configmaps");
    assert_eq!(map["responseObject"]["data"], json!({ "a": "b" }));
    assert!(map["responseObject"]["metadata"]["managedFields"].is_array());
    assert_eq!(of("list", "configmaps")["responseObject"]["kind"], "ConfigMapList");
    let secret = of("create", "secrets");
    assert_eq!((&secret["level"], &secret["objectRef"]["name"]), (&json!("Metadata"), &json!("s")));
    assert!(!secret.to_string().contains("password"), "{secret}");
    let patched = of("patch", "namespaces");
    assert_eq!(patched["requestObject"], patch);
    assert!(patched.get("responseObject").is_none());
    for event in &events {
        assert_eq!(event["stage"], "ResponseComplete");
        assert_ne!(event["objectRef"]["name"], "default", "both stages of it are left out");
        assert!(!event["requestURI"].as_str().unwrap().starts_with("/apis"), "no rule fits");
    }
}

/// The events of a server that ends now: then its log is complete.
async fn events_after(server: TestServer, log: &Path) -> Vec<Value> {
    server.stop().await;
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
