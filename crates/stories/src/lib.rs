//! One story, three depths.
//!
//! What it is: the home of the tests that run every file of `stories/` against the model,
//! against nft's tables in a fake kernel, and against the real kernel with real packets.
//!
//! What it is not: a library; everything stands in `tests/`.
