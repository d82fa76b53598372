//! What the manifests in deploy/ grant: all that the agent needs, in a pod as they describe it, and
//! nothing else.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::api::Api;
use crate::configuration::{configuration, mount};
use crate::kernel::programmed;
use crate::place::{block_on, cover, inside};
use crate::process::{Process, until};

const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const USER: &str = "system:serviceaccount:kube-system:portolan-agent";
const ROLE: &str = include_str!("../../../../deploy/rbac/agent.yaml");
const DAEMON_SET: &str = include_str!("../../../../deploy/kubernetes/agent.yaml");
const POLICY: &str = "{apiVersion: audit.k8s.io/v1, kind: Policy, \
                      omitStages: [RequestReceived], rules: [{level: Metadata}]}";

/// Verb, API group and resource.
type Right = (String, String, String);

#[test]
fn the_manifests_grant_what_the_agent_uses_and_no_more() {
    let test = "rights::the_manifests_grant_what_the_agent_uses_and_no_more";
    let Some(kubectl) = testkit::kubectls().into_iter().next() else {
        return testkit::skip(test, "there is no kubectl");
    };
    if testkit::program("setpriv").is_none() {
        return testkit::skip(test, "the program setpriv is not here");
    }
    if !inside(test) {
        return;
    }
    block_on(async {
        let policy = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(policy.path(), POLICY).expect("can be written");
        let policy = format!("--audit-policy-file={}", policy.path().display());
        let api = Api::start_with(&["--audit-log-path={}/audit.log", &policy]).await;
        api.node("10.244.0.0/24").await;
        api.service("web", "10.244.0.2").await;
        let admin = api.kubeconfig("admin", &json!({"token": "T"}));
        let apply = |file: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(file);
            let mut command = Command::new(&kubectl);
            let output =
                command.arg("apply").arg("-f").arg(path).env("KUBECONFIG", &admin).output();
            let output = output.expect("kubectl can start");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        apply("rbac/agent.yaml");
        prepare_volumes(&api).await;

        let daemon_set: Value = serde_saphyr::from_str(DAEMON_SET).expect("is YAML");
        let pod = &daemon_set["spec"]["template"]["spec"];
        for container in pod["initContainers"].as_array().into_iter().flatten() {
            let mut process = Process::start(container_command(container));
            assert!(process.ends().await.success());
        }
        let agent = Process::start(container_command(&pod["containers"][0]));
        programmed("10.244.0.2").await;
        take_health_check_port(&api).await;
        until("an event tells of the port", || agent.said("health check port")).await;
        let audit = api.folder.path().join("audit.log");
        let used = until("the event is written", || {
            let used = rights(&std::fs::read_to_string(&audit).unwrap_or_default());
            used.iter().any(|(_, _, resource)| resource == "events").then_some(used)
        })
        .await;
        // Lists are for servers that do not stream them.
        let lists = used.iter().filter(|(verb, ..)| verb == "watch");
        let lists =
            lists.map(|(_, group, resource)| ("list".into(), group.clone(), resource.clone()));
        assert_eq!(lists.chain(used.iter().cloned()).collect::<BTreeSet<Right>>(), granted());
        assert_eq!(agent.said("orbidden"), None);
        assert_eq!(agent.said("CAP_"), None, "the capabilities of the manifest are enough");
    });
}

/// What the pod of the manifest has mounted: kubeadm's ConfigMap and the ServiceAccount's token.
async fn prepare_volumes(api: &Api) {
    cover("/run", "secrets/kubernetes.io/serviceaccount");
    cover("/var/lib", "kube-proxy");
    std::fs::copy(api.authority(), format!("{MOUNTED}/ca.crt")).expect("can be copied");
    let token = api.token("portolan-agent", "lives").await;
    std::fs::write(format!("{MOUNTED}/token"), token).expect("can be written");
    let folder = Path::new("/var/lib/kube-proxy");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{"name": "default", "cluster": {
            "certificate-authority": format!("{MOUNTED}/ca.crt"),
            "server": format!("https://{}", api.address),
        }}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "users": [{"name": "default", "user": {"tokenFile": format!("{MOUNTED}/token")}}],
    });
    let config = configuration(&folder.join("kubeconfig.conf"), "mode: nftables\n");
    mount(folder, "..1", &[("config.conf", config), ("kubeconfig.conf", kubeconfig.to_string())]);
}

/// What a container runtime would start: the arguments, the environment and the capabilities.
fn container_command(container: &Value) -> Command {
    let mut command = Command::new(testkit::program("setpriv").expect("was looked for"));
    let security = &container["securityContext"];
    if security["privileged"] != true {
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
        let added = security["capabilities"]["add"].as_array().expect("a list");
        let names = added.iter().filter_map(Value::as_str).map(str::to_lowercase);
        let set = names.fold("-all".to_owned(), |set, name| format!("{set},+{name}"));
        command.arg(format!("--bounding-set={set}")).arg("--no-new-privs");
    }
    command.arg("--").arg(env!("CARGO_BIN_EXE_portolan"));
    let arguments = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str);
    command.args(arguments.map(|text| text.replace("$(NODE_NAME)", "node1")));
    command
}

/// Makes a Service whose health check port somebody else has taken.
async fn take_health_check_port(api: &Api) {
    let port = 32100;
    std::mem::forget(TcpListener::bind(("0.0.0.0", port)).expect("is free in this namespace"));
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "checked"},
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port, "ports": [{"port": 80}],
        },
    });
    api.create("/api/v1/namespaces/default/services", service).await;
}

/// What the agent has asked for, all of which was allowed.
fn rights(audit: &str) -> BTreeSet<Right> {
    let events = audit.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = events.filter(|event| event["user"]["username"] == USER);
    own.map(|event| {
        assert_ne!(event["responseStatus"]["code"], 403, "{event:#}");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        (text(&event["verb"]), text(&object["apiGroup"]), text(&object["resource"]))
    })
    .collect()
}

/// What the manifest grants.
fn granted() -> BTreeSet<Right> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(ROLE).expect("is YAML");
    let roles = documents.iter().filter(|document| document["kind"] == "ClusterRole");
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().expect("a list")) {
        for verb in texts(&rule["verbs"]) {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    granted.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    granted
}
