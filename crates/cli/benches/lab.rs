//! The lab in numbers: start, memory, one endpoint change, requests per second.
//!
//! `cargo bench -p portolan --bench lab`. Reported, never asserted: a loaded machine is no bug.
//!
//! ```text
//!  bench ─▶ portolan up ─▶ status, /proc, agent's /metrics
//!      └─▶ portolan exec PLACE -- bench load URL   (this program again, inside the lab)
//! ```

#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]
#![expect(clippy::print_stdout, reason = "a report for people")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const STARTS: usize = 7;
const START_GOAL: Duration = Duration::from_secs(2);
const MEMORY_GOAL: f64 = 200.0;
const CHANGES: usize = 20;
const LOAD: Duration = Duration::from_secs(3);
/// Clients that ask at the same time.
const CLIENTS: usize = 4;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, command, target] = &arguments[..]
        && command == "load"
    {
        return load(target.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    starts(folder.path());
    let lab = Lab(folder.path());
    lab.up("lab");
    memory(&lab);
    endpoint_change(&lab);
    requests(&lab);
}

/// A lab with the examples, in a folder of its own.
struct Lab<'a>(&'a Path);

impl Lab<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
        command.args(arguments).env("PORTOLAN_STATE", self.0.join("lab")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The time from the start of the process to everything answering.
    fn up(&self, name: &str) -> Duration {
        let mut command = self.command(&["up", "--detach"]);
        command.env("PORTOLAN_STATE", self.0.join(name));
        let start = Instant::now();
        let output = command.output().unwrap();
        let took = start.elapsed();
        assert!(output.status.success(), "{output:?}");
        took
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.run(&["status", "--output", "json"])).unwrap()
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        let _ = self.command(&["down"]).output();
    }
}

fn starts(folder: &Path) {
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|number| {
            let name = format!("start-{number}");
            let lab = Lab(folder);
            let took = lab.up(&name);
            lab.command(&["down", "--state"]).arg(folder.join(&name)).output().unwrap();
            took
        })
        .collect();
    times.sort();
    let [first, .., last] = times[..] else { return };
    let median = times[STARTS / 2];
    println!("start to everything answering, {STARTS} times, 2 nodes");
    for (name, time) in [("min", first), ("median", median), ("max", last)] {
        let ratio = time.as_secs_f64() / START_GOAL.as_secs_f64();
        println!("  {name:<8} {:>7.3} s   {ratio:.2} of the goal", time.as_secs_f64());
    }
}

/// Resident memory of every process whose pid namespace is the lab's.
fn memory(lab: &Lab<'_>) {
    let folder = lab.0.join("lab").display().to_string();
    let processes = || std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let line = |path: &Path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ")
    };
    let namespace = |path: &Path| std::fs::read_link(path.join("ns/pid")).ok();
    let inside = processes()
        .find(|path| line(path).starts_with(&format!("portolan apiserver --state={folder}")))
        .and_then(|path| namespace(&path));
    let mut by_name = BTreeMap::<String, (usize, u64, u64)>::new();
    for path in processes().filter(|path| inside.is_some() && namespace(path) == inside) {
        let text = std::fs::read_to_string(path.join("smaps_rollup")).unwrap_or_default();
        let field = |name: &str| -> u64 {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
        };
        let name = line(&path).split(' ').take(2).collect::<Vec<_>>().join(" ");
        let sum = by_name.entry(name).or_default();
        *sum = (sum.0 + 1, sum.1 + field("Rss:"), sum.2 + field("Pss:"));
    }
    println!("memory, MiB: resident; proportional (pages shared by n processes count 1/n)");
    let mut total = (0.0, 0.0);
    for (name, (count, rss, pss)) in by_name {
        let (rss, pss) = (mebibytes(rss), mebibytes(pss));
        total = (total.0 + rss, total.1 + pss);
        println!("  {count} x {name:<22} {rss:>7.1} {pss:>7.1}");
    }
    println!(
        "  all{:<23} {:>7.1} {:>7.1}   {:.2} of the goal",
        "",
        total.0,
        total.1,
        total.0 / MEMORY_GOAL
    );
}

fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

/// From watch event to kernel, as the agent of node1 has measured it.
fn endpoint_change(lab: &Lab<'_>) {
    let manifest = lab.0.join("scale.yaml");
    let before = buckets(lab);
    for number in 0..CHANGES {
        let replicas = 4 + number % 2;
        let text = format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  \
             replicas: {replicas}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec:\n      containers:\n      \
             - {{name: web, image: portolan/web, ports: [{{containerPort: 8080}}]}}\n"
        );
        std::fs::write(&manifest, text).unwrap();
        lab.run(&["apply", "-f", &manifest.display().to_string()]);
        std::thread::sleep(Duration::from_millis(700));
    }
    let after = buckets(lab);
    let counts: Vec<(f64, u64)> = after
        .iter()
        .zip(&before)
        .map(|((limit, after), (_, before))| (*limit, after - before))
        .collect();
    let all = counts.last().map_or(0, |(_, count)| *count);
    let at = |share: f64| {
        let reached = counts.iter().find(|(_, count)| *count as f64 >= share * all as f64);
        reached.map_or(f64::NAN, |(limit, _)| limit * 1e3)
    };
    println!("one endpoint change, watch event to kernel, {all} syncs on node1 (goal 5 ms)");
    println!(
        "  p50 below {:.3} ms, p90 below {:.3} ms, all below {:.3} ms",
        at(0.5),
        at(0.9),
        at(1.0)
    );
    let bare = "nft add table inet bench; nft 'add set inet bench s { type inet_service; }'; \
                a=$(date +%s%N); for i in $(seq 50); do nft add element inet bench s { $i }; done; \
                b=$(date +%s%N); nft delete table inet bench; echo $(( (b - a) / 50000 ))";
    let micros = lab.run(&["exec", "node1", "--", "bash", "-c", bare]);
    println!("  for comparison, one `nft add element` as a program: {} us", micros.trim());
    println!("  and over netlink: cargo run --release -p portolan-nft --example load");
}

/// Upper limits in seconds and cumulated counts of `watch_to_kernel_duration_seconds`.
fn buckets(lab: &Lab<'_>) -> Vec<(f64, u64)> {
    let text = lab.run(&["exec", "node1", "--", "curl", "-s", "http://127.0.0.1:10249/metrics"]);
    let lines = text.lines().filter_map(|line| {
        line.strip_prefix("portolan_watch_to_kernel_duration_seconds_bucket{le=\"")
    });
    let parse = |line: &str| {
        let (limit, count) = line.split_once("\"} ")?;
        let limit = if limit == "+Inf" { f64::INFINITY } else { limit.parse().ok()? };
        Some((limit, count.parse().ok()?))
    };
    lines.filter_map(parse).collect()
}

fn requests(lab: &Lab<'_>) {
    let status = lab.status();
    let services = status["services"].as_array().unwrap();
    let of_kind = |kind: &str| {
        services.iter().find(|service| service["kind"] == kind && service["name"] != "kubernetes")
    };
    let pods =
        lab.run(&["exec", "node1", "--", "bash", "-c", "ip -4 route | grep -o '^10.244.1.[0-9]*'"]);
    let pod = pods.lines().last().unwrap().to_owned();
    let mut targets = vec![("node1", "a pod, directly", format!("{pod}:8080"))];
    let address = |service: &Value, field: &str| {
        service[field][0].as_str().map(|text| format!("{text}:{}", service["ports"][0]["port"]))
    };
    if let Some(to) = of_kind("ClusterIP").and_then(|service| address(service, "cluster_ips")) {
        targets.push(("node1", "ClusterIP", to));
    }
    if let Some(service) = of_kind("NodePort") {
        targets.push((
            "client",
            "NodePort",
            format!("172.30.0.11:{}", service["ports"][0]["node_port"]),
        ));
    }
    if let Some(to) = of_kind("LoadBalancer").and_then(|service| address(service, "external_ips")) {
        targets.push(("client", "LoadBalancer", to));
    }
    println!("requests per second, a connection each, {CLIENTS} at a time");
    let program = std::env::current_exe().unwrap().display().to_string();
    let mut direct = None;
    for (place, name, target) in targets {
        let rate: f64 =
            lab.run(&["exec", place, "--", &program, "load", &target]).trim().parse().unwrap();
        let base = *direct.get_or_insert(rate);
        println!("  {place:<7} {name:<16} {rate:>8.0}   {:.2} of direct", rate / base);
    }
}

/// Runs in the lab: asks for a while and prints the requests per second.
fn load(target: SocketAddr) {
    let start = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut count = 0_u32;
                while start.elapsed() < LOAD {
                    let mut stream = TcpStream::connect(target).unwrap();
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        .unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).unwrap();
                    assert!(answer.contains("pod="), "{answer}");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let count: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    println!("{:.0}", f64::from(count) / start.elapsed().as_secs_f64());
}
