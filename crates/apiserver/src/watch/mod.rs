//! Watches: what has happened to the objects that somebody selects.
//!
//! What it is: a stream of events read from the store's history, one position per watch. There
//! is no buffer per watch: one that is slower than the history is long is told so and ends.
//!
//! What it is not: it encodes nothing; the JSON text of an object is made once, by the writer,
//! and shared by all watches.
//!
//! ```text
//!  store history ─▶ translate by Selection (ADDED, MODIFIED, DELETED) ─▶ stream of WatchEvent
//! ```

mod label;
mod selection;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use wire::kinds::Kind;
use wire::status;

use crate::api::{Stored, WatchEvent};
use crate::resources::show;
use crate::store::{Event, Listing, Record, Spec, Store};

pub(crate) use selection::Selection;

/// A watch to be started.
pub(crate) struct Watch {
    /// Where to read.
    pub(crate) store: Arc<Store>,
    /// How objects are shown.
    pub(crate) kind: Kind,
    /// The resource.
    pub(crate) resource: usize,
    /// How its objects are encoded.
    pub(crate) spec: Arc<Spec>,
    /// Which objects.
    pub(crate) selection: Selection,
    /// Where it begins.
    pub(crate) start: Start,
    /// Whether bookmarks are wanted.
    pub(crate) bookmarks: bool,
    /// When it ends.
    pub(crate) timeout: Duration,
}

/// Where a watch begins.
pub(crate) enum Start {
    /// With the objects that exist.
    Objects {
        /// Whether a bookmark tells that these were all.
        marked: bool,
    },
    /// After a version.
    After(u64),
    /// With the next event.
    Now,
}

/// Time without a bookmark.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Events taken from the history at a time, so that no lock is held long.
const EVENTS_AT_ONCE: usize = 512;

impl Watch {
    /// The stream. It ends at its timeout, or after an error.
    pub(crate) fn stream(self) -> BoxStream<'static, WatchEvent> {
        // Subscribed before the history is read: no event can fall between.
        let changed = self.store.subscribe(self.resource);
        let mut ready = VecDeque::new();
        let position = match self.start {
            Start::Objects { marked } => self.initial(marked, &mut ready),
            Start::After(version) => version,
            Start::Now => self.store.version(),
        };
        let now = Instant::now();
        let running = Running {
            deadline: now + self.timeout,
            next_bookmark: now + BOOKMARK_INTERVAL,
            watch: self,
            changed,
            position,
            ready,
            ended: false,
        };
        futures::stream::unfold(running, |mut running| async move {
            running.next().await.map(|event| (event, running))
        })
        .boxed()
    }

    fn initial(&self, marked: bool, ready: &mut VecDeque<WatchEvent>) -> u64 {
        let Listing { objects, version } = self.store.list(self.resource, &self.selection.prefix());
        ready.extend(
            objects
                .iter()
                .filter(|(path, record)| self.selection.matches(path, record))
                .map(|(_, record)| WatchEvent::Added(self.show(record))),
        );
        if marked {
            ready.push_back(bookmark(version, true));
        }
        version
    }

    fn show(&self, record: &Record) -> Stored {
        show(&self.kind, record)
    }

    fn translate(&self, event: &Event) -> Option<WatchEvent> {
        let is = |record: &Arc<Record>| self.selection.matches(&event.path, record);
        let was_selected = event.old.as_ref().is_some_and(is);
        let is_selected = !event.deleted && is(&event.object);
        match (was_selected, is_selected) {
            (false, true) => Some(WatchEvent::Added(self.show(&event.object))),
            (true, true) => Some(WatchEvent::Modified(self.show(&event.object))),
            (true, false) if event.deleted => Some(WatchEvent::Deleted(self.show(&event.object))),
            (true, false) => {
                event.deselected(&self.spec).map(|record| WatchEvent::Deleted(self.show(&record)))
            }
            (false, false) => None,
        }
    }
}

/// A watch that has started.
struct Running {
    watch: Watch,
    changed: Receiver<u64>,
    /// Everything up to here has been read from the history.
    position: u64,
    ready: VecDeque<WatchEvent>,
    deadline: Instant,
    next_bookmark: Instant,
    ended: bool,
}

impl Running {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            self.changed.mark_unchanged();
            self.read();
            if self.ready.is_empty() && !self.ended {
                self.wait().await;
            }
        }
    }

    /// Reads on in the history.
    fn read(&mut self) {
        let Watch { store, resource, .. } = &self.watch;
        match store.events_after(*resource, self.position, EVENTS_AT_ONCE) {
            Ok((events, complete)) => {
                self.position = complete;
                let events = events.iter().filter_map(|event| self.watch.translate(event));
                self.ready.extend(events);
                if complete < store.version() {
                    self.changed.mark_changed();
                }
            }
            Err(expired) => {
                let failure = status::too_old(expired.asked, expired.oldest);
                self.ready.push_back(WatchEvent::Error(failure));
                self.ended = true;
            }
        }
    }

    /// Until something has changed, or time has come for a bookmark or the end.
    async fn wait(&mut self) {
        let wake = self.deadline.min(self.next_bookmark);
        tokio::select! {
            changed = self.changed.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep_until(wake) => {
                self.ended = wake == self.deadline;
                self.next_bookmark = wake + BOOKMARK_INTERVAL;
                // A watch from the future has seen nothing that a bookmark could vouch for.
                if self.watch.bookmarks && self.position <= self.watch.store.version() {
                    self.ready.push_back(bookmark(self.position, false));
                }
            }
        }
    }
}

fn bookmark(resource_version: u64, initial_events_end: bool) -> WatchEvent {
    WatchEvent::Bookmark { resource_version, initial_events_end }
}

#[cfg(test)]
mod tests;
