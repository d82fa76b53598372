//! The loop: collect, plan once, sync once, look again.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::{Batch, Client, Sink, Source, SourceOptions};
use model::{Event, Write};
use nft::Dataplane;
use plan::{AgentSettings, NodePortAddresses};
use tokio::io::unix::AsyncFd;

use super::AgentConfig;
use super::addresses::local_addresses;
use super::announce::Announce;
use super::health::Health;
use super::health_check_ports::HealthCheckPorts;
use super::metrics::{Metrics, Sync};
use super::node::{KINDS, Node, Planned};
use crate::clock::wall;

/// First delay after the kernel refused a sync; doubles up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay after the kernel refused a sync (kube-proxy's sync period, D44).
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// How often the machine's addresses are read, if node ports answer on them.
const ADDRESS_INTERVAL: Duration = Duration::from_secs(10);

/// The agent with its connections.
pub(crate) struct Loop {
    config: AgentConfig,
    source: Source,
    sink: Sink,
    node: Node,
    dataplane: Dataplane,
    foreign: Option<AsyncFd<Events>>,
    ports: HealthCheckPorts,
    announce: Announce,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    /// Whether the kernel has followed a plan of this process.
    synced: bool,
    /// When to try again what the kernel refused.
    retry: Option<tokio::time::Instant>,
    delay: Duration,
    /// When to read the machine's addresses again.
    addresses: Option<tokio::time::Instant>,
}

impl Loop {
    pub(crate) fn start(
        config: AgentConfig,
        client: &Client,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let dataplane = Dataplane::open(nft::Settings::default())?;
        let foreign = match dataplane.events() {
            Ok(events) => Some(register(events)?),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "foreign changes of our tables will not be noticed");
                None
            }
        };
        let settings = settings(&config)?;
        Ok(Self {
            source: cluster::source(client, &KINDS, SourceOptions::Node),
            sink: Sink::new(client.clone()),
            node: Node::new(config.node.clone(), settings),
            dataplane,
            foreign,
            ports: HealthCheckPorts::new(Arc::clone(&health)),
            announce: Announce::start(config.node.clone(), config.announce_interface.clone())?,
            health,
            metrics,
            synced: false,
            retry: None,
            delay: FIRST_DELAY,
            addresses: has_networks(&config)
                .then(|| tokio::time::Instant::now() + ADDRESS_INTERVAL),
            config,
        })
    }

    /// Works until it is dropped, or until the event socket of the kernel breaks.
    pub(crate) async fn work(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // What the kernel lost counts more than what is new.
                biased;
                changed = foreign_change(&mut self.foreign) => {
                    if changed? {
                        self.verify();
                    }
                }
                Some(batch) = self.source.next() => self.take(batch),
                () = self.announce.changed() => self.announce(),
                () = sleep_until(self.retry) => self.sync(),
                () = sleep_until(self.addresses) => self.read_addresses(),
            }
        }
    }

    /// Tells the other nodes that this one goes. The kernel's tables stay (D48).
    pub(crate) async fn stop(self) {
        self.announce.stop().await;
    }

    fn take(&mut self, batch: Batch) {
        self.health.queued(batch.received);
        for rejected in &batch.rejected {
            tracing::warn!(
                kind = ?rejected.kind,
                namespace = %rejected.namespace,
                name = %rejected.name,
                reason = rejected.reason,
                "left an object alone that makes no sense"
            );
        }
        self.node.take(batch);
        self.health.see_node(self.node.cluster(), self.node.name());
        self.sync();
    }

    /// Plans and makes the kernel follow. A refusal leaves the kernel as it was and is tried again.
    fn sync(&mut self) {
        let Some(planned) = self.node.plan() else { return };
        let Some(view) = self.node.view() else { return };
        let started = Instant::now();
        match self.dataplane.sync(view) {
            Ok(synced) => {
                self.retry = None;
                self.delay = FIRST_DELAY;
                self.health.synced();
                self.measure(&planned, started);
                self.metrics.did(synced, view.services.len());
                tracing::debug!(?synced, full = planned.full, "synced");
                self.synced = true;
                let events = self.ports.update(view);
                self.announce();
                self.report(events);
            }
            Err(error) => {
                self.metrics.failed();
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, retry_in = ?self.delay, "could not program the kernel");
                self.try_again();
            }
        }
    }

    /// Answers for the addresses that are this node's, once the kernel knows what to do with their
    /// traffic.
    fn announce(&mut self) {
        if self.synced {
            self.announce.update(self.node.cluster());
        }
    }

    /// Puts right what somebody else has changed.
    fn verify(&mut self) {
        match self.dataplane.verify() {
            Ok(synced) if synced.repaired => {
                self.metrics.repaired();
                tracing::warn!("somebody changed our tables; they are as planned again");
            }
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "could not verify the kernel's tables");
                self.try_again();
            }
        }
    }

    fn try_again(&mut self) {
        self.retry = Some(tokio::time::Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(LONGEST_DELAY);
    }

    fn measure(&self, planned: &Planned, started: Instant) {
        let now = wall();
        let seconds = now.0 / 1_000_000;
        let (services, slices) = planned.changes;
        let kind = if planned.full { Sync::Full } else { Sync::Partial };
        self.metrics.queued(services, slices, seconds);
        self.metrics.synced(kind, started.elapsed(), seconds);
        if let Some(received) = planned.received {
            self.metrics.reached_kernel(received.elapsed());
        }
        for trigger in &planned.triggers {
            let micros = u64::try_from(now.0 - trigger.0).unwrap_or_default();
            self.metrics.programmed(Duration::from_micros(micros));
        }
    }

    fn report(&self, events: Vec<Event>) {
        for event in events {
            tracing::warn!(service = %event.regarding.name, event.message, "health check port");
            let sink = self.sink.clone();
            tokio::spawn(async move {
                if let Err(error) = sink.write(&Write::Event(Box::new(event))).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "could not write an event");
                }
            });
        }
    }

    fn read_addresses(&mut self) {
        self.addresses = Some(tokio::time::Instant::now() + ADDRESS_INTERVAL);
        match settings(&self.config) {
            Ok(settings) => {
                self.node.configure(settings);
                self.sync();
            }
            Err(error) => tracing::warn!(%error, "could not read the machine's addresses"),
        }
    }
}

fn has_networks(config: &AgentConfig) -> bool {
    !config.node_port_addresses.is_empty()
}

fn settings(config: &AgentConfig) -> std::io::Result<AgentSettings> {
    let node_port_addresses = if has_networks(config) {
        NodePortAddresses::Networks {
            networks: config.node_port_addresses.clone(),
            local: local_addresses()?,
        }
    } else {
        NodePortAddresses::Primary
    };
    Ok(AgentSettings {
        detector: config.detector.clone(),
        node_port_addresses,
        masquerade_all: config.masquerade_all,
    })
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The kernel's event socket, as tokio wants it.
struct Events(nft::Watch);

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[expect(unsafe_code, reason = "tokio cannot check that a descriptor stays the same")]
fn register(events: nft::Watch) -> std::io::Result<AsyncFd<Events>> {
    // SAFETY: the watch owns its socket, which stays open and the same until the watch is dropped;
    // nobody takes the watch out of the returned value.
    unsafe { AsyncFd::register(Events(events)) }.map_err(Into::into)
}

/// Waits for events of the kernel; true when somebody else may have changed our tables.
async fn foreign_change(events: &mut Option<AsyncFd<Events>>) -> anyhow::Result<bool> {
    let Some(events) = events else { return std::future::pending().await };
    let mut ready = events.readable_mut().await?;
    ready.clear_ready();
    Ok(ready.get_inner_mut().0.drain()?)
}
