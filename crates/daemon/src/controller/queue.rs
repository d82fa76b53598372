//! What has to be looked at, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// First delay after a failure; doubles with every further one up to [`LONGEST_DELAY`].
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// Longest delay after a failure.
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// A set of keys to work on, in the order in which they were added.
///
/// A key is handed out to one worker at a time: added again meanwhile, it waits until that worker
/// is done. Failures delay only the key that failed. Times are counted from the start of the
/// process by a clock that nobody sets.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<K>,
    /// Everything in `ready`.
    waiting: BTreeSet<K>,
    /// Handed out; `true` when it was added again meanwhile.
    busy: BTreeMap<K, bool>,
    delayed: BTreeSet<(Duration, K)>,
    /// When each key of `delayed` is due.
    due: BTreeMap<K, Duration>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> Queue<K> {
    pub(crate) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BTreeSet::new(),
            busy: BTreeMap::new(),
            delayed: BTreeSet::new(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Adds a key that is to be worked on as soon as possible.
    pub(crate) fn add(&mut self, key: K) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = true;
        } else if self.waiting.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Adds a key that is to be worked on at that time. The earlier of two times counts.
    pub(crate) fn add_at(&mut self, key: K, at: Duration) {
        match self.due.get(&key) {
            Some(&due) if due <= at => return,
            Some(&due) => drop(self.delayed.remove(&(due, key.clone()))),
            None => {}
        }
        self.due.insert(key.clone(), at);
        self.delayed.insert((at, key));
    }

    /// Adds a key again after a failure, later with every failure in a row.
    pub(crate) fn retry(&mut self, key: K, now: Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        let delay = (FIRST_DELAY * (1 << (*failures).min(20))).min(LONGEST_DELAY);
        *failures += 1;
        self.add_at(key, now + delay);
    }

    /// Forgets the failures of a key.
    pub(crate) fn succeeded(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// The next key whose time has come. The caller gives it back with [`Self::done`].
    pub(crate) fn next(&mut self, now: Duration) -> Option<K> {
        while let Some((at, _)) = self.delayed.first()
            && *at <= now
            && let Some((_, key)) = self.delayed.pop_first()
        {
            self.due.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.busy.insert(key.clone(), false);
        Some(key)
    }

    /// The worker of this key has finished.
    pub(crate) fn done(&mut self, key: K) {
        if self.busy.remove(&key) == Some(true) {
            self.add(key);
        }
    }

    /// When the first delayed key is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.delayed.first().map(|(at, _)| *at)
    }

    /// How many keys wait to be handed out now.
    pub(crate) fn len(&self) -> usize {
        self.ready.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(1);

    #[test]
    fn a_key_that_is_being_worked_on_waits_for_its_worker() {
        let mut queue = Queue::new();
        queue.add("a");
        assert_eq!(queue.next(NOW), Some("a"));
        queue.add("a");
        assert_eq!(queue.next(NOW), None);
        queue.done("a");
        assert_eq!(queue.next(NOW), Some("a"));
        queue.done("a");
        assert_eq!(queue.next(NOW), None);
    }

    #[test]
    fn a_key_added_twice_is_handed_out_once() {
        let mut queue = Queue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.len(), 2);
        assert_eq!(queue.next(NOW), Some("a"));
        assert_eq!(queue.next(NOW), Some("b"));
        assert_eq!(queue.next(NOW), None);
    }

    #[test]
    fn the_earlier_time_counts() {
        let mut queue = Queue::new();
        queue.add_at("a", NOW + 3 * STEP);
        queue.add_at("a", NOW + STEP);
        queue.add_at("a", NOW + 9 * STEP);
        assert_eq!(queue.next_due(), Some(NOW + STEP));
        assert_eq!(queue.next(NOW), None);
        assert_eq!(queue.next(NOW + STEP), Some("a"));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn failures_in_a_row_double_the_delay_up_to_a_bound() {
        let mut queue = Queue::new();
        let mut delays = Vec::new();
        for _ in 0..12 {
            queue.retry("a", NOW);
            let due = queue.next_due().expect("was added");
            delays.push(due - NOW);
            assert_eq!(queue.next(due), Some("a"));
            queue.done("a");
        }
        assert_eq!(delays[..3], [FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY]);
        assert_eq!(delays.last(), Some(&LONGEST_DELAY));
        queue.succeeded(&"a");
        queue.retry("a", NOW);
        assert_eq!(queue.next_due(), Some(NOW + FIRST_DELAY));
    }
}
