//! The loop around the machine: it owns the connection and the clock.

use std::collections::BTreeSet;
use std::sync::Arc;

use cluster::{Batch, Client, MetadataEvent, Sink, Source, SourceOptions};
use model::Write;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::carry_out::Worker;
use super::feed::{Fed, feed};
use super::key::Key;
use super::machine::{Controller, Outcome};
use super::metrics::Metrics;
use crate::clock::Clock;

/// How many keys are worked on at a time.
const WORKERS: usize = 16;

/// The controllers with their connection.
pub(crate) struct Loop {
    controller: Controller,
    clock: Clock,
    source: Source,
    fed: mpsc::Receiver<Fed>,
    _feeders: JoinSet<()>,
    metrics: Arc<Metrics>,
    worker: Worker,
    workers: JoinSet<(Key, Vec<(Write, Outcome)>)>,
}

impl Loop {
    pub(crate) fn start(client: &Client, controller: Controller, metrics: Arc<Metrics>) -> Self {
        let (fed, feeders) = feed(client, controller.selection());
        let kinds = controller.selection().kinds();
        Self {
            controller,
            clock: Clock::start(),
            source: cluster::source(client, &kinds, SourceOptions::Everything),
            fed,
            _feeders: feeders,
            metrics,
            worker: Worker {
                client: client.clone(),
                sink: Sink::new(client.clone()),
                resources: Arc::new(BTreeSet::new()),
            },
            workers: JoinSet::new(),
        }
    }

    /// Works until it is dropped. Writes under way are then cut off, which is harmless: the next
    /// controller plans from what the API server has.
    pub(crate) async fn work(&mut self) {
        loop {
            while self.workers.len() < WORKERS
                && let Some(work) = self.controller.next(self.clock.now())
            {
                tracing::debug!(key = ?work.key, writes = work.writes.len(), "writing");
                self.workers.spawn(self.worker.clone().carry_out(work));
            }
            self.metrics.waiting(self.controller.waiting());
            self.wait().await;
        }
    }

    /// Waits for the next thing to happen and takes it in.
    async fn wait(&mut self) {
        let due = self.controller.next_due();
        let timer = async {
            match due {
                Some(due) => tokio::time::sleep_until(self.clock.instant(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(batch) = self.source.next() => self.take(batch),
            Some(fed) = self.fed.recv() => self.feed(fed),
            Some(done) = self.workers.join_next() => match done {
                Ok((key, outcomes)) => self.done(key, outcomes),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = timer => {}
        }
    }

    fn done(&mut self, key: Key, outcomes: Vec<(Write, Outcome)>) {
        let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_failed()).count();
        let written = outcomes.len() - failed;
        self.metrics.wrote(key.controller().as_str(), written as u64, failed as u64);
        if matches!(key, Key::Slices(_)) {
            let writes = outcomes.iter().map(|(write, outcome)| (write, !outcome.is_failed()));
            self.metrics.slices.synced(writes);
        }
        self.controller.done(key, outcomes, self.clock.now());
    }

    fn take(&mut self, batch: Batch) {
        for change in batch.changes {
            self.metrics.slices.observe(&change);
            self.controller.change(change);
        }
        for rejected in batch.rejected {
            tracing::warn!(
                kind = ?rejected.kind,
                namespace = %rejected.namespace,
                name = %rejected.name,
                reason = rejected.reason,
                "left an object alone that makes no sense"
            );
            if let Some(meta) = rejected.meta {
                let resource = cluster::resource_of(rejected.kind);
                self.controller.metadata(&resource, MetadataEvent::Apply(meta));
            }
        }
    }

    fn feed(&mut self, first: Fed) {
        let mut next = Some(first);
        while let Some(fed) = next {
            let now = self.clock.now();
            match fed {
                Fed::Resources(resources) => {
                    if *self.worker.resources != resources {
                        self.worker.resources = Arc::new(resources.clone());
                        self.controller.resources(resources);
                    }
                }
                Fed::Metadata(resource, event) => self.controller.metadata(&resource, event),
                Fed::Renewed(node) => self.controller.renewed(node, now),
                Fed::Leases(nodes) => self.controller.leases(&nodes),
            }
            next = self.fed.try_recv().ok();
        }
    }
}
