//! What tests of rules share, and properties of all of them.

use crate::kinds::Env;

/// A dual-stack cluster with IPv4 first.
pub(crate) fn env() -> Env {
    Env {
        service_cidrs: ["10.96.0.0/16", "fd00:10:96::/112"]
            .map(|cidr| cidr.parse().expect("a literal CIDR"))
            .to_vec(),
        node_ports: (30_000, 32_767),
        advertise: ("172.30.0.1".parse().expect("a literal address"), 6443),
    }
}
