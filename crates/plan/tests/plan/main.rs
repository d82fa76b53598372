//! Tests of planning, through its public interface only. Names cite the rules of Service semantics.

#![expect(clippy::unwrap_used, reason = "a value that is missing fails the test")]

extern crate portolan_plan as plan;

mod adverts;
mod controllers;
mod endpoints;
mod fixtures;
mod load_balancer;
mod node_cidrs;
mod node_view;
mod rollout;
mod schedule;
mod server;
mod service;
mod slices;
mod touched;
