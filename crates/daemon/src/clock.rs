//! The only place of the two loops that reads a clock.

use std::time::{Duration, Instant, SystemTime};

use model::Timestamp;

/// Two clocks: one that people set, for objects; one that only advances, for waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Now {
    /// Wall-clock time.
    pub(crate) wall: Timestamp,
    /// Time since [`Clock::start`].
    pub(crate) steady: Duration,
}

/// Reads both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        Now { wall: wall(), steady: self.started.elapsed() }
    }

    /// The moment at which the steady clock shows this.
    pub(crate) fn instant(self, steady: Duration) -> tokio::time::Instant {
        (self.started + steady).into()
    }
}

/// Wall-clock time. A machine that believes to live before 1970 gets 1970.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
