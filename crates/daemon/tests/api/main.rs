//! The loops against the embedded API server.

mod agent;
mod agent_changes;
mod agent_loopback;
mod agent_pages;
mod agent_ports;
mod agent_succession;
mod controller;
mod dns;
mod lease;
mod node;
mod other_cluster;
mod support;
