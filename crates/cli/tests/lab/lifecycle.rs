//! Starting, ending and killing labs; stopping nodes.

use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::harness::{Lab, eventually, kubectl, text};
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
    let said = text(&again);
    assert!(again.status.success() && !said.contains("not everything"), "{said}");
    assert_eq!(before, lab.kubectl(&kubectl, &["get", "service", "web-clusterip", path]));
}

#[test]
fn a_watched_status_follows_services_and_nodes() {
    let test = "a_watched_status_follows_services_and_nodes";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let mut watch = lab.portolan(&["status", "--watch", "--output", "json"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut shown = serde_json::Deserializer::from_reader(watch.stdout.take().unwrap())
        .into_iter::<serde_json::Value>();
    let mut until = |wanted: &dyn Fn(&serde_json::Value) -> bool| {
        let found = shown.by_ref().map(Result::unwrap).find(|status| wanted(status));
        assert!(found.is_some(), "the watch ended");
    };
    until(&|status| status["nodes"][1]["ready"] == true);
    lab.kubectl(&kubectl, &["create", "service", "nodeport", "extra", "--tcp=80:8080"]);
    until(&|status| {
        let services = status["services"].as_array().unwrap();
        let extra = services.iter().find(|service| service["name"] == "extra");
        extra.is_some_and(|extra| extra["urls"][0]["url"].is_string())
    });
    let stopped = lab.portolan(&["node", "stop", "node2"]).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped));
    until(&|status| status["nodes"][1]["running"] == false && status["nodes"][1]["pods"] == 0);
    assert!(lab.portolan(&["down"]).output().unwrap().status.success());
    assert!(!watch.wait().unwrap().success(), "it says that the lab has ended");
}

/// Lets the client's kernel note who says that an IPv4 address is his.
fn watch_arp(lab: &Lab, address: &str) {
    let table = format!(
        "table arp watch {{ set owners {{ type ether_addr; flags dynamic; }}; \
         chain input {{ type filter hook input priority 0; \
         arp saddr ip {address} update @owners {{ arp saddr ether }}; }}; }}"
    );
    lab.script("client", &format!("nft -f - <<< '{table}'"));
}

/// The hardware addresses that have said so since the last call.
fn owners(lab: &Lab) -> Vec<String> {
    let set = lab.script("client", "nft list set arp watch owners; nft flush set arp watch owners");
    let words = set.split([' ', ',', '\n', '\t']);
    words.filter(|word| word.matches(':').count() == 5).map(str::to_owned).collect()
}

/// The node that has a hardware address.
pub(crate) fn node_with(lab: &Lab, mac: &str) -> &'static str {
    let found = ["node1", "node2"]
        .into_iter()
        .find(|node| lab.script(node, "ip -o link show eth0").contains(mac));
    found.unwrap_or_else(|| panic!("no node has {mac}"))
}

/// Makes the client ask several times who has the address.
fn ask_anew(lab: &Lab, address: &str) {
    let ask = format!(
        "for i in 1 2 3 4 5; do ip neigh flush dev eth0; \
         until curl -s --connect-timeout 0.3 -m 0.5 http://{address}/; do :; done; done"
    );
    let answers = lab.script("client", &format!("timeout 20 bash -c '{ask}'"));
    assert_eq!(answers.matches("pod=").count(), 5, "{answers}");
}

#[test]
fn another_node_takes_the_address_over_within_a_second() {
    let test = "another_node_takes_the_address_over_within_a_second";
    let Some(kubectl) = kubectl(test) else { return };
    if testkit::program("nft").is_none() {
        return testkit::skip(test, "no nft (package nftables)");
    }
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.status.loadBalancer.ingress[0].ip}";
    let address = lab.kubectl(&kubectl, &["get", "service", "web-loadbalancer", path]);
    watch_arp(&lab, &address);
    ask_anew(&lab, &address);
    let before = owners(&lab);
    let [mac] = &before[..] else { panic!("one node at a time answers: {before:?}") };
    let node = node_with(&lab, mac);
    // Half of the new connections still lead to the pod that went down with its node, until the
    // API hears of that: what counts is the first answer.
    let wait = format!(
        "until curl -s --connect-timeout 0.1 -m 0.2 http://{address}/; do :; done; date +%s.%N"
    );
    let cut = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let stopped = lab.portolan(&["node", "stop", node]).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped));
    let answer = lab.script("client", &format!("timeout 10 bash -c '{wait}'"));
    assert!(answer.contains("pod="), "{answer}");
    let after: f64 = answer.lines().last().unwrap().parse().unwrap();
    println!("the address moved in {:.3} s", after - cut);
    // The client's entry was fresh: without being told, it would have kept it for seconds. What
    // the old owner still said before it was stopped does not count.
    owners(&lab);
    ask_anew(&lab, &address);
    let now = owners(&lab);
    assert!(now.len() == 1 && now != before, "{before:?} before, {now:?} now");
    // The stopped node comes back; still one node at a time answers.
    let started = lab.portolan(&["node", "start", node]).output().unwrap();
    assert!(started.status.success(), "{}", text(&started));
    eventually("the node is ready again", || {
        lab.status()["nodes"].as_array().unwrap().iter().all(|node| node["ready"] == true)
    });
    let ask = format!("for i in $(seq 20); do curl -s -m 2 http://{address}/; done");
    eventually("both pods answer", || lab.script("client", &ask).matches("pod=").count() == 20);
}

#[test]
fn an_ipv6_address_is_taken_over_too() {
    let test = "an_ipv6_address_is_taken_over_too";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.status.loadBalancer.ingress[1].ip}";
    let address = lab.kubectl(&kubectl, &["get", "service", "web-loadbalancer", path]);
    let ask = format!(
        "until curl -s --connect-timeout 0.3 -m 0.5 http://[{address}]/; do :; done; \
         ip -6 neigh show {address}"
    );
    let ask = format!("timeout 10 bash -c '{ask}'");
    let before = hardware_address(&lab.script("client", &ask));
    let stopped = lab.portolan(&["node", "stop", node_with(&lab, &before)]).output().unwrap();
    assert!(stopped.status.success(), "{}", text(&stopped));
    let after = hardware_address(&lab.script("client", &ask));
    assert_ne!(before, after, "another node answers Neighbour Discovery");
}

/// The hardware address in a line of `ip neigh`.
fn hardware_address(answer: &str) -> String {
    let mut words = answer.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).unwrap_or_else(|| panic!("no neighbour: {answer}")).to_owned()
}
