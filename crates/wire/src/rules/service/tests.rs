//! Rows of semantics 1.11.
