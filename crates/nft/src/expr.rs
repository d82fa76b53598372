//! The expressions that rules are made of.
