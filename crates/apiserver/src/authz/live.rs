//! The rules in force, kept up with the store.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch::Receiver;

use super::attributes::RBAC_GROUP;
use super::rules::{Part, Rules};
use crate::resources::Resources;
use crate::store::Store;

/// Rules that are as new as the store whenever they are asked: a binding that has been written
/// counts in the next request.
pub(super) struct Live {
    store: Arc<Store>,
    state: RwLock<State>,
}

struct State {
    rules: Rules,
    feeds: Vec<Feed>,
}

struct Feed {
    part: Part,
    namespaced: bool,
    resource: usize,
    changed: Receiver<u64>,
    /// Everything up to here is in the rules; `None`: nothing yet.
    position: Option<u64>,
}

impl Feed {
    fn is_behind(&self) -> bool {
        self.position.is_none_or(|position| *self.changed.borrow() > position)
    }
}

impl Live {
    pub(super) fn new(store: Arc<Store>, resources: &Resources) -> Self {
        let feeds = PARTS.iter().filter_map(|(plural, part)| {
            let row = resources.find(RBAC_GROUP, plural)?;
            let resource = resources.number(&row);
            let changed = store.subscribe(resource);
            let (part, namespaced) = (*part, row.namespaced());
            Some(Feed { part, namespaced, resource, changed, position: None })
        });
        let state = State { rules: Rules::default(), feeds: feeds.collect() };
        Self { store, state: RwLock::new(state) }
    }

    /// Asks the rules.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&Rules) -> T) -> T {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        if !state.feeds.iter().any(Feed::is_behind) {
            return ask(&state.rules);
        }
        drop(state);
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let State { rules, feeds } = &mut *state;
        for feed in feeds {
            follow(&self.store, rules, feed);
        }
        ask(rules)
    }
}

/// Takes in what has changed, or everything when the changes are not known any more.
fn follow(store: &Store, rules: &mut Rules, feed: &mut Feed) {
    while feed.is_behind() {
        let events = feed
            .position
            .and_then(|position| store.events_after(feed.resource, position, EVENTS_AT_ONCE).ok());
        let Some((events, complete)) = events else {
            reload(store, rules, feed);
            return;
        };
        for event in events {
            if event.deleted {
                rules.remove(feed.part, &event.path);
            } else {
                rules.put(feed.part, &event.path, &event.object.value());
            }
        }
        feed.position = Some(complete);
    }
}

fn reload(store: &Store, rules: &mut Rules, feed: &mut Feed) {
    let listing = store.list(feed.resource, "");
    rules.clear(feed.part, feed.namespaced);
    for (path, record) in &listing.objects {
        rules.put(feed.part, path, &record.value());
    }
    feed.position = Some(listing.version);
}

const PARTS: [(&str, Part); 4] = [
    ("clusterroles", Part::Role),
    ("roles", Part::Role),
    ("clusterrolebindings", Part::Binding),
    ("rolebindings", Part::Binding),
];
/// Events taken from the history at a time.
const EVENTS_AT_ONCE: usize = 1024;
