//! The API server in numbers: durable writes, lists, a restart, memory, watches.
//!
//! `cargo bench -p portolan --bench apiserver`. Reported, never asserted: a loaded machine is no
//! bug. Beside each number stand the goal, what kube-apiserver with etcd took for the same on two
//! cores (where that was measured), and what the machine could do at best.
//!
//! ```text
//!  bench: N HTTPS connections, kept alive ─▶ portolan apiserver (a process of its own) ─▶ disk
//! ```

#![expect(clippy::unwrap_used, reason = "a bench that cannot measure ends")]
#![expect(clippy::print_stdout, reason = "a report for people")]

mod client;
mod objects;
mod server;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use client::Client;
use server::Server;

/// Services, and as many EndpointSlices.
const SERVICES: usize = 10_000;
/// Connections that write at the same time.
const WRITERS: usize = 32;
const WATCHERS: usize = 1_000;
/// Changes that all watchers are to see.
const CHANGES: usize = 20;
const LISTS: usize = 7;
const STARTS: usize = 5;

const CREATE_GOAL: Duration = Duration::from_secs(15);
/// kube-apiserver 1.36 with etcd on a machine of this kind.
const CREATE_PEER: Duration = Duration::from_secs(64);
const LIST_GOAL: Duration = Duration::from_millis(300);
const START_GOAL: Duration = Duration::from_secs(2);
const WATCH_GOAL: Duration = Duration::from_millis(50);
/// MiB.
const MEMORY_GOAL: f64 = 150.0;

fn main() {
    // The client gets one thread, so that the server has a core for itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for controllers in ["none", "*"] {
            println!("apiserver --controllers={controllers}");
            measure(controllers).await;
        }
    });
}

async fn measure(controllers: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new(folder.path(), controllers);
    server.start();
    first_start(&server);
    let bare = bare(&server, folder.path()).await;
    create(&server, bare).await;
    println!("  resident memory        {}", memory(&server));
    for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"] {
        list(&server, path).await;
    }
    watch(&server).await;
    println!("  resident memory        {}", memory(&server));
    restart(&mut server).await;
    println!("  resident memory        {}", memory(&server));
}

fn first_start(server: &Server) {
    println!("  first start            {}", against(server.took, START_GOAL));
}

/// What the machine can do at best.
#[derive(Clone, Copy)]
struct Bare {
    /// Appends of 4 KiB per second that are on disk one by one.
    syncs: f64,
    /// Requests per second that touch no object.
    requests: f64,
}

async fn bare(server: &Server, folder: &Path) -> Bare {
    let mut file = std::fs::File::create(folder.join("ballast")).unwrap();
    let start = Instant::now();
    let mut syncs = 0;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all(&[0; 4096]).unwrap();
        file.sync_data().unwrap();
        syncs += 1;
    }
    let syncs = f64::from(syncs) / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let asks = (0..WRITERS).map(async |_| {
        let mut client = Client::connect(server).await;
        for _ in 0..200 {
            client.get("/healthz").await;
        }
    });
    futures::future::join_all(asks).await;
    let requests = (WRITERS * 200) as f64 / start.elapsed().as_secs_f64();
    println!("  bare: {syncs:.0} appends of 4 KiB on disk, {requests:.0} GET /healthz a second");
    Bare { syncs, requests }
}

/// Services and EndpointSlices, by connections that each wait for every acknowledgement.
async fn create(server: &Server, bare: Bare) {
    let start = Instant::now();
    let writers = (0..WRITERS).map(async |writer| {
        let mut client = Client::connect(server).await;
        for number in (writer..SERVICES).step_by(WRITERS) {
            client.create(objects::SERVICES, objects::service(number)).await;
            client.create(objects::SLICES, objects::slice(number)).await;
        }
    });
    futures::future::join_all(writers).await;
    let took = start.elapsed();
    println!(
        "  create {SERVICES} of each  {}   {:.2} of kube-apiserver's {} s",
        against(took, CREATE_GOAL),
        took.as_secs_f64() / CREATE_PEER.as_secs_f64(),
        CREATE_PEER.as_secs(),
    );
    let rate = 2.0 * SERVICES as f64 / took.as_secs_f64();
    println!(
        "    {rate:.0} writes a second: {:.2} of the bare appends, {:.2} of the bare requests",
        rate / bare.syncs,
        rate / bare.requests,
    );
}

async fn list(server: &Server, path: &str) {
    let mut client = Client::connect(server).await;
    let mut size = 0;
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let start = Instant::now();
        size = client.get(path).await.len();
        times.push(start.elapsed());
    }
    let (median, _) = median_and_max(times);
    let speed = size as f64 / median.as_secs_f64() / f64::from(1 << 20);
    println!(
        "  list in one page       {}   {:.1} MiB, {speed:.0} MiB/s   {path}",
        against(median, LIST_GOAL),
        size as f64 / f64::from(1 << 20)
    );
}

/// Watches on a connection each, and the time from sending a change until the last has seen it.
async fn watch(server: &Server) {
    let path = format!("{}?watch=1&resourceVersion={}", objects::SERVICES, version(server).await);
    let mut watches = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        watches.push(Client::connect(server).await.watch(&path).await);
    }
    println!("  {WATCHERS} watches: resident memory {}", memory(server));
    let mut writer = Client::connect(server).await;
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let start = Instant::now();
        let seen = watches.iter_mut().map(async |watch| {
            watch.event().await;
            start.elapsed()
        });
        let path = format!("{}/s-{change}", objects::SERVICES);
        let write = writer.patch(&path, objects::LABEL);
        let (seen, ()) = futures::join!(futures::future::join_all(seen), write);
        times.push(seen.into_iter().max().unwrap_or_default());
    }
    let (median, max) = median_and_max(times);
    println!("    all see one change   {}", against(median, WATCH_GOAL));
    println!("    at worst of {CHANGES}       {}", against(max, WATCH_GOAL));
}

async fn version(server: &Server) -> String {
    let list = Client::connect(server).await.get("/api/v1/services?limit=1").await;
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    list["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// From starting the process after a kill to the first answered list of everything.
async fn restart(server: &mut Server) {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        server.kill();
        let start = Instant::now();
        server.start();
        let mut client = Client::connect(server).await;
        client.get("/api/v1/services?limit=1").await;
        times.push(start.elapsed());
    }
    let (median, max) = median_and_max(times);
    println!("  restart to serving     {}", against(median, START_GOAL));
    println!("    at worst of {STARTS}        {}", against(max, START_GOAL));
}

fn memory(server: &Server) -> String {
    let mebibytes = server.resident();
    format!("{mebibytes:>8.1} MiB   {:.2} of the goal", mebibytes / MEMORY_GOAL)
}

fn against(took: Duration, goal: Duration) -> String {
    let ratio = took.as_secs_f64() / goal.as_secs_f64();
    format!("{:>8.1} ms    {ratio:.2} of the goal", took.as_secs_f64() * 1e3)
}

fn median_and_max(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}
