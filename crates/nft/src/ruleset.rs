//! Tables as plain data, and the operations that change them.

/// Everything that our tables hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ruleset {}

/// One step of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {}
