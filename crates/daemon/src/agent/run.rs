//! The loop: collect, plan once, sync once, look again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use cluster::{Batch, Client, Sink, Source, SourceOptions};
use model::{Event, Write};
use nft::{Damage, Dataplane, Retired};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::addresses::AddressChanges;
use super::announce::Announce;
use super::descriptor::register;
use super::firewall::HostFirewall;
use super::health::Health;
use super::health_check_ports::HealthCheckPorts;
use super::loopback::LoopbackPorts;
use super::metrics::{Metrics, Sync};
use super::node::{KINDS, Node, Planned};
use super::notify::Notify;
use super::pages::Question;
use super::report::{AgentReport, Filter, NodeReport, RepairReport, report};
use super::settings::Basis;
use super::succession::Succession;
use super::{AgentConfig, capabilities, memory};
use crate::clock::wall;

/// First delay after the kernel refused a sync; doubles up to the sync period (D44).
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The agent with its connections.
pub(crate) struct Loop {
    config: AgentConfig,
    source: Source,
    sink: Sink,
    node: Node,
    dataplane: Dataplane,
    foreign: Option<AsyncFd<nft::Watch>>,
    ports: HealthCheckPorts,
    /// Node ports on ::1, if they are wanted.
    loopback: Option<LoopbackPorts>,
    announce: Announce,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    questions: mpsc::Receiver<Question>,
    notify: Notify,
    succession: Succession,
    firewall: HostFirewall,
    /// What may keep Services from working here, for people.
    warnings: Vec<String>,
    /// Why the kernel does not follow the plan.
    error: Option<String>,
    /// How often the kernel's tables were found changed, and the last time.
    repairs: u64,
    last_repair: Option<RepairReport>,
    /// Whether the kernel has followed a plan of this process.
    synced: bool,
    /// When to try again what the kernel refused.
    retry: Option<tokio::time::Instant>,
    delay: Duration,
    /// Changes of the machine's addresses, if node ports answer on them.
    addresses: Option<AddressChanges>,
    /// When to tell the watchdog that the loop goes round.
    watchdog: Option<tokio::time::Instant>,
}

impl Loop {
    pub(crate) fn start(
        config: AgentConfig,
        client: &Client,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
        questions: mpsc::Receiver<Question>,
        notify: Notify,
    ) -> anyhow::Result<Self> {
        // Before the addresses are read, so that none is missed.
        let addresses = has_networks(&config).then(AddressChanges::open).transpose()?;
        let dataplane = Dataplane::open(config.dataplane())?;
        let firewall = HostFirewall::start(config.pass_chains.clone(), &dataplane)?;
        let foreign = match dataplane.events() {
            Ok(events) => Some(register(events)?),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "foreign changes of our tables will not be noticed");
                None
            }
        };
        Ok(Self {
            source: cluster::source(client, &KINDS, SourceOptions::Node),
            sink: Sink::new(client.clone()),
            node: Node::new(config.node.clone(), Basis::read(&config)?),
            dataplane,
            foreign,
            ports: HealthCheckPorts::new(Arc::clone(&health)),
            loopback: config.node_ports.loopback.then(LoopbackPorts::new),
            announce: Announce::start(config.node.clone(), config.announce_interface.clone())?,
            health,
            metrics,
            questions,
            warnings: Vec::new(),
            error: None,
            repairs: 0,
            last_repair: None,
            synced: false,
            retry: None,
            delay: FIRST_DELAY,
            addresses,
            watchdog: notify.interval().map(|interval| tokio::time::Instant::now() + interval),
            notify,
            succession: Succession::start(config.leftovers),
            firewall,
            config,
        })
    }

    /// Tells with everything else what may keep Services from working here.
    pub(crate) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    /// Works until it is dropped, or until the event socket of the kernel breaks.
    pub(crate) async fn work(&mut self) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                // What the kernel lost counts more than what is new.
                biased;
                damage = foreign_change(&mut self.foreign) => self.repair(&damage?),
                Some(batch) = self.source.next() => self.take(batch),
                () = self.announce.changed() => self.announce(),
                () = sleep_until(self.retry) => self.sync(),
                changed = address_change(&mut self.addresses) => {
                    changed?;
                    self.read_addresses();
                }
                Some(question) = self.questions.recv() => self.answer(question),
                () = sleep_until(self.watchdog) => self.tell_watchdog(),
            }
        }
    }

    /// Tells the other nodes that this one goes. The kernel's tables stay (D48).
    pub(crate) async fn stop(self) {
        self.notify.stopping();
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
        let counted = self.node.take(batch);
        self.metrics.queued(counted.services, counted.slices, wall().0 / 1_000_000);
        self.health.see_node(self.node.cluster(), self.node.name());
        self.sync();
    }

    /// Plans and makes the kernel follow. A refusal leaves the kernel as it was and is tried again.
    fn sync(&mut self) {
        let started = Instant::now();
        let Some(planned) = self.node.plan() else {
            self.notify.trouble(&format!("waits for {}", self.node.missing().join(" and ")));
            return;
        };
        let Some(view) = self.node.view() else { return };
        match self.dataplane.sync_services(view, self.node.changed()) {
            Ok(synced) => {
                self.retry = None;
                self.delay = FIRST_DELAY;
                self.health.synced();
                self.measure(&planned, started);
                self.metrics.did(synced, view.services.len(), self.node.no_local());
                self.metrics.cleaned(&self.dataplane.netfilter_mut().take_cleanups());
                self.error = None;
                self.succession.synced();
                if synced.disturbed {
                    self.firewall.look();
                }
                self.notify.status(&format!("{} Services programmed", view.services.len()));
                tracing::debug!(?synced, full = planned.full, "synced");
                let events = self.ports.update(view);
                if let Some(loopback) = &mut self.loopback {
                    loopback.update(view);
                }
                if !std::mem::replace(&mut self.synced, true) {
                    self.open_loopback();
                    for warning in self.not_forwarding() {
                        tracing::warn!("{warning}");
                    }
                }
                self.node.followed();
                self.tell_repairs();
                if planned.full || planned.listed {
                    memory::give_back();
                }
                self.announce();
                self.write_events(events);
            }
            Err(error) => {
                self.metrics.failed();
                self.fail(&error, "could not program the kernel");
            }
        }
    }

    /// D31: once our rules throw away what others send to loopback addresses.
    fn open_loopback(&mut self) {
        if self.config.node_ports.loopback
            && let Err(error) = nft::sysctl::route_localnet()
        {
            let warning =
                format!("node ports do not answer on 127.0.0.1: {error}: {}", error.source);
            tracing::warn!("{warning}");
            self.warnings.push(warning);
        }
    }

    fn not_forwarding(&self) -> Vec<String> {
        let node = self.node.cluster().nodes.get(self.node.name());
        node.map(|node| capabilities::not_forwarding(node)).unwrap_or_default()
    }

    /// Answers for the addresses that are this node's, once the kernel knows what to do with their
    /// traffic.
    fn announce(&mut self) {
        if self.synced {
            self.announce.update(self.node.cluster());
        }
    }

    /// Puts right what somebody else has changed.
    fn repair(&mut self, damage: &Damage) {
        if damage.is_none() {
            return;
        }
        match self.dataplane.repair(damage) {
            Ok(synced) => {
                self.metrics.sent(synced);
                self.metrics.cleaned(&self.dataplane.netfilter_mut().take_cleanups());
                if synced.disturbed {
                    self.firewall.look();
                }
            }
            Err(error) => self.fail(&error, "could not repair the kernel's tables"),
        }
        self.tell_repairs();
    }

    /// Tells what was not as it had been left.
    fn tell_repairs(&mut self) {
        let Some(mended) = self.dataplane.take_mended() else { return };
        let repair = RepairReport::of(&mended, jiff::Timestamp::now());
        tracing::warn!(what = repair.what, by = repair.by.join(", "), "repaired our tables");
        self.metrics.repaired(&mended);
        self.repairs += 1;
        self.last_repair = Some(repair);
    }

    /// Tells of a refusal and when it is tried again.
    fn fail(&mut self, error: &nft::Error, what: &str) {
        let causes =
            std::iter::successors(std::error::Error::source(error), |error| error.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        tracing::error!(error = text, retry_in = ?self.delay, "{what}");
        self.notify.trouble(&format!("{what}: {text}"));
        self.error = Some(text);
        self.retry = Some(tokio::time::Instant::now() + self.delay);
        self.delay = (self.delay * 2).min(self.config.sync_period);
    }

    fn tell_watchdog(&mut self) {
        self.notify.alive();
        let interval = self.notify.interval();
        self.watchdog = interval.map(|interval| tokio::time::Instant::now() + interval);
    }

    // Whoever asked may have gone.
    fn answer(&mut self, question: Question) {
        match question {
            Question::Services { filter, reply } => drop(reply.send(self.report(&filter))),
            Question::View(reply) => drop(reply.send(self.node.view().cloned())),
            Question::Retire { retired, reply } => drop(reply.send(self.retire(&retired))),
        }
    }

    fn retire(&mut self, retired: &Retired) -> bool {
        let done = self.dataplane.retire(retired);
        if let Err(error) = &done {
            let error = error as &dyn std::error::Error;
            tracing::debug!(error, "counters that nobody needs stay for now");
        }
        done.is_ok()
    }

    fn report(&self, filter: &Filter) -> AgentReport {
        let waiting_for = self.node.missing();
        let node = NodeReport {
            name: self.node.name().to_string(),
            programmed: self.synced && self.error.is_none() && waiting_for.is_empty(),
            last_sync: self.health.updated().map(|time| time.to_string()),
            waiting_for,
            error: self.error.clone(),
            repairs: self.repairs,
            last_repair: self.last_repair.clone(),
            warnings: self.warnings(),
            ..NodeReport::default()
        };
        report(node, self.node.view(), self.node.cluster(), filter)
    }

    fn warnings(&self) -> Vec<String> {
        [
            self.source.troubles(),
            self.warnings.clone(),
            self.not_forwarding(),
            self.succession.left(),
            self.firewall.problems(),
        ]
        .concat()
    }

    fn measure(&self, planned: &Planned, started: Instant) {
        let now = wall();
        let seconds = now.0 / 1_000_000;
        let kind = if planned.full { Sync::Full } else { Sync::Partial };
        self.metrics.synced(kind, started.elapsed(), seconds);
        if let Some(received) = planned.received {
            self.metrics.reached_kernel(received.elapsed());
        }
        for trigger in &planned.triggers {
            let micros = u64::try_from(now.0 - trigger.0).unwrap_or_default();
            self.metrics.programmed(Duration::from_micros(micros));
        }
    }

    fn write_events(&self, events: Vec<Event>) {
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
        match Basis::read(&self.config) {
            Ok(basis) => {
                self.node.configure(basis);
                self.sync();
            }
            Err(error) => tracing::warn!(%error, "could not read the machine's addresses"),
        }
    }
}

fn has_networks(config: &AgentConfig) -> bool {
    !config.node_ports.networks.is_empty()
}

async fn address_change(changes: &mut Option<AddressChanges>) -> anyhow::Result<()> {
    let Some(changes) = changes else { return std::future::pending().await };
    changes.changed().await.context("cannot follow the addresses of this machine")
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for events of the kernel: what of our tables somebody else may have changed.
async fn foreign_change(events: &mut Option<AsyncFd<nft::Watch>>) -> anyhow::Result<Damage> {
    let Some(events) = events else { return std::future::pending().await };
    let mut ready = events.readable_mut().await?;
    ready.clear_ready();
    Ok(ready.get_inner_mut().drain()?)
}
