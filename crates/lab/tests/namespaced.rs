//! The lab's networks and life span, with real namespaces and real packets.
//!
//! The program enters a user namespace of its own before anything else, so that it needs no root
//! and leaves nothing behind; where that is forbidden its tests are skipped. It is also what the
//! lab starts as API server, controller and agent: here those only wait to be killed.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lab::net::{Namespace, PodLink, Topology};
use lab::{AddressPlan, LabConfig, LabError, client};
use nix::sched::{CloneFlags, unshare};
use portolan_lab as lab;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection that must not come about is waited for.
const ATTEMPT: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    if let Some(code) = lab::reexec(std::env::args_os()) {
        return code;
    }
    match std::env::args().nth(1).as_deref() {
        Some("apiserver" | "controller" | "agent") => loop {
            std::thread::park();
        },
        Some("hold-a-lab") => return hold_a_lab(),
        _ => {}
    }
    if let Ok(name) = std::env::var(CHILD) {
        return be_child(&name);
    }
    // A process and namespaces each: what one test does to sysctls and links another cannot see.
    let tests = TESTS.iter().map(|&(name, _)| (name, move || in_process(name)));
    testkit::run_tests(tests, || testkit::no_namespaces().map_or(Ok(()), Err))
}

const TESTS: [(&str, fn()); 6] = [
    ("pods_and_nodes_reach_each_other_in_both_families", pods_and_nodes_reach_each_other),
    ("the_client_reaches_nodes_but_no_pod", client_reaches_nodes_but_no_pod),
    ("a_pod_s_address_is_free_at_once", address_is_free_at_once),
    ("a_stopped_node_is_off_the_network_until_started", stopped_node_is_off_the_network),
    ("nothing_is_left_of_a_killed_lab", nothing_is_left_of_a_killed_lab),
    ("a_lab_runs_once_per_state_folder", a_lab_runs_once_per_state_folder),
];

/// Names the test that a process was started for.
const CHILD: &str = "PORTOLAN_TEST_CHILD";

fn in_process(name: &str) {
    let mut command = Command::new("/proc/self/exe");
    assert!(command.env(CHILD, name).status().expect("run the test").success());
}

/// Runs a test as root of namespaces of its own.
fn be_child(name: &str) -> ExitCode {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .expect("user and network namespaces");
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        std::fs::write(format!("/proc/self/{file}"), text).expect("map the user");
    }
    let (_, test) = TESTS.iter().find(|(known, _)| *known == name).expect("is a test");
    test();
    ExitCode::SUCCESS
}

fn pods_and_nodes_reach_each_other() {
    let lab = Small::new();
    for from in [&lab.nodes[0], &lab.nodes[1], &lab.pods[0].namespace, &lab.pods[1].namespace] {
        for pod in &lab.pods {
            for address in pod.addresses {
                assert!(lab.connects(from, &pod.namespace, address), "no way to {address}");
            }
        }
        for address in AddressPlan::node(1) {
            assert!(lab.connects(from, &lab.nodes[1], address), "no way to {address}");
        }
    }
}

fn client_reaches_nodes_but_no_pod() {
    let lab = Small::new();
    for address in AddressPlan::node(0) {
        assert!(lab.connects(&lab.topology.client, &lab.nodes[0], address), "no way to {address}");
    }
    for address in lab.pods[0].addresses {
        assert!(
            lab.is_cut_off(&lab.topology.client, &lab.pods[0].namespace, address),
            "a way to {address}"
        );
    }
}

fn address_is_free_at_once() {
    let mut lab = Small::new();
    let pod = lab.pods.remove(0);
    let addresses = pod.addresses;
    drop(pod);
    let again = PodLink::new(&lab.nodes[0], "pod2", addresses, AddressPlan::node(0))
        .expect("the same link and address");
    assert!(lab.connects(&lab.nodes[1], &again.namespace, addresses[0]));
}

fn stopped_node_is_off_the_network() {
    let mut lab = Small::new();
    let address = AddressPlan::node(1)[0];
    let node = lab.nodes[1].clone();
    lab.topology.stop_node(1).expect("stop");
    assert!(lab.is_cut_off(&lab.nodes[0], &node, address));
    let node = lab.topology.start_node(1).expect("start");
    assert!(lab.connects(&lab.nodes[0], &node, address));
}

fn nothing_is_left_of_a_killed_lab() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = running_lab(folder.path());
    lab.kill().expect("kill -9");
    lab.wait().expect("its end");
    wait_until("every process of the lab has gone", || processes_with(folder.path()).is_empty());
    assert!(!client::down(folder.path()).expect("clean up"), "no lab runs any more");
    assert!(!folder.path().join("control.sock").exists());
    assert_eq!(
        std::fs::read_dir(folder.path().join("run")).expect("run").count(),
        0,
        "secrets on disk"
    );
    let mut again = running_lab(folder.path());
    again.kill().expect("kill -9");
    again.wait().expect("its end");
}

fn a_lab_runs_once_per_state_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lab = running_lab(folder.path());
    let second = lab::up(&config(folder.path()), &mut |_| {});
    assert!(matches!(second, Err(LabError::Running { .. })), "{second:?}");
    let output = client::exec(
        folder.path(),
        &client::Exec { place: "moon".to_owned(), command: vec!["true".to_owned()] },
    );
    assert!(
        matches!(&output, Err(LabError::Refused { message }) if message.contains("node1 to node2")),
        "{output:?}"
    );
    let code = client::exec(
        folder.path(),
        &client::Exec {
            place: "client".to_owned(),
            command: ["sh", "-c", "exit 7"].map(str::to_owned).to_vec(),
        },
    );
    assert_eq!(code.expect("exec"), 7);
    assert!(client::down(folder.path()).expect("down"));
    lab.wait().expect("its end");
    assert!(matches!(client::status(folder.path()), Err(LabError::NotRunning { .. })));
    assert!(processes_with(folder.path()).is_empty());
}

/// Two nodes with a pod each.
struct Small {
    topology: Topology,
    nodes: Vec<Namespace>,
    pods: Vec<PodLink>,
    runtime: tokio::runtime::Runtime,
}

impl Small {
    fn new() -> Self {
        let topology = Topology::build(2).expect("a network");
        let nodes: Vec<_> =
            (0..2).map(|index| topology.node(index).expect("a node").clone()).collect();
        let pod = |index: u16| {
            let addresses = AddressPlan::node_pods(index)
                .map(|network| network.hosts().nth(1).expect("a host"));
            PodLink::new(&nodes[usize::from(index)], "pod2", addresses, AddressPlan::node(index))
                .expect("a pod")
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { pods: vec![pod(0), pod(1)], topology, nodes, runtime }
    }

    fn connects(&self, from: &Namespace, to: &Namespace, address: IpAddr) -> bool {
        self.connects_within(PATIENCE, from, to, address)
    }

    fn is_cut_off(&self, from: &Namespace, to: &Namespace, address: IpAddr) -> bool {
        !self.connects_within(ATTEMPT, from, to, address)
    }

    /// Whether a connection from one namespace to an address of another comes about in time.
    fn connects_within(
        &self,
        time: Duration,
        from: &Namespace,
        to: &Namespace,
        address: IpAddr,
    ) -> bool {
        let _entered = self.runtime.enter();
        let listener = to.listen(([0; 16], 0).into()).expect("listen");
        let port = listener.local_addr().expect("a port").port();
        let target = SocketAddr::new(address, port);
        self.runtime.block_on(async {
            matches!(tokio::time::timeout(time, from.connect(target)).await, Ok(Ok(_)))
        })
    }
}

fn config(folder: &Path) -> LabConfig {
    LabConfig { state_dir: folder.to_owned(), ..LabConfig::default() }
}

/// The process that holds a lab: it says when the control socket answers.
fn hold_a_lab() -> ExitCode {
    let Some(folder) = std::env::args().nth(2) else { return ExitCode::FAILURE };
    let mut told = false;
    let result = lab::up(&config(Path::new(&folder)), &mut |_| {
        if !told {
            let _ = io::stdout().write_all(b"!");
            let _ = io::stdout().flush();
            told = true;
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// A lab whose network stands and whose control socket answers.
fn running_lab(folder: &Path) -> Child {
    let mut child = Command::new("/proc/self/exe")
        .arg("hold-a-lab")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a lab");
    let mut byte = [0];
    child.stdout.as_mut().expect("its output").read_exact(&mut byte).expect("its first step");
    wait_until("the control socket answers", || client::status(folder).is_ok());
    child
}

/// Processes that were told of a folder by argument, this one and its parents aside.
fn processes_with(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy().into_owned();
    let commands = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .map(|entry| entry.path().join("cmdline"));
    commands
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter(|command| command.contains(&folder))
        .collect()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
