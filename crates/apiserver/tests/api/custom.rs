//! Custom resources over HTTPS and with the real kubectl.

use crate::harness::{Lines, TestServer};
use crate::kubectl::session;
use portolan_apiserver::config::ApiserverConfig;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    let schema = json!({ "openAPIV3Schema": { "type": "object", "properties": {
        "spec": { "type": "object", "required": ["size"], "properties": {
            "size": { "type": "integer", "maximum": 10 },
            "color": { "type": "string", "default": "red" },
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": { "type": "object", "required": ["name"], "properties": {
                    "name": { "type": "string" }, "port": { "type": "integer" },
                }},
            },
        }},
        "status": { "type": "object", "properties": {
            "size": { "type": "integer" }, "selector": { "type": "string" },
        }},
    }}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"],
                       "categories": ["all"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": schema,
                "subresources": { "status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                    "labelSelectorPath": ".status.selector",
                }},
                "selectableFields": [{ "jsonPath": ".spec.color" }],
                "additionalPrinterColumns": [
                    { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                    { "name": "Color", "type": "string", "jsonPath": ".spec.color" },
                    { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
                ],
            }],
        },
    })
}

fn widget(name: &str, size: u32) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name },
        "spec": { "size": size },
    })
}

async fn with_widgets() -> TestServer {
    let server = TestServer::start().await;
    let (code, created) = server.json("POST", DEFINITIONS, &definition()).await;
    assert_eq!(code, 201, "{created}");
    server
}

/// Waits until an object is as it should be.
async fn until(server: &TestServer, path: &str, is_right: impl Fn(u16, &Value) -> bool) -> Value {
    let (_, list) = server.json("GET", DEFINITIONS, &Value::Null).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    let watch = format!("{DEFINITIONS}?watch=1&resourceVersion={version}");
    let mut changes =
        Lines::of(server.send("GET", &watch, &[("authorization", "Bearer T")], "").await);
    loop {
        let (code, object) = server.json("GET", path, &Value::Null).await;
        if is_right(code.as_u16(), &object) {
            return object;
        }
        changes.next().await.unwrap();
    }
}

fn condition<'v>(definition: &'v Value, ty: &str) -> Option<&'v str> {
    let conditions = definition["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == ty)?["status"].as_str()
}

#[tokio::test]
async fn a_custom_resource_is_served_at_once_and_after_a_restart() {
    // CR3, CR4.
    let server = with_widgets().await;
    let watch = format!("{WIDGETS}?watch=1");
    let mut changes =
        Lines::of(server.send("GET", &watch, &[("authorization", "Bearer T")], "").await);
    let (code, created) = server.json("POST", WIDGETS, &widget("w", 3)).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(created["spec"], json!({ "size": 3, "color": "red" }));
    assert_eq!(created["metadata"]["generation"], 1);
    let added = changes.next().await.unwrap();
    assert_eq!((&added["type"], &added["object"]), (&json!("ADDED"), &created));
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let established =
        until(&server, &path, |_, d| condition(d, "Established") == Some("True")).await;
    assert_eq!(established["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(established["status"]["acceptedNames"]["singular"], "widget");
    let folder = server.stop().await;
    let server = TestServer::start_with(|config: &mut ApiserverConfig| {
        config.state_dir = folder.path().join("state");
    })
    .await;
    let (code, read) = server.json("GET", &format!("{WIDGETS}/w"), &Value::Null).await;
    assert_eq!((code.as_u16(), &read), (200, &created));
    let (_, list) = server.json("GET", &format!("{WIDGETS}?limit=1"), &Value::Null).await;
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("WidgetList"), 1));
    server.stop().await;
}

#[tokio::test]
async fn what_a_schema_forbids_is_refused_in_upstreams_words() {
    // CR5, CR7.
    let server = with_widgets().await;
    let (code, refused) = server.json("POST", WIDGETS, &widget("w", 11)).await;
    assert_eq!((code.as_u16(), refused["reason"].as_str()), (422, Some("Invalid")));
    assert_eq!(
        refused["message"],
        "Widget.example.com \"w\" is invalid: spec.size: Invalid value: 11: spec.size in body \
         should be less than or equal to 10"
    );
    let mut unknown = widget("w", 1);
    unknown["spec"]["siz"] = 2.into();
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let (code, refused) = server.json("POST", &strict, &unknown).await;
    assert_eq!(code, 400);
    assert_eq!(
        refused["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown \
         field \"spec.siz\""
    );
    let json = [("content-type", "application/json")];
    let twice = unknown.to_string().replace("\"siz\":2", "\"siz\":2,\"size\":1");
    let (code, headers, created) = server.ask("POST", WIDGETS, &json, twice).await;
    assert_eq!(code, 201);
    let warnings: Vec<_> = headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        ["299 - \"duplicate field \\\"spec.size\\\"\"", "299 - \"unknown field \\\"spec.siz\\\"\""]
    );
    let created: Value = serde_json::from_slice(&created).unwrap();
    assert_eq!(created["spec"], json!({ "size": 1, "color": "red" }));
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let (code, _, _) = server.ask("PATCH", &format!("{WIDGETS}/w"), &strategic, "{}").await;
    assert_eq!(code, 415);
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(server.ask("GET", &format!("{WIDGETS}/w"), &protobuf, "").await.0, 406);
    let mut other = widget("x", 1);
    other["kind"] = "Gadget".into();
    let (code, refused) = server.json("POST", WIDGETS, &other).await;
    assert_eq!((code.as_u16(), &refused["details"]["causes"][0]["field"]), (422, &json!("kind")));
    server.stop().await;
}

#[tokio::test]
async fn status_scale_and_generation_follow_their_rules() {
    // CR8, CR9.
    let server = with_widgets().await;
    let one = format!("{WIDGETS}/w");
    server.json("POST", WIDGETS, &widget("w", 1)).await;
    let status = json!({ "status": { "size": 1, "selector": "a=b" }, "spec": { "size": 9 } });
    let (_, written) = server.json("PATCH", &format!("{one}/status"), &status).await;
    assert_eq!((&written["status"]["size"], &written["spec"]["size"]), (&json!(1), &json!(1)));
    assert_eq!(written["metadata"]["generation"], 1);
    let (_, scale) = server.json("GET", &format!("{one}/scale"), &Value::Null).await;
    assert_eq!(scale["spec"], json!({ "replicas": 1 }));
    assert_eq!(scale["status"], json!({ "replicas": 1, "selector": "a=b" }));
    let patch = json!({ "spec": { "replicas": 4 } });
    let (code, scaled) = server.json("PATCH", &format!("{one}/scale"), &patch).await;
    assert_eq!((code.as_u16(), &scaled["spec"]["replicas"]), (200, &json!(4)), "{scaled}");
    let (_, read) = server.json("GET", &one, &Value::Null).await;
    assert_eq!((&read["spec"]["size"], &read["metadata"]["generation"]), (&json!(4), &json!(2)));
    let labels = json!({ "metadata": { "labels": { "k": "v" } }, "status": { "size": 7 } });
    let (_, labelled) = server.json("PATCH", &one, &labels).await;
    assert_eq!(labelled["metadata"]["generation"], 2);
    assert_eq!(labelled["status"]["size"], 1);
    server.stop().await;
}

#[tokio::test]
async fn fields_have_owners_and_lists_of_maps_merge() {
    // CR10.
    let server = with_widgets().await;
    let one = format!("{WIDGETS}/w");
    let apply = |manager: &str, ports: Value| {
        let mut config = widget("w", 1);
        config["spec"]["ports"] = ports;
        let path = format!("{one}?fieldManager={manager}");
        let server = &server;
        async move {
            let yaml = [("content-type", "application/apply-patch+yaml")];
            let (code, _, body) = server.ask("PATCH", &path, &yaml, config.to_string()).await;
            (code.as_u16(), serde_json::from_slice::<Value>(&body).unwrap())
        }
    };
    let (code, created) = apply("a", json!([{ "name": "x", "port": 1 }])).await;
    assert_eq!(code, 201, "{created}");
    let (code, both) = apply("b", json!([{ "name": "y", "port": 2 }])).await;
    assert_eq!(code, 200, "{both}");
    let ports = json!([{ "name": "x", "port": 1 }, { "name": "y", "port": 2 }]);
    assert_eq!(both["spec"]["ports"], ports);
    let owned = &both["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"]["f:ports"];
    assert_eq!(*owned, json!({ "k:{\"name\":\"y\"}": { ".": {}, "f:name": {}, "f:port": {} } }));
    let (code, conflict) = apply("b", json!([{ "name": "x", "port": 9 }])).await;
    assert_eq!(code, 409);
    let cause = &conflict["details"]["causes"][0];
    assert_eq!(cause["field"], ".spec.ports[name=\"x\"].port");
    let (code, refused) = apply("b", json!([{ "name": "x", "prt": 9 }])).await;
    assert_eq!(code, 500);
    assert!(refused["message"].as_str().unwrap().contains("field not declared in schema"));
    server.stop().await;
}

#[tokio::test]
async fn a_version_is_added_and_an_old_one_shown_anew() {
    // CR4.
    let server = with_widgets().await;
    server.json("POST", WIDGETS, &widget("w", 1)).await;
    let watch = format!("{WIDGETS}?watch=1&resourceVersion=0");
    let mut changes =
        Lines::of(server.send("GET", &watch, &[("authorization", "Bearer T")], "").await);
    assert_eq!(changes.next().await.unwrap()["type"], "ADDED");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let (_, mut definition) = server.json("GET", &path, &Value::Null).await;
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    let spec = &mut second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec["weight"] = json!({ "type": "integer", "default": 5 });
    definition["spec"]["versions"][0]["storage"] = false.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    let (code, updated) = server.json("PUT", &path, &definition).await;
    assert_eq!(code, 200, "{updated}");
    assert_eq!(updated["status"]["storedVersions"], json!(["v1", "v2"]));
    // Watches end with the old form.
    assert_eq!(changes.next().await, None);
    let newer = "/apis/example.com/v2/namespaces/default/widgets";
    let (_, read) = server.json("GET", &format!("{newer}/w"), &Value::Null).await;
    assert_eq!(read["apiVersion"], "example.com/v2");
    assert_eq!(read["spec"], json!({ "size": 1, "color": "red", "weight": 5 }));
    let (_, read) = server.json("GET", &format!("{WIDGETS}/w"), &Value::Null).await;
    assert_eq!(
        (&read["apiVersion"], &read["spec"]["weight"]),
        (&json!("example.com/v1"), &Value::Null)
    );
    let mut body = widget("x", 2);
    body["apiVersion"] = "example.com/v2".into();
    assert_eq!(server.json("POST", newer, &body).await.0, 201);
    let (_, list) = server.json("GET", WIDGETS, &Value::Null).await;
    assert_eq!(list["apiVersion"], "example.com/v1");
    assert_eq!(list["items"][1]["spec"], json!({ "size": 2, "color": "red" }));
    // What was written in the other version has what the storage version gives.
    assert_eq!(server.json("POST", WIDGETS, &widget("y", 3)).await.0, 201);
    let (_, read) = server.json("GET", &format!("{newer}/y"), &Value::Null).await;
    assert_eq!(read["spec"]["weight"], 5);
    let (_, group) = server.json("GET", "/apis/example.com", &Value::Null).await;
    assert_eq!(group["preferredVersion"]["version"], "v2");
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_with_it() {
    // CR3.
    let server = with_widgets().await;
    let mut held = widget("held", 1);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    server.json("POST", WIDGETS, &held).await;
    server.json("POST", WIDGETS, &widget("free", 1)).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let (code, deleted) = server.json("DELETE", &path, &Value::Null).await;
    assert_eq!((code.as_u16(), condition(&deleted, "Terminating")), (200, Some("True")));
    let finalizers = json!(["customresourcecleanup.apiextensions.k8s.io"]);
    assert_eq!(deleted["metadata"]["finalizers"], finalizers);
    let (code, refused) = server.json("POST", WIDGETS, &widget("late", 1)).await;
    let why = "create not allowed while custom resource definition is terminating";
    assert_eq!((code.as_u16(), refused["message"].as_str()), (405, Some(why)));
    let (code, _) = server.json("GET", &path, &Value::Null).await;
    assert_eq!(code, 200);
    let release = json!({ "metadata": { "finalizers": null } });
    assert_eq!(server.json("PATCH", &format!("{WIDGETS}/held"), &release).await.0, 200);
    until(&server, &path, |code, _| code == 404).await;
    assert_eq!(server.json("GET", WIDGETS, &Value::Null).await.0, 404);
    // The next definition of this name starts empty.
    assert_eq!(server.json("POST", DEFINITIONS, &definition()).await.0, 201);
    let (_, list) = server.json("GET", WIDGETS, &Value::Null).await;
    assert_eq!(list["items"], json!([]));
    server.stop().await;
}

#[tokio::test]
async fn names_in_use_keep_a_definition_from_being_served() {
    // CR3.
    let server = with_widgets().await;
    let mut other = definition();
    other["metadata"]["name"] = "gadgets.example.com".into();
    other["spec"]["names"] = json!({ "plural": "gadgets", "kind": "Widget" });
    assert_eq!(server.json("POST", DEFINITIONS, &other).await.0, 201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let refused =
        until(&server, &path, |_, d| condition(d, "NamesAccepted") == Some("False")).await;
    assert_eq!(condition(&refused, "Established"), Some("False"));
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    assert_eq!(server.json("GET", gadgets, &Value::Null).await.0, 404);
    let widgets = format!("{DEFINITIONS}/widgets.example.com");
    server.json("DELETE", &widgets, &Value::Null).await;
    until(&server, &path, |_, d| condition(d, "Established") == Some("True")).await;
    assert_eq!(server.json("GET", gadgets, &Value::Null).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn a_definition_of_a_built_in_resource_changes_nothing() {
    let server = with_widgets().await;
    let mut other = definition();
    other["metadata"]["name"] = "leases.coordination.k8s.io".into();
    other["metadata"]["annotations"] = json!({ "api-approved.kubernetes.io": "unapproved" });
    other["spec"]["group"] = "coordination.k8s.io".into();
    other["spec"]["names"] = json!({ "plural": "leases", "kind": "Lease" });
    assert_eq!(server.json("POST", DEFINITIONS, &other).await.0, 201);
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "l" },
        "spec": { "holderIdentity": "me" },
    });
    let (code, created) = server.json("POST", leases, &lease).await;
    assert_eq!((code.as_u16(), &created["spec"]["holderIdentity"]), (201, &json!("me")));
    let path = format!("{DEFINITIONS}/leases.coordination.k8s.io");
    server.json("DELETE", &path, &Value::Null).await;
    until(&server, &path, |code, _| code == 404).await;
    assert_eq!(server.json("GET", &format!("{leases}/l"), &Value::Null).await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn selectors_and_tables_know_the_declared_fields() {
    // CR9.
    let server = with_widgets().await;
    server.json("POST", WIDGETS, &widget("w", 1)).await;
    let mut blue = widget("b", 2);
    blue["spec"]["color"] = "blue".into();
    server.json("POST", WIDGETS, &blue).await;
    let path = format!("{WIDGETS}?fieldSelector=spec.color%3Dblue");
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let (_, _, body) = server.ask("GET", &path, &table, "").await;
    let table: Value = serde_json::from_slice(&body).unwrap();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["cells"].as_array().unwrap()[..3], [json!("b"), json!(2), json!("blue")]);
    let unknown = format!("{WIDGETS}?fieldSelector=spec.size%3D1");
    assert_eq!(server.json("GET", &unknown, &Value::Null).await.0, 400);
    server.stop().await;
}

#[tokio::test]
async fn rights_count_for_custom_resources() {
    let server = with_widgets().await;
    let token = [("authorization", "Bearer U")];
    assert_eq!(server.send("GET", WIDGETS, &token, "").await.status(), 403);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "r" },
        "rules": [{ "apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["list"] }],
    });
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    server.json("POST", &format!("{rbac}/roles"), &role).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "r" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r" },
        "subjects": [{ "kind": "User", "name": "somebody" }],
    });
    server.json("POST", &format!("{rbac}/rolebindings"), &binding).await;
    assert_eq!(server.send("GET", WIDGETS, &token, "").await.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn kubectl_works_with_custom_resources() {
    // CR1 to CR10.
    let definition = definition().to_string();
    let manifest = "\
apiVersion: example.com/v1
kind: Widget
metadata:
  name: w
spec:
  size: 3
";
    let changed = manifest.replace('3', "5");
    let wrong = manifest.replace("size", "siz");
    session(
        "kubectl_works_with_custom_resources",
        &[
            ("apply -f -", &definition, "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created"),
            ("wait --for=condition=established crd/widgets.example.com", "", "condition met"),
            ("get crd", "", "widgets.example.com"),
            ("api-resources --api-group=example.com", "", "wd"),
            ("explain widget.spec.size", "", "size <integer>"),
            ("explain widget --recursive", "", "ports"),
            ("apply --dry-run=server -f -", manifest, "created (server dry run)"),
            ("apply -f -", manifest, "widget.example.com/w created"),
            ("apply -f -", manifest, "widget.example.com/w unchanged"),
            ("apply -f -", &changed, "widget.example.com/w configured"),
            ("apply --server-side --force-conflicts -f -", manifest, "widget.example.com/w serverside-applied"),
            ("get wd", "", "NAME   SIZE   COLOR   AGE"),
            ("get all", "", "widget.example.com/w"),
            ("get wd w -o jsonpath={.spec.color}", "", "red"),
            ("describe widget w", "", "Color:  red"),
            ("patch wd w --type=merge -p {\"spec\":{\"color\":\"blue\"}}", "", "patched"),
            ("patch wd w --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/size\",\"value\":4}]", "", "patched"),
            ("patch wd w --subresource=status --type=merge -p {\"status\":{\"size\":4}}", "", "patched"),
            ("scale wd w --replicas=6", "", "widget.example.com/w scaled"),
            ("get wd w -o jsonpath={.spec.size}", "", "6"),
            ("label wd w k=v", "", "labeled"),
            ("get wd -l k=v --field-selector=spec.color=blue", "", "blue"),
            ("wait --for=jsonpath={.status.size}=4 wd/w", "", "condition met"),
            ("create --validate=ignore --dry-run=client -f -", &wrong, "created (dry run)"),
            ("delete wd w", "", "deleted"),
            ("delete crd widgets.example.com", "", "deleted"),
        ],
    )
    .await;
}
