//! The last events of one resource, for watches.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use super::{Record, Spec};

/// A version that is too old to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Expired {
    /// The version asked for.
    pub(crate) asked: u64,
    /// The oldest that can be answered.
    pub(crate) oldest: u64,
}

/// One change of one object.
#[derive(Debug)]
pub(crate) struct Event {
    /// Path of the object.
    pub(crate) path: Arc<str>,
    /// The object as it is now, or its last state when deleted.
    pub(crate) object: Arc<Record>,
    /// The object as it was before; `None` when it is new.
    pub(crate) old: Option<Arc<Record>>,
    /// Whether it is gone.
    pub(crate) deleted: bool,
    /// The old object with this event's version, once somebody has asked.
    deselected: OnceLock<Arc<Record>>,
}

impl Event {
    /// A change.
    pub(crate) fn new(
        path: Arc<str>,
        object: Arc<Record>,
        old: Option<Arc<Record>>,
        deleted: bool,
    ) -> Self {
        Self { path, object, old, deleted, deselected: OnceLock::new() }
    }

    /// What a watch that no longer selects the object gets to see: its state before the change,
    /// with the version of the change. It is made once for all watches.
    pub(crate) fn deselected(&self, spec: &Spec) -> Option<Arc<Record>> {
        let old = self.old.as_ref()?;
        let make = || Arc::new(old.with_version(spec, self.object.version));
        Some(self.deselected.get_or_init(make).clone())
    }
}

/// A bounded queue of events.
pub(super) struct History {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// Every event after this version is here.
    complete_after: u64,
}

/// Bounds of one resource's history: whichever is reached first.
const MOST_EVENTS: usize = 8192;
const MOST_BYTES: usize = 8 << 20;

impl History {
    pub(super) fn new(complete_after: u64) -> Self {
        Self { events: VecDeque::new(), bytes: 0, complete_after }
    }

    pub(super) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.object.json.len();
        self.events.push_back(event);
        while self.events.len() > MOST_EVENTS || self.bytes > MOST_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.object.json.len();
            self.complete_after = oldest.object.version;
        }
    }

    /// The events after a version, oldest first.
    pub(super) fn after(
        &self,
        version: u64,
    ) -> Result<impl DoubleEndedIterator<Item = &Arc<Event>>, Expired> {
        if version < self.complete_after {
            return Err(Expired { asked: version, oldest: self.complete_after });
        }
        let from = self.events.partition_point(|event| event.object.version <= version);
        Ok(self.events.range(from..))
    }
}
