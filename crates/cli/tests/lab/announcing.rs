//! Who answers for load balancer addresses, as an observer on the external network sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};

use crate::harness::{Lab, eventually, kubectl, text};
use crate::lifecycle::node_with;
use crate::reach::DUAL_STACK;

/// How long an address may go without an answer, in seconds: a node is dead after 0.5 s of
/// silence.
const FAILOVER: f64 = 1.0;

#[test]
fn one_node_at_a_time_answers_for_an_address() {
    let test = "one_node_at_a_time_answers_for_an_address";
    let Some(kubectl) = kubectl(test) else { return };
    let Some(python) = testkit::program("python3") else {
        return testkit::skip(test, "no python3");
    };
    let Some(lab) = Lab::start(test, DUAL_STACK, &[]) else { return };
    let path = "-o=jsonpath={.status.loadBalancer.ingress[*].ip}";
    let addresses = lab.kubectl(&kubectl, &["get", "service", "web-loadbalancer", path]);
    let observer = Observer::start(&lab, &python, &addresses);
    for family in ["IPv4", "IPv6"] {
        eventually("somebody answers", || observer.owner(family).is_some());
        let first = observer.owner(family).unwrap();
        let node = node_with(&lab, &first);
        let moved = || observer.owner(family).is_some_and(|owner| owner != first);
        let is_back = || observer.owner(family).as_ref() == Some(&first);
        let set = |what: &str| {
            let output = lab.portolan(&["node", what, node]).output().unwrap();
            assert!(output.status.success(), "{}", text(&output));
        };
        set("stop");
        eventually("the other node answers", moved);
        set("start");
        eventually("the first node answers again", is_back);

        let agent = format!("agent-{node}");
        lab.kill_and_await_next(&agent);
        eventually("the other node answers for a killed agent", moved);
        eventually("the next agent answers", is_back);

        // An agent that is held up for longer than others believe in it must not go on where it
        // was.
        let [agent] = lab.processes(&agent)[..] else { panic!("one {agent} should run") };
        kill(agent, Signal::SIGSTOP).unwrap();
        eventually("the other node answers for a stopped agent", moved);
        kill(agent, Signal::SIGCONT).unwrap();
        eventually("the agent answers again", is_back);
    }
    observer.finish();
}

/// Questions and answers so far, by family.
type Seen = BTreeMap<(String, u32), (f64, BTreeSet<String>)>;

struct Observer {
    exec: Child,
    seen: Arc<Mutex<Seen>>,
}

impl Observer {
    fn start(lab: &Lab, python: &Path, addresses: &str) -> Self {
        let script = include_str!("observer.py");
        let mut exec = lab.portolan(&["exec", "client", "--"]);
        exec.arg(python).args(["-c", script]);
        exec.args(addresses.split_whitespace());
        let mut exec = exec.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(exec.stdout.take().unwrap());
        let seen = Arc::new(Mutex::new(Seen::new()));
        let told = seen.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let [what, number, family, rest] =
                    line.split(' ').collect::<Vec<_>>().try_into().unwrap();
                let mut seen = told.lock().unwrap();
                let key = (family.to_owned(), number.parse().unwrap());
                if what == "ask" {
                    seen.insert(key, (rest.parse().unwrap(), BTreeSet::new()));
                } else {
                    seen.get_mut(&key).unwrap().1.insert(rest.to_owned());
                }
            }
        });
        Self { exec, seen }
    }

    /// Who answered the latest question that was answered, if it is one of the last few.
    fn owner(&self, family: &str) -> Option<String> {
        let seen = self.seen.lock().unwrap();
        let of_family = seen.iter().filter(|((of, _), _)| of == family).rev();
        of_family.take(10).find_map(|(_, (_, owners))| owners.first().cloned())
    }

    /// Ends it and judges what it has seen.
    fn finish(mut self) {
        self.exec.kill().unwrap();
        self.exec.wait().unwrap();
        let seen = self.seen.lock().unwrap();
        for family in ["IPv4", "IPv6"] {
            let (mut asked, mut gap, mut last) = (0, 0.0_f64, None);
            for ((_, number), (at, owners)) in seen.iter().filter(|((of, _), _)| of == family) {
                assert!(owners.len() < 2, "question {number} of {family}: {owners:?} answer");
                asked += 1;
                if !owners.is_empty() {
                    gap = gap.max(at - last.unwrap_or(*at));
                    last = Some(*at);
                }
            }
            println!("{family}: {asked} questions, at most {gap:.3} s without an answer");
            assert!(asked > 100 && gap < FAILOVER, "{family}: {gap:.3} s without an answer");
        }
    }
}
