//! The pool of node ports and the Services that have them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::alloc::{TypeLabel, held_ports};
use crate::meta;
use crate::poststart::pass::{self, Look, Pass};
use crate::registry::Registry;
use crate::registry::own::Kind;

const SERVICES: Kind = ("", "services");
const COMPONENT: &str = "portallocator-repair-controller";
const INTERVAL: Duration = Duration::from_secs(180);
/// A port that no Service has is freed after this many passes: a write may be under way.
const PASSES_UNTIL_FREED: u32 = 3;

/// The loop, and how often each port was seen unused.
#[derive(Default)]
pub(super) struct Repair {
    unused: BTreeMap<u16, u32>,
}

impl Pass for Repair {
    /// By the clock only: writes keep the pool right by themselves.
    const KINDS: &'static [Kind] = &[("networking.k8s.io", "servicecidrs")];

    async fn run(&mut self, registry: &Registry, look: Look) -> Duration {
        if matches!(look, Look::Changed(_)) {
            return INTERVAL;
        }
        let taken = registry.allocator.taken_ports();
        let (first, last) = registry.config().env.node_ports;
        let mut used: BTreeSet<u16> = BTreeSet::new();
        let mut missing = Vec::new();
        for (position, service) in registry.all(SERVICES).into_iter().enumerate() {
            pass::pause(position).await;
            let service = service.value();
            for port in held_ports(&service) {
                let (reason, message) = if !used.insert(port) {
                    let text = format!(
                        "Port {port} was assigned to multiple services; please recreate service"
                    );
                    ("PortAlreadyAllocated", text)
                } else if !(first..=last).contains(&port) {
                    let text = format!(
                        "Port {port} is not within the port range {first}-{last}; please recreate service"
                    );
                    ("PortOutOfRange", text)
                } else if !taken.contains(&port) && is_current(registry, &service) {
                    missing.push(port);
                    ("PortNotAllocated", format!("Port {port} is not allocated; repairing"))
                } else {
                    continue;
                };
                let label = TypeLabel {
                    r#type: match reason {
                        "PortAlreadyAllocated" => "duplicate",
                        "PortOutOfRange" => "outOfRange",
                        _ => "repair",
                    },
                };
                registry.allocator.metrics().repaired_ports.get_or_create(&label).inc();
                registry.tell(&service, COMPONENT, reason, &message).await;
            }
        }
        let leaked = self.count_unused(&taken, &used);
        registry.allocator.correct_ports(&missing, &leaked);
        INTERVAL
    }
}

impl Repair {
    /// Counts the pass for every unused port; those that are to be freed now (A16).
    fn count_unused(&mut self, taken: &BTreeSet<u16>, used: &BTreeSet<u16>) -> Vec<u16> {
        let mut unused = BTreeMap::new();
        let mut leaked = Vec::new();
        for port in taken.difference(used) {
            let seen = self.unused.get(port).copied().unwrap_or(0) + 1;
            if seen >= PASSES_UNTIL_FREED {
                leaked.push(*port);
            } else {
                unused.insert(*port, seen);
            }
        }
        self.unused = unused;
        leaked
    }
}

/// Whether the Service is still stored as it was read.
fn is_current(registry: &Registry, service: &serde_json::Value) -> bool {
    let (namespace, name) = (meta::text(service, "namespace"), meta::text(service, "name"));
    let own = registry.own(SERVICES, namespace, name);
    own.and_then(|own| own.get()).is_some_and(|now| now == *service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaked_port_is_freed_in_the_third_pass() {
        // A16.
        let mut repair = Repair::default();
        let taken = BTreeSet::from([30000, 30001]);
        let used = BTreeSet::from([30001]);
        assert!(repair.count_unused(&taken, &used).is_empty());
        assert!(repair.count_unused(&taken, &used).is_empty());
        assert_eq!(repair.count_unused(&taken, &used), [30000]);
        assert!(repair.count_unused(&taken, &used).is_empty());
    }

    #[test]
    fn a_port_used_in_between_is_counted_anew() {
        let mut repair = Repair::default();
        let taken = BTreeSet::from([30000]);
        repair.count_unused(&taken, &BTreeSet::new());
        repair.count_unused(&taken, &BTreeSet::new());
        repair.count_unused(&taken, &taken);
        assert!(repair.count_unused(&taken, &BTreeSet::new()).is_empty());
    }
}
