//! What users may do, seen from outside: roles, bindings, reviews, impersonation.

use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Lines, TestServer, whole};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// As user `somebody`, or as whom the headers say.
pub(crate) async fn ask(
    server: &TestServer,
    token: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (StatusCode, Value) {
    let mut all = vec![("authorization", token), ("content-type", "application/json")];
    all.extend(headers);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (code, _, bytes) = whole(server.send(method, path, &all, body).await).await;
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn binding(kind: &str, role: &str, subjects: &Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": { "name": "b" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": subjects,
    })
}

fn somebody() -> Value {
    json!([{ "kind": "User", "name": "somebody" }])
}

#[tokio::test]
async fn a_binding_counts_from_its_answer_on_until_it_is_deleted() {
    let server = TestServer::start().await;
    let list = "/api/v1/namespaces/default/services";
    let (code, refusal) = ask(&server, "Bearer U", "GET", list, &[], &Value::Null).await;
    assert_eq!(code, 403);
    assert_eq!(
        refusal["message"],
        "services is forbidden: User \"somebody\" cannot list resource \"services\" in API group \
         \"\" in the namespace \"default\""
    );
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let (code, made) =
        server.json("POST", &bindings, &binding("RoleBinding", "view", &somebody())).await;
    assert_eq!(code, 201, "{made}");
    for (path, expected) in
        [(list, 200), ("/api/v1/services", 403), ("/metrics", 403), ("/api", 200)]
    {
        let (code, _) = ask(&server, "Bearer U", "GET", path, &[], &Value::Null).await;
        assert_eq!(code, expected, "{path}");
    }
    server.json("DELETE", &format!("{bindings}/b"), &Value::Null).await;
    assert_eq!(ask(&server, "Bearer U", "GET", list, &[], &Value::Null).await.0, 403);
    server.stop().await;
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_have() {
    let server = TestServer::start().await;
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let admin = binding("RoleBinding", "admin", &somebody());
    assert_eq!(server.json("POST", &bindings, &admin).await.0, 201);
    let role = |resources: &[&str]| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": { "name": "r" },
            "rules": [{ "apiGroups": [""], "resources": resources, "verbs": ["get", "update"] }],
        })
    };
    let roles = format!("{RBAC}/namespaces/default/roles");
    let (code, refusal) =
        ask(&server, "Bearer U", "POST", &roles, &[], &role(&["pods", "nodes"])).await;
    assert_eq!(code, 403);
    assert_eq!(
        refusal["message"],
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"somebody\" \
         (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not \
         currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"update\"]}"
    );
    assert_eq!(ask(&server, "Bearer U", "POST", &roles, &[], &role(&["pods"])).await.0, 201);
    let mut more = binding("RoleBinding", "cluster-admin", &somebody());
    more["metadata"]["name"] = "more".into();
    assert_eq!(ask(&server, "Bearer U", "POST", &bindings, &[], &more).await.0, 403);
    more["roleRef"]["name"] = "view".into();
    assert_eq!(ask(&server, "Bearer U", "POST", &bindings, &[], &more).await.0, 201);
    more["roleRef"]["name"] = "nowhere".into();
    more["metadata"]["name"] = "other".into();
    assert_eq!(ask(&server, "Bearer U", "POST", &bindings, &[], &more).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn a_put_that_creates_needs_the_right_to_create() {
    let server = TestServer::start().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "updater" },
        "rules": [{ "apiGroups": [""], "resources": ["services"], "verbs": ["update", "patch"] }],
    });
    assert_eq!(server.json("POST", &format!("{RBAC}/clusterroles"), &role).await.0, 201);
    let bind = binding("ClusterRoleBinding", "updater", &somebody());
    server.json("POST", &format!("{RBAC}/clusterrolebindings"), &bind).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    let path = "/api/v1/namespaces/default/services/s";
    let (code, refusal) = ask(&server, "Bearer U", "PUT", path, &[], &service).await;
    assert_eq!(code, 403, "{refusal}");
    server.json("POST", "/api/v1/namespaces/default/services", &service).await;
    assert_eq!(ask(&server, "Bearer U", "PUT", path, &[], &service).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn reviews_answer_what_requests_would_meet() {
    let server = TestServer::start().await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let about = |verb: &str, resource: &str| {
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": {
                "namespace": "default", "verb": verb, "resource": resource,
            }},
        })
    };
    let (code, answer) =
        ask(&server, "Bearer U", "POST", reviews, &[], &about("list", "pods")).await;
    assert_eq!((code, &answer["status"]), (StatusCode::CREATED, &json!({ "allowed": false })));
    let (_, answer) = ask(&server, "Bearer T", "POST", reviews, &[], &about("list", "pods")).await;
    assert_eq!(answer["status"]["allowed"], true);
    let rules = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": "default" },
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, answer) = ask(&server, "Bearer U", "POST", path, &[], &rules).await;
    let resources = answer["status"]["resourceRules"].as_array().unwrap();
    assert!(resources.iter().any(|rule| rule["resources"][0] == "selfsubjectreviews"), "{answer}");
    let me = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (_, answer) = ask(&server, "Bearer U", "POST", path, &[], &me).await;
    assert_eq!(
        answer["status"]["userInfo"],
        json!({ "username": "somebody", "uid": "2", "groups": ["system:authenticated"] })
    );
    let token = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": { "token": "U" },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (code, answer) = ask(&server, "Bearer U", "POST", path, &[], &token).await;
    assert_eq!(code, 403, "{answer}");
    let (_, answer) = ask(&server, "Bearer T", "POST", path, &[], &token).await;
    assert_eq!(answer["status"]["user"]["username"], "somebody");
    server.stop().await;
}

#[tokio::test]
async fn acting_as_somebody_needs_a_right_and_gives_his() {
    let server = TestServer::start().await;
    let path = "/api/v1/namespaces/default/services/s";
    for (token, headers, expected) in [
        ("Bearer T", vec![("impersonate-user", "somebody")], "User \"somebody\" cannot get"),
        ("Bearer U", vec![("impersonate-user", "admin")], "cannot impersonate resource \"users\""),
        (
            "Bearer U",
            vec![("impersonate-user", "system:serviceaccount:n:s")],
            "cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace",
        ),
        ("Bearer T", vec![("impersonate-group", "g")], "without impersonating a user"),
    ] {
        let (_, refusal) = ask(&server, token, "GET", path, &headers, &Value::Null).await;
        let message = refusal["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    let masters = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    let (code, _) = ask(&server, "Bearer T", "GET", "/api/v1/nodes", &masters, &Value::Null).await;
    assert_eq!(code, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_role_collects_what_is_labelled_for_it() {
    let server = TestServer::start().await;
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {
            "name": "gadgets",
            "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" },
        },
        "rules": [{ "apiGroups": ["x"], "resources": ["gadgets"], "verbs": ["get"] }],
    });
    let roles = format!("{RBAC}/clusterroles");
    let path = format!("{roles}?watch=1&fieldSelector=metadata.name=admin&resourceVersion=0");
    let response = server.send("GET", &path, &[("authorization", "Bearer T")], "").await;
    let mut watch = Lines::of(response);
    server.json("POST", &roles, &role).await;
    // view takes it, edit takes it from view, and admin from edit.
    loop {
        let event = watch.next().await.unwrap();
        let rules = event["object"]["rules"].as_array().cloned().unwrap_or_default();
        if rules.iter().any(|rule| rule["resources"][0] == "gadgets") {
            break;
        }
    }
    server.stop().await;
}
