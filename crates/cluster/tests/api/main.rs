//! The client against servers that tests have in hand.

mod sink;
mod source;
mod support;
mod watch;
