//! Starting, ending and killing labs; stopping nodes.

use std::time::{Duration, Instant};

use crate::harness::{Lab, kubectl, text};
use crate::reach::DUAL_STACK;

#[test]
fn two_labs_run_side_by_side() {
    let test = "two_labs_run_side_by_side";
    let Some(one) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let Some(two) = Lab::start(test, DUAL_STACK, &["--nodes", "1"]) else { return };
    assert_eq!(one.status()["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(two.status()["nodes"].as_array().unwrap().len(), 1);
}

#[test]
fn a_second_lab_in_the_same_folder_is_refused() {
    let test = "a_second_lab_in_the_same_folder_is_refused";
    let Some(lab) = Lab::start(test, DUAL_STACK, &["--nodes", "1"]) else { return };
    let second = lab.up(DUAL_STACK, &[]);
    assert!(!second.status.success());
    assert!(text(&second).contains("portolan down"), "{}", text(&second));
}

#[test]
fn objects_survive_down_and_up() {
    let test = "objects_survive_down_and_up";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &["--nodes", "1"]) else { return };
    let path = "-o=jsonpath={.spec.clusterIP} {.metadata.uid}";
    let before = lab.kubectl(&kubectl, &["get", "service", "web-clusterip", path]);
    assert!(lab.portolan(&["down"]).output().unwrap().status.success());
    let again = lab.up(DUAL_STACK, &["--nodes", "1"]);
    assert!(again.status.success(), "{}", text(&again));
    assert_eq!(before, lab.kubectl(&kubectl, &["get", "service", "web-clusterip", path]));
}

#[test]
fn a_broken_manifest_names_file_line_and_field() {
    let test = "a_broken_manifest_names_file_line_and_field";
    if let Some(reason) = testkit::no_namespaces() {
        return testkit::skip(test, &reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    std::fs::write(
        &file,
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  prots: []\n",
    )
    .unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.arg("up").arg("-f").arg(&file).arg("--state").arg(folder.path().join("state"));
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("web.yaml:5") && said.contains("spec.prots"), "{said}");
}

#[test]
fn another_node_takes_the_address_over_within_a_second() {
    let test = "another_node_takes_the_address_over_within_a_second";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = lab.kubectl(&kubectl, &["get", "service", "web-loadbalancer", path]);
    let ask = format!("curl -s -m 1 http://{address}/");
    lab.script("client", &ask);
    // The neighbour table of the client tells who answers for the address.
    let owner = lab.script("client", &format!("ip neigh show {address}"));
    let mac =
        owner.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap().to_owned();
    let node = ["node1", "node2"]
        .into_iter()
        .find(|node| lab.script(node, "cat /sys/class/net/*/address").contains(&mac))
        .unwrap_or_else(|| panic!("no node has {mac}: {owner}"));
    // The pods of the stopped node are gone as well: wait for an answer, not for every answer.
    let stopped = lab.portolan(&["node", "stop", node]).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped));
    let start = Instant::now();
    let wait = format!("until curl -s --connect-timeout 0.2 -m 0.5 http://{address}/; do :; done");
    let answer = lab.script("client", &format!("timeout 10 bash -c '{wait}'"));
    assert!(answer.contains("pod="), "{answer}");
    assert!(start.elapsed() < Duration::from_secs(10));
}
