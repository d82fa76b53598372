//! What is measured, and with what.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::cluster::Cluster;
use super::process::{METRICS, Running};
use super::{ANSWERING, answering};
use crate::fetch;

/// How often the agent is asked whether it is done.
const POLL: Duration = Duration::from_millis(10);
/// How long one thing may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_mins(30);
/// How long one connection may take.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a start took.
pub(super) struct Started {
    pub(super) total: Duration,
    /// Seconds after the last object had arrived.
    pub(super) after_arrival: f64,
}

/// What changes cost.
pub(super) struct Changes {
    /// From the write to the first connection to the new endpoint, sorted.
    pub(super) milliseconds: Vec<f64>,
    /// To nf_tables, per change.
    pub(super) bytes: f64,
    pub(super) messages: f64,
}

/// Answers every connection to an endpoint with the endpoint's own address, from a thread that lives
/// as long as the process.
pub(super) fn answer() -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080))?;
    std::thread::Builder::new().name("endpoints".to_owned()).spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Ok(SocketAddr::V4(address)) = stream.local_addr() {
                // The client may have given up.
                let _ = stream.write_all(&address.ip().octets());
            }
        }
    })?;
    Ok(())
}

/// Waits until the kernel has every Service.
pub(super) async fn start(agent: &mut Running, services: u32) -> anyhow::Result<Started> {
    let deadline = agent.started + PATIENCE;
    loop {
        tokio::time::sleep(POLL).await;
        // Not listening yet.
        let metrics = fetch::get(METRICS, "/metrics").unwrap_or_default();
        let full = value(&metrics, "kubeproxy_sync_full_proxy_rules_duration_seconds_count");
        if full >= 1.0 && value(&metrics, "portolan_services") >= f64::from(services) {
            let after_arrival =
                value(&metrics, "kubeproxy_sync_full_proxy_rules_duration_seconds_sum");
            return Ok(Started { total: agent.started.elapsed(), after_arrival });
        }
        agent.check()?;
        if Instant::now() > deadline {
            bail!("the agent has not programmed {services} Services within half an hour");
        }
    }
}

/// Moves a Service from endpoint to endpoint and connects until the new one answers.
pub(super) async fn changes(
    cluster: &Cluster,
    service: Ipv4Addr,
    changes: u32,
) -> anyhow::Result<Changes> {
    let server = SocketAddr::new(service.into(), 80);
    let before = fetch::get(METRICS, "/metrics")?;
    let mut milliseconds = Vec::new();
    for change in 1..=changes {
        let number = u8::try_from(change % u32::from(ANSWERING)).unwrap_or_default();
        let endpoint = answering(number);
        let client = std::thread::spawn(move || first_connection(server, endpoint));
        let written = Instant::now();
        cluster.change(endpoint).await.context("change an endpoint")?;
        let reached = tokio::task::spawn_blocking(move || client.join())
            .await
            .context("wait for a client")?;
        let Ok(reached) = reached else { bail!("a client has panicked") };
        milliseconds.push(reached?.duration_since(written).as_secs_f64() * 1000.0);
    }
    milliseconds.sort_by(f64::total_cmp);
    let after = fetch::get(METRICS, "/metrics")?;
    let per_change = |name: &str| (value(&after, name) - value(&before, name)) / f64::from(changes);
    Ok(Changes {
        milliseconds,
        bytes: per_change("portolan_netlink_bytes_total"),
        messages: per_change("portolan_netlink_messages_total"),
    })
}

/// When an endpoint first answers on a Service's address. Connects without a pause.
fn first_connection(server: SocketAddr, endpoint: Ipv4Addr) -> anyhow::Result<Instant> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut answer = [0; 4];
        let mut stream =
            TcpStream::connect_timeout(&server, CONNECT).context("connect to the Service")?;
        stream.read_exact(&mut answer).context("read which endpoint has answered")?;
        if answer == endpoint.octets() {
            return Ok(Instant::now());
        }
    }
    bail!("{endpoint} was never reached")
}

/// The first value of a metric, whatever its labels; 0 where it is absent.
fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then_some(rest)
    });
    let number = line.and_then(|line| line.rsplit_once(' '));
    number.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let metrics = "# HELP a_b x\na_b_total{l=\"1\"} 5\na_b_total{l=\"2\"} 6\na 7\n";
        assert_eq!(value(metrics, "a_b_total"), 5.0);
        assert_eq!(value(metrics, "a"), 7.0);
        assert_eq!(value(metrics, "b"), 0.0);
    }
}
