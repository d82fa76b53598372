//! Who the agent is: certificates, tokens that are replaced, plug-ins, and a pod's service account.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cluster::Client;
use serde_json::json;

use crate::api::Api;
use crate::kernel::programmed;
use crate::place::{block_on, cover, inside};
use crate::process::{Process, agent, portolan};

/// The identity in deploy/rbac, whose rights the API server has from the start.
const ACCOUNT: &str = "portolan-agent";
const MOUNTED: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// An API server with a Service, and with the agent's ServiceAccount.
async fn api() -> Api {
    let api = Api::start().await;
    api.node("10.244.0.0/24").await;
    api.service("web", "10.244.0.2").await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT}});
    api.create("/api/v1/namespaces/kube-system/serviceaccounts", account).await;
    api
}

/// Replaces the agent's token while it runs and makes the old one worthless; watches begin anew with
/// the new one. `give` puts a token where the agent finds it.
async fn goes_on_with_the_next_token(
    mut api: Api,
    give: impl Fn(&str),
    start: impl FnOnce(&Api) -> Process,
) {
    let first = api.token(ACCOUNT, "first").await;
    give(&first);
    let agent = start(&api);
    programmed("10.244.0.2").await;

    give(&api.token(ACCOUNT, "second").await);
    api.delete("/api/v1/namespaces/kube-system/secrets/first").await;
    let user = api.kubeconfig("first", &json!({ "token": first }));
    let user = Client::from_kubeconfig(&user).await.expect("a kubeconfig");
    let refused = user.get("/api/v1/services").await.expect_err("the old token is worthless");
    assert_eq!(refused.code(), Some(401), "{refused:?}");
    // Ends the watches, which have been let in with the old token.
    api.restart().await;
    api.move_endpoint("web", "10.244.0.3").await;
    programmed("10.244.0.3").await;
    assert_eq!(agent.said("Unauthorized"), None);
}

#[test]
fn a_token_file_is_read_again_when_it_is_replaced() {
    if !inside("credentials::a_token_file_is_read_again_when_it_is_replaced") {
        return;
    }
    block_on(async {
        let api = api().await;
        let file = api.folder.path().join("token");
        let kubeconfig = api.kubeconfig("agent", &json!({ "tokenFile": file }));
        let give = |token: &str| std::fs::write(&file, token).expect("can be written");
        let start = |_: &Api| agent(&["--kubeconfig", &text(&kubeconfig)]);
        goes_on_with_the_next_token(api, give, start).await;
    });
}

#[test]
fn an_exec_plug_in_is_asked_again_when_its_credential_expires() {
    if !inside("credentials::an_exec_plug_in_is_asked_again_when_its_credential_expires") {
        return;
    }
    block_on(async {
        let api = api().await;
        let plug_in = api.folder.path().join("plug-in");
        std::fs::write(&plug_in, "#!/bin/sh\ncat \"$0.json\"\n").expect("can be written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&plug_in, mode).expect("can be made a program");
        let answer = plug_in.with_extension("json");
        let user = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": plug_in,
            "interactiveMode": "Never",
        }});
        let kubeconfig = api.kubeconfig("agent", &user);
        let give = |token: &str| {
            // It has expired already, so that it is good for one request.
            let credential = json!({
                "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                "status": {"token": token, "expirationTimestamp": "2026-01-01T00:00:00Z"},
            });
            std::fs::write(&answer, credential.to_string()).expect("can be written");
        };
        let start = |_: &Api| agent(&["--kubeconfig", &text(&kubeconfig)]);
        goes_on_with_the_next_token(api, give, start).await;
    });
}

#[test]
fn a_pods_service_account_is_found_and_its_token_followed() {
    if !inside("credentials::a_pods_service_account_is_found_and_its_token_followed") {
        return;
    }
    block_on(async {
        let api = api().await;
        cover("/run", "secrets/kubernetes.io/serviceaccount");
        if !Path::new(MOUNTED).exists() {
            return testkit::skip("a_pods_service_account", "/var/run does not lead to /run");
        }
        let folder = Path::new(MOUNTED);
        std::fs::copy(api.authority(), folder.join("ca.crt")).expect("can be copied");
        std::fs::write(folder.join("namespace"), "kube-system").expect("can be written");
        std::os::unix::fs::symlink("..data/token", folder.join("token")).expect("can be linked");
        // As the kubelet replaces a volume's files: a new folder, and a link that is moved to it.
        let give = |token: &str| {
            let next = format!("..{}", token.len() + token.bytes().map(usize::from).sum::<usize>());
            std::fs::create_dir(folder.join(&next)).expect("can be made");
            std::fs::write(folder.join(&next).join("token"), token).expect("can be written");
            std::os::unix::fs::symlink(&next, folder.join("..data_tmp")).expect("can be linked");
            std::fs::rename(folder.join("..data_tmp"), folder.join("..data"))
                .expect("can be moved");
        };
        let start = |api: &Api| {
            let (host, port) = api.address.rsplit_once(':').expect("has a port");
            let mut command = portolan(&["agent", "--hostname-override=node1"]);
            command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
            command.env("KUBERNETES_SERVICE_HOST", host).env("KUBERNETES_SERVICE_PORT", port);
            Process::start(command)
        };
        goes_on_with_the_next_token(api, give, start).await;
    });
}

#[test]
fn a_client_certificate_of_the_agents_group_is_enough() {
    if !inside("credentials::a_client_certificate_of_the_agents_group_is_enough") {
        return;
    }
    block_on(async {
        let api = api().await;
        let user = api.certificate("portolan:agent:node1", "portolan:agents");
        let kubeconfig = api.kubeconfig("agent", &user);
        let agent = agent(&["--kubeconfig", &text(&kubeconfig)]);
        programmed("10.244.0.2").await;
        assert_eq!(agent.said("orbidden"), None);
    });
}

#[test]
fn an_agent_without_rights_says_what_it_lacks() {
    if !inside("credentials::an_agent_without_rights_says_what_it_lacks") {
        return;
    }
    block_on(async {
        let api = api().await;
        let mallory = api.kubeconfig("mallory", &api.certificate("mallory", "nobodies"));
        let mut refused = agent(&["--kubeconfig", &text(&mallory)]);
        let line = refused.says("services is forbidden").await;
        let told = r#"User "mallory" cannot watch resource "services" in API group """#;
        assert!(line.contains(told) && line.len() < 300, "{line}");
        refused.kill();
        assert_eq!(refused.count("services is forbidden"), 1, "it is said once");
        let nobody = api.kubeconfig("nobody", &json!({"token": "unknown"}));
        agent(&["--kubeconfig", &text(&nobody)]).says("Unauthorized").await;
    });
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
