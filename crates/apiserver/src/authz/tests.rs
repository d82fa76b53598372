//! Decisions, row by row.

use serde_json::{Value, json};

use super::rules::{Part, Rules};
use super::*;
use crate::http::path::{Target, parse};
use crate::http::query::Query;

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::default() }
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Value {
    json!({
        "verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names,
    })
}

/// A cluster in which alice reads pods in `n`, group `ops` reads secret `s` everywhere and may
/// look at metrics, ServiceAccount `n/robot` does all to services of `m`, and bob has a binding
/// to a role that does not exist.
fn rules() -> Rules {
    let mut rules = Rules::default();
    let mut role = |path: &str, list: Value| {
        rules.put(Part::Role, path, &json!({ "rules": list }));
    };
    role("n/reader", json!([rule(&["get", "list"], "", &["pods", "pods/log"], &[])]));
    role(
        "ops",
        json!([
            rule(&["get"], "", &["secrets"], &["s"]),
            { "verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"] },
        ]),
    );
    role("services", json!([rule(&["*"], "", &["services", "*/status"], &[])]));
    let mut bind = |path: &str, kind: &str, role: &str, subject: Value| {
        let role = json!({ "kind": kind, "name": role });
        let binding = json!({ "roleRef": role, "subjects": [subject] });
        rules.put(Part::Binding, path, &binding);
    };
    bind("n/readers", "Role", "reader", json!({ "kind": "User", "name": "alice" }));
    bind("ops", "ClusterRole", "ops", json!({ "kind": "Group", "name": "ops" }));
    let robot = json!({ "kind": "ServiceAccount", "name": "robot", "namespace": "n" });
    bind("m/robots", "ClusterRole", "services", robot);
    bind("n/broken", "Role", "nowhere", json!({ "kind": "User", "name": "bob" }));
    rules
}

fn decide(user: &User, verb: &str, path: &str) -> Decision {
    let target = parse(path);
    let query = Query::default();
    let asked = match &target {
        Target::Resource(resource) => Asked::Resource(resource.authorized(&query)),
        Target::Other => Asked::Path(path),
    };
    rules().decide(&Attributes { user, verb, asked })
}

#[test]
fn what_rules_and_bindings_together_allow() {
    let alice = user("alice", &[]);
    let operator = user("carol", &["ops"]);
    let robot = user("system:serviceaccount:n:robot", &[]);
    for (who, verb, path, expected) in [
        (&alice, "get", "/api/v1/namespaces/n/pods/p", true),
        (&alice, "list", "/api/v1/namespaces/n/pods", true),
        (&alice, "get", "/api/v1/namespaces/n/pods/p/log", true),
        (&alice, "get", "/api/v1/namespaces/n/pods/p/status", false),
        (&alice, "watch", "/api/v1/namespaces/n/pods", false),
        (&alice, "list", "/api/v1/namespaces/m/pods", false),
        (&alice, "list", "/api/v1/pods", false),
        (&alice, "list", "/apis/apps/v1/namespaces/n/pods", false),
        (&operator, "get", "/api/v1/namespaces/m/secrets/s", true),
        (&operator, "get", "/api/v1/namespaces/m/secrets/t", false),
        (&operator, "list", "/api/v1/namespaces/m/secrets", false),
        (&operator, "get", "/metrics", true),
        (&operator, "get", "/debug/pprof", true),
        (&operator, "post", "/metrics", false),
        (&operator, "get", "/", false),
        (&robot, "delete", "/api/v1/namespaces/m/services/s", true),
        (&robot, "update", "/api/v1/namespaces/m/pods/p/status", true),
        (&robot, "delete", "/api/v1/namespaces/n/services/s", false),
        (&user("robot", &[]), "delete", "/api/v1/namespaces/m/services/s", false),
    ] {
        assert_eq!(decide(who, verb, path).allowed, expected, "{} {verb} {path}", who.name);
    }
}

#[test]
fn a_decision_tells_its_reason() {
    let decision = decide(&user("alice", &[]), "get", "/api/v1/namespaces/n/pods/p");
    let reason = r#"RBAC: allowed by RoleBinding "readers/n" of Role "reader" to User "alice""#;
    assert_eq!(decision, Decision::allow(reason));
    let robot = user("system:serviceaccount:n:robot", &[]);
    let decision = decide(&robot, "get", "/api/v1/namespaces/m/services/s");
    let reason = "RBAC: allowed by RoleBinding \"robots/m\" of ClusterRole \"services\" to \
                  ServiceAccount \"robot/n\"";
    assert_eq!(decision, Decision::allow(reason));
    let decision = decide(&user("bob", &[]), "get", "/api/v1/namespaces/n/pods/p");
    let reason = r#"RBAC: role.rbac.authorization.k8s.io "nowhere" not found"#;
    assert_eq!(decision, Decision::no(reason));
}

#[test]
fn what_is_removed_or_changed_does_not_count() {
    let mut rules = rules();
    let alice = user("alice", &[]);
    let resource = Resource { resource: "pods", namespace: "n", ..Resource::default() };
    let request = Attributes { user: &alice, verb: "list", asked: Asked::Resource(resource) };
    assert!(rules.decide(&request).allowed);
    let others = json!({
        "roleRef": { "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "User", "name": "dave" }],
    });
    rules.put(Part::Binding, "n/readers", &others);
    assert!(!rules.decide(&request).allowed);
    let dave = user("dave", &[]);
    let by_dave = Attributes { user: &dave, ..request.clone() };
    assert!(rules.decide(&by_dave).allowed);
    rules.remove(Part::Role, "n/reader");
    assert!(!rules.decide(&by_dave).allowed);
}

#[test]
fn a_refusal_names_the_resource_and_its_scope() {
    let anonymous = user("system:anonymous", &[]);
    for (verb, path, expected) in [
        (
            "list",
            "/api/v1/namespaces/n/services",
            "services is forbidden: User \"system:anonymous\" cannot list resource \"services\" \
             in API group \"\" in the namespace \"n\"",
        ),
        (
            "get",
            "/apis/networking.k8s.io/v1/servicecidrs/kubernetes",
            "servicecidrs.networking.k8s.io \"kubernetes\" is forbidden: User \
             \"system:anonymous\" cannot get resource \"servicecidrs\" in API group \
             \"networking.k8s.io\" at the cluster scope",
        ),
        (
            "get",
            "/api/v1/namespaces/n/services/s/status",
            "services \"s\" is forbidden: User \"system:anonymous\" cannot get resource \
             \"services/status\" in API group \"\" in the namespace \"n\"",
        ),
        ("get", "/metrics", "forbidden: User \"system:anonymous\" cannot get path \"/metrics\""),
    ] {
        let target = parse(path);
        let query = Query::default();
        let asked = match &target {
            Target::Resource(resource) => Asked::Resource(resource.authorized(&query)),
            Target::Other => Asked::Path(path),
        };
        let request = Attributes { user: &anonymous, verb, asked };
        assert_eq!(refuse(&request, "").message, expected);
    }
}
