//! What a controller decided.

use model::{Report, Timestamp, Write};

/// What to write now, when to look again without a change, and why.
///
/// Writes are in the order in which they must be carried out. No writes means that the object is as
/// it should be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reconciled {
    /// What to write.
    pub writes: Vec<Write>,
    /// When time alone may change the answer; `None`: only a change of the cluster can.
    pub again: Option<Timestamp>,
    /// Why, also for doing nothing.
    pub report: Report,
}

impl Reconciled {
    /// Looks again at this time, unless an earlier one is already set.
    pub(crate) fn look_again(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }
}
