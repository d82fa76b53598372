//! Reference interpreter: what should happen to a packet, and why.
