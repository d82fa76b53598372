//! Compiled-in schema of the served kinds.
