//! The machine that the agent runs on: its addresses and its firewall.

use serde_json::json;

use crate::api::Api;
use crate::kernel::{programmed, ruleset};
use crate::place::{block_on, inside, run};
use crate::process::{Process, agent, portolan, until};

/// An API server with a Node, and a kubeconfig of somebody who may do everything.
async fn cluster() -> (Api, String) {
    let api = Api::start().await;
    api.node("10.244.0.0/24").await;
    api.service("web", "10.244.0.2").await;
    let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
    let kubeconfig = kubeconfig.display().to_string();
    (api, kubeconfig)
}

#[test]
fn node_ports_answer_on_an_address_as_soon_as_the_machine_has_it() {
    // D30, D49.
    if !inside("host::node_ports_answer_on_an_address_as_soon_as_the_machine_has_it") {
        return;
    }
    block_on(async {
        let (_api, kubeconfig) = cluster().await;
        let networks = "--nodeport-addresses=192.0.2.0/24,2001:db8::/64";
        let _agent = agent(&["--kubeconfig", &kubeconfig, networks]);
        programmed("10.244.0.2").await;
        for address in ["192.0.2.7", "2001:db8::7"] {
            assert!(!ruleset().contains(address));
            let on_lo = |verb| run("ip", &["addr", verb, address, "dev", "lo"]);
            on_lo("add");
            until(address, || ruleset().contains(address).then_some(())).await;
            on_lo("del");
            until(address, || (!ruleset().contains(address)).then_some(())).await;
        }
    });
}

const RULE: &str = "portolan: connections to Services";

#[test]
fn a_firewall_that_is_loaded_anew_lets_services_pass_again() {
    // D40.
    let test = "host::a_firewall_that_is_loaded_anew_lets_services_pass_again";
    if !inside(test) {
        return;
    }
    block_on(async {
        let (_api, kubeconfig) = cluster().await;
        let chain = "{ type filter hook forward priority 0; policy drop; }";
        let load = || {
            run("nft", &["add", "table", "inet", "host"]);
            run("nft", &["add", "chain", "inet", "host", "forward", chain]);
        };
        load();
        let accept = "--accept-in-firewall=inet/host/forward";
        let first = agent(&["--kubeconfig", &kubeconfig, accept]);
        let passes = || run("nft", &["list", "table", "inet", "host"]).contains(RULE);
        until("the rule is there", || passes().then_some(())).await;
        run("nft", &["insert", "rule", "inet", "host", "forward", "drop"]);
        run("nft", &["flush", "chain", "inet", "host", "forward"]);
        until("the rule is there again", || passes().then_some(())).await;

        run("nft", &["delete", "table", "inet", "host"]);
        first.says("the host's firewall has no chain inet/host/forward").await;
        load();
        until("the new chain has the rule", || passes().then_some(())).await;

        drop(first);
        let _second = agent(&["--kubeconfig", &kubeconfig]);
        until("nobody asks for the rule", || (!passes()).then_some(())).await;
    });
}

#[test]
fn a_firewall_of_iptables_lets_services_pass_and_stays_readable() {
    // D40.
    let test = "host::a_firewall_of_iptables_lets_services_pass_and_stays_readable";
    if ["iptables", "ip6tables"].iter().any(|name| testkit::program(name).is_none()) {
        return testkit::skip(test, "the program iptables is not here");
    }
    if !inside(test) {
        return;
    }
    block_on(async {
        let (_api, kubeconfig) = cluster().await;
        run("iptables", &["-P", "FORWARD", "DROP"]);
        let chains = "--accept-in-firewall=iptables/FORWARD,ip6tables/FORWARD,iptables/ABSENT";
        let agent = agent(&["--kubeconfig", &kubeconfig, chains]);
        let passes = |program| run(program, &["-S", "FORWARD"]).contains(RULE);
        for program in ["iptables", "ip6tables"] {
            until("the rule is there", || passes(program).then_some(())).await;
            run(program, &["-F", "FORWARD"]);
            until("the rule is there again", || passes(program).then_some(())).await;
        }
        agent.says("the host's firewall has no chain iptables/ABSENT").await;
        drop(agent);
        assert!(passes("iptables"), "the rules outlive the agent");

        let mut cleanup = Process::start(portolan(&["agent", "--cleanup"]));
        assert!(cleanup.ends().await.success());
        assert!(!passes("iptables") && !passes("ip6tables"));
        assert!(!ruleset().contains("table ip portolan"));
    });
}
