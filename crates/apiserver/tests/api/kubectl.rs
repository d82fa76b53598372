//! The real kubectl, every version that is here.

use std::path::Path;
use std::process::{Output, Stdio};

use crate::harness::TestServer;
use portolan_apiserver::tls::kubeconfig;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Runs the commands in turn; each must succeed and its output contain the text beside it.
pub(crate) async fn session(test: &str, commands: &[(&str, &str, &str)]) {
    let kubectls = testkit::kubectls();
    if kubectls.is_empty() {
        testkit::skip(test, "there is no kubectl");
    }
    for kubectl in kubectls {
        let server = TestServer::start().await;
        let config = server.folder.path().join("kubeconfig");
        let text = kubeconfig(&server.url(), server.pki.ca_pem(), &server.pki.admin().unwrap());
        std::fs::write(&config, text).unwrap();
        for (arguments, input, expected) in commands {
            let output = kubectl_run(&kubectl, &config, arguments, input).await;
            let text = format!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
            let told = format!("{} {arguments}: {text}", kubectl.display());
            assert!(output.status.success(), "{told}");
            assert!(text.contains(expected), "{told} lacks {expected:?}");
        }
        server.stop().await;
    }
}

async fn kubectl_run(kubectl: &Path, config: &Path, arguments: &str, input: &str) -> Output {
    let mut child = Command::new(kubectl)
        .arg("--kubeconfig")
        .arg(config)
        .arg("--cache-dir")
        .arg(config.with_file_name("cache"))
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    child.wait_with_output().await.unwrap()
}

#[tokio::test]
async fn kubectl_finds_out_what_is_served() {
    session(
        "kubectl_finds_out_what_is_served",
        &[
            ("version", "", "v1.36.2+portolan"),
            ("api-resources", "", "endpointslices"),
            ("api-versions", "", "discovery.k8s.io/v1"),
            ("explain service.spec.clusterIP", "", "clusterIP"),
            ("get --raw /readyz?verbose", "", "readyz check passed"),
        ],
    )
    .await;
}

#[tokio::test]
async fn kubectl_writes_and_reads_objects() {
    let manifest = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: c
data:
  a: \"1\"
";
    let changed = manifest.replace("\"1\"", "\"2\"");
    session(
        "kubectl_writes_and_reads_objects",
        &[
            ("create namespace n", "", "namespace/n created"),
            ("create configmap d --from-literal=x=y", "", "configmap/d created"),
            ("apply -f -", manifest, "configmap/c created"),
            ("apply -f -", manifest, "configmap/c unchanged"),
            ("apply -f -", &changed, "configmap/c configured"),
            (
                "apply --server-side --force-conflicts -f -",
                manifest,
                "configmap/c serverside-applied",
            ),
            ("get configmap c", "", "NAME"),
            ("get configmap c -o jsonpath={.data.a}", "", "1"),
            ("get configmaps -o yaml", "", "kind: List"),
            ("label configmap c k=v", "", "configmap/c labeled"),
            ("patch configmap c -p {\"data\":{\"b\":\"2\"}}", "", "configmap/c patched"),
            ("describe configmap c", "", "Name:"),
            ("create token default", "", "ey"),
            ("delete configmap c", "", "deleted"),
        ],
    )
    .await;
}

#[tokio::test]
async fn kubectl_asks_what_may_be_done() {
    session(
        "kubectl_asks_what_may_be_done",
        &[
            ("auth whoami", "", "kubernetes-admin"),
            ("auth can-i delete nodes", "", "yes"),
            ("create rolebinding bob --clusterrole=view --user=bob", "", "bob created"),
            ("auth can-i list services --as=bob", "", "yes"),
            ("auth can-i --list --as=bob", "", "endpointslices.discovery.k8s.io"),
            ("get services --as=bob", "", "kubernetes"),
            ("get rolebindings -o wide", "", "ClusterRole/view"),
            ("describe clusterrole view", "", "endpointslices.discovery.k8s.io"),
            ("create role r --verb=get --resource=pods", "", "role.rbac.authorization.k8s.io/r"),
            ("create token default --duration=10m", "", "ey"),
        ],
    )
    .await;
}

#[tokio::test]
async fn kubectl_tells_who_may_not_do_what() {
    let Some(kubectl) = testkit::kubectls().into_iter().next() else {
        return testkit::skip("kubectl_tells_who_may_not_do_what", "there is no kubectl");
    };
    let server = TestServer::start().await;
    let config = server.folder.path().join("kubeconfig");
    let text = kubeconfig(&server.url(), server.pki.ca_pem(), &server.pki.admin().unwrap());
    std::fs::write(&config, text).unwrap();
    for (arguments, expected) in [
        ("auth can-i list services --as=eve", "no\n"),
        (
            "get services --as=eve",
            "Error from server (Forbidden): services is forbidden: User \"eve\" cannot list \
             resource \"services\" in API group \"\" in the namespace \"default\"\n",
        ),
        (
            "get --raw / --as=eve",
            "Error from server (Forbidden): forbidden: User \"eve\" cannot get path \"/\"\n",
        ),
    ] {
        let output = kubectl_run(&kubectl, &config, arguments, "").await;
        let told = [output.stdout, output.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&told), expected, "{arguments}");
        assert_eq!(output.status.code(), Some(1), "{arguments}");
    }
    server.stop().await;
}

/// Lists are checked by kubectl itself, against the types of OpenAPI v2.
#[tokio::test]
async fn kubectl_checks_and_creates_lists() {
    let list = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: s}
  spec: {ports: [{port: 80, name: http}]}
";
    session(
        "kubectl_checks_and_creates_lists",
        &[
            ("create -f -", list, "service/s created"),
            ("apply -f -", list, "service/s configured"),
            ("explain service.spec.ports --output=plaintext-openapiv2", "", "nodePort"),
        ],
    )
    .await;
}
