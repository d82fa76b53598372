//! Loops that keep something right: one look at everything, then a look at every change.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::select_all;
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use crate::registry::Registry;
use crate::registry::own::Kind;
use crate::store::Event;

/// What a pass looks at.
pub(crate) enum Look {
    /// Everything: at the start, when the pass asked for it, and after a gap in the history.
    All,
    /// What has changed since the last look.
    Changed(Vec<(Kind, Arc<Event>)>),
}

/// Something to be looked after: what it is about, and one look at it.
pub(crate) trait Pass: Send + 'static {
    /// A change of any of these kinds starts another pass.
    const KINDS: &'static [Kind];

    /// Looks, corrects what is wrong, and says when to look at everything again even if nothing
    /// changes.
    fn run(&mut self, registry: &Registry, look: Look) -> impl Future<Output = Duration> + Send;
}

/// Runs a pass now, after changes, and whenever it asks for it. Ends when the registry is dropped.
pub(crate) fn spawn<P: Pass>(registry: &Arc<Registry>, mut pass: P) {
    let mut changes = Changes::new(registry, P::KINDS);
    let registry = Arc::downgrade(registry);
    tokio::spawn(async move {
        let mut all_at = Instant::now();
        loop {
            let Some(strong) = Weak::upgrade(&registry) else { return };
            let look = if Instant::now() >= all_at {
                changes.skip(&strong);
                Look::All
            } else {
                changes.take(&strong)
            };
            let is_all = matches!(look, Look::All);
            let next = Instant::now() + pass.run(&strong, look).await;
            all_at = if is_all { next } else { all_at.min(next) };
            drop(strong);
            if !changes.wait(all_at).await {
                return;
            }
        }
    });
}

/// Lets others go first, now and then, in a pass over many objects.
pub(crate) async fn pause(position: usize) {
    if position % OBJECTS_AT_ONCE == OBJECTS_AT_ONCE - 1 {
        tokio::task::yield_now().await;
    }
}

/// Objects that are parsed without a pause: well under a millisecond.
const OBJECTS_AT_ONCE: usize = 32;
/// Events taken from the history at a time.
const EVENTS_AT_ONCE: usize = 1024;

/// The changes of some kinds since the last look.
struct Changes {
    feeds: Vec<Feed>,
}

struct Feed {
    kind: Kind,
    resource: usize,
    changed: Receiver<u64>,
    position: u64,
}

impl Changes {
    fn new(registry: &Registry, kinds: &[Kind]) -> Self {
        let feed = |kind: &Kind| {
            let resource = registry.resources.number(&registry.resources.find(kind.0, kind.1)?);
            let changed = registry.store.subscribe(resource);
            Some(Feed { kind: *kind, resource, changed, position: 0 })
        };
        Self { feeds: kinds.iter().filter_map(feed).collect() }
    }

    /// Everything is about to be looked at: forgets the changes so far.
    fn skip(&mut self, registry: &Registry) {
        let version = registry.store.version();
        for feed in &mut self.feeds {
            feed.changed.mark_unchanged();
            feed.position = version;
        }
    }

    fn take(&mut self, registry: &Registry) -> Look {
        let mut changes = Vec::new();
        for feed in &mut self.feeds {
            feed.changed.mark_unchanged();
            let events = registry.store.events_after(feed.resource, feed.position, EVENTS_AT_ONCE);
            let Ok((events, complete)) = events else {
                self.skip(registry);
                return Look::All;
            };
            if events.len() == EVENTS_AT_ONCE {
                feed.changed.mark_changed();
            }
            feed.position = complete;
            changes.extend(events.into_iter().map(|event| (feed.kind, event)));
        }
        Look::Changed(changes)
    }

    /// Waits for a change or this time. False when the registry is closed.
    async fn wait(&mut self, until: Instant) -> bool {
        let changed =
            select_all(self.feeds.iter_mut().map(|feed| Box::pin(feed.changed.changed())));
        match tokio::time::timeout_at(until, changed).await {
            Ok((changed, _, _)) => changed.is_ok(),
            Err(_elapsed) => true,
        }
    }
}
