//! What the kernel holds.

use crate::Test;

pub const TESTS: &[Test] = &[];
