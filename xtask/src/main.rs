//! The repository's own rules, checked by machine.
fn main() {}
