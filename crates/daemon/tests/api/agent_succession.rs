//! Taking over from a kube-proxy while clients keep connecting.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_daemon::agent::Leftovers;
use socket2::{Domain, Socket, Type};

use crate::node::{
    SLICES, agent_with, block_on, config, http, inside, ruleset, run, service, slice, until_of,
};
use crate::support::Api;

/// The node's address.
const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The endpoint, which is a process on this node.
const ENDPOINT: &str = "10.244.0.2";

/// Gives the namespace a network with a default route, so that cluster IPs lead somewhere, and an
/// endpoint that answers.
fn network() -> JoinHandle<()> {
    for command in [
        "link add net0 type veth peer name net1",
        "link set net0 up",
        "link set net1 up",
        "address add 172.30.0.11/24 dev net0",
        "route add default dev net0",
        "address add 10.244.0.2/32 dev lo",
    ] {
        run("ip", &command.split(' ').collect::<Vec<_>>());
    }
    let listener = TcpListener::bind((ENDPOINT, 8080)).expect("is free");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            drop(stream);
        }
    })
}

/// Clients that connect one after the other, as fast as they can.
struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    client: JoinHandle<Vec<String>>,
}

impl Traffic {
    fn start(server: SocketAddr) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let client = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                match ask(server) {
                    Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            failures
        });
        Self { stop, done, client }
    }

    /// Waits until so many more connections have been made.
    async fn more(&self, connections: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + connections;
        while self.done.load(Ordering::Relaxed) < wanted && !self.client.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it; every connection has to have been answered.
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.client.join().expect("the client ends");
        assert_eq!(failures, [""; 0], "of {} connections", self.done.load(Ordering::Relaxed));
    }
}

/// Connects from the node's address and reads what there is. (By itself the node would connect from
/// the cluster IP where that is its own, which ends with the address.)
fn ask(server: SocketAddr) -> std::io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((NODE, 0)).into())?;
    socket.connect_timeout(&server.into(), Duration::from_secs(2))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    TcpStream::from(socket).read(&mut [0])
}

/// Takes over from what `leave` leaves behind; `left` reads it, and has to become empty.
async fn takes_over(leave: impl FnOnce(&str), left: impl Fn() -> String) {
    let _endpoint = network();
    let api = Api::start().await;
    api.node("node1", "172.30.0.11", "10.244.0.0/24").await;
    let address = service(&api, "web").await;
    api.create(SLICES, slice("web", &[ENDPOINT])).await;
    leave(&address);
    assert_ne!(left(), "", "there is something to take over from");
    let server = SocketAddr::new(address.parse().expect("is an address"), 80);
    let traffic = Traffic::start(server);
    traffic.more(50).await;

    // First it is only told.
    let mut config = config(&api);
    let agent = agent_with(config.clone());
    let told = |page: &str| page.contains("a kube-proxy has left");
    crate::node::until_http(10249, "/services", told).await;
    until_of(ruleset, "our tables", |held| held.contains("table ip6 portolan")).await;
    assert_ne!(left(), "");
    traffic.more(50).await;
    traffic.end();
    drop(agent);
    // Without any chain of NAT the kernel no longer translates, whoever talks meanwhile.
    run("nft", &["delete", "table", "ip", "portolan"]);
    run("nft", &["delete", "table", "ip6", "portolan"]);
    let traffic = Traffic::start(server);
    traffic.more(50).await;

    config.leftovers = Leftovers::Remove;
    let _agent = agent_with(config);
    until_of(&left, "nothing is left", str::is_empty).await;
    traffic.more(50).await;
    traffic.end();
    assert!(ruleset().contains("table ip portolan"));
    crate::node::until_http(10249, "/services", |page| !told(page)).await;
    assert!(http(10249, "/proxyMode").await.ends_with("nftables"));
}

#[test]
fn tables_of_nftables_mode_are_replaced_without_a_gap() {
    if !inside("agent_succession::tables_of_nftables_mode_are_replaced_without_a_gap") {
        return;
    }
    let leave = |address: &str| {
        for family in ["ip", "ip6"] {
            run("nft", &["add", "table", family, "kube-proxy"]);
        }
        let hook = "{ type nat hook output priority -100 ; }";
        run("nft", &["add", "chain", "ip", "kube-proxy", "nat-output", hook]);
        let rule = format!("ip daddr {address} tcp dport 80 dnat to {ENDPOINT}:8080");
        run("nft", &["add", "rule", "ip", "kube-proxy", "nat-output", &rule]);
    };
    let left = || {
        let tables = run("nft", &["list", "tables"]);
        tables.lines().filter(|table| table.ends_with("kube-proxy")).collect::<String>()
    };
    block_on(takes_over(leave, left));
}

#[test]
fn the_interface_of_ipvs_mode_is_removed_without_a_gap() {
    let test = "agent_succession::the_interface_of_ipvs_mode_is_removed_without_a_gap";
    // kube-proxy's is of type dummy, which fewer kernels have.
    let add = "link add kube-ipvs0 type bridge";
    if (crate::node::is_inside() || can(test, "ip", add)) && inside(test) {
        let leave = |address: &str| {
            for command in [add, "link set kube-ipvs0 up"] {
                run("ip", &command.split(' ').collect::<Vec<_>>());
            }
            run("ip", &["address", "add", &format!("{address}/32"), "dev", "kube-ipvs0"]);
            // As kube-proxy's rules do in this mode, too: connections are tracked.
            run("nft", &["add", "table", "ip", "tracking"]);
            let chain = "{ type filter hook output priority 0; ct state invalid accept; }";
            run("nft", &["add", "chain", "ip", "tracking", "output", chain]);
            // Stands in for the virtual server: the kernels of tests have no IPVS.
            let server = TcpListener::bind((address, 80)).expect("the address is local");
            std::thread::spawn(move || server.incoming().flatten().for_each(drop));
        };
        let left = || {
            let links = run("ip", &["-brief", "link"]);
            links.lines().filter(|link| link.starts_with("kube-ipvs0")).collect::<String>()
        };
        block_on(takes_over(leave, left));
    }
}

fn chains_are_replaced(kind: &str) {
    let iptables = |arguments: &str| {
        run(kind, &arguments.split(' ').collect::<Vec<_>>());
    };
    let leave = |address: &str| {
        iptables("-t nat -N KUBE-SERVICES");
        iptables("-t nat -N KUBE-SVC-AAAA");
        iptables("-t nat -N KUBE-SEP-AAAA");
        iptables(&format!(
            "-t nat -A KUBE-SEP-AAAA -p tcp -j DNAT --to-destination {ENDPOINT}:8080"
        ));
        iptables("-t nat -A KUBE-SVC-AAAA -j KUBE-SEP-AAAA");
        iptables(&format!(
            "-t nat -A KUBE-SERVICES -d {address}/32 -p tcp --dport 80 -j KUBE-SVC-AAAA"
        ));
        run(
            kind,
            &[
                "-t",
                "nat",
                "-A",
                "OUTPUT",
                "-m",
                "comment",
                "--comment",
                "kubernetes service portals",
                "-j",
                "KUBE-SERVICES",
            ],
        );
        // The kubelet's, which stays.
        iptables("-t filter -N KUBE-FIREWALL");
        iptables("-t filter -A INPUT -j KUBE-FIREWALL");
    };
    let save = format!("{kind}-save");
    let left = || {
        let saved = run(&save, &[]);
        saved.lines().filter(|line| line.contains("KUBE-S")).collect::<String>()
    };
    block_on(takes_over(leave, left));
    assert!(run(&save, &[]).contains("-A INPUT -j KUBE-FIREWALL"));
}

/// Whether a kind of iptables is here and works in this kernel.
fn works(test: &str, kind: &str) -> bool {
    can(test, kind, "-t nat -N KUBE-TRY")
}

/// Whether a command works in a new network namespace.
fn can(test: &str, kind: &str, arguments: &str) -> bool {
    let program = testkit::program(kind);
    let Some(program) = program else {
        testkit::skip(test, &format!("the program {kind} is not here"));
        return false;
    };
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--"])
        .arg(program)
        .args(arguments.split(' '))
        .output();
    let ok = output.as_ref().is_ok_and(|output| output.status.success());
    if !ok {
        testkit::skip(test, &format!("{kind} does not work here: {output:?}"));
    }
    ok
}

#[test]
fn chains_of_iptables_nft_are_replaced_without_a_gap() {
    let test = "agent_succession::chains_of_iptables_nft_are_replaced_without_a_gap";
    if (crate::node::is_inside() || works(test, "iptables-nft")) && inside(test) {
        chains_are_replaced("iptables-nft");
    }
}

#[test]
fn chains_of_iptables_legacy_are_replaced_without_a_gap() {
    let test = "agent_succession::chains_of_iptables_legacy_are_replaced_without_a_gap";
    if (crate::node::is_inside() || works(test, "iptables-legacy")) && inside(test) {
        chains_are_replaced("iptables-legacy");
    }
}
