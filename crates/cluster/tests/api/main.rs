//! The client against servers that tests have in hand.

mod sink;
mod support;
mod watch;
