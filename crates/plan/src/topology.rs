//! Hints for `service.kubernetes.io/topology-mode: Auto` (KEP-2433).
//!
//! Zones get endpoints in proportion to the CPU of their nodes. Every endpoint serves its own zone at
//! first; zones that would be overloaded by more than 20 % take endpoints over from those that have
//! most to spare. Where that cannot work nobody gets a hint, and an event tells why.

use std::collections::BTreeMap;

use model::{
    Cluster, Endpoint, EndpointSlice, Family, Hints, Labels, Name, Node, NodeCondition, Service,
    Write,
};

use crate::events::Reporter;

const REPORTER: Reporter =
    Reporter { api_version: "v1", kind: "Service", component: "endpoint-slice-controller" };
const MODE: &str = "service.kubernetes.io/topology-mode";
/// The name it had before; wins where both are given.
const OLD_MODE: &str = "service.kubernetes.io/topology-aware-hints";
const CONTROL_PLANE: [&str; 2] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// Whether the annotations ask for automatic hints.
pub(crate) fn is_auto(annotations: &Labels) -> bool {
    let mode = annotations.get(OLD_MODE).or_else(|| annotations.get(MODE));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Gives every ready endpoint of a family the zone that it is to serve.
///
/// # Errors
///
/// In the controller's words, when the endpoints cannot be shared out; hints are left as they are.
/// C15.
pub(crate) fn share_out(cluster: &Cluster, endpoints: &mut [&mut Endpoint]) -> Result<(), String> {
    let cpu = cpu_by_zone(cluster)?;
    let ready = || endpoints.iter().enumerate().filter(|(_, one)| one.conditions.ready);
    let count = ready().count();
    if count < cpu.len() {
        return Err(format!("Insufficient number of endpoints ({count})"));
    }
    let mut serving: BTreeMap<&Name, Vec<usize>> =
        cpu.keys().map(|zone| (zone, Vec::new())).collect();
    for (index, endpoint) in ready() {
        let Some(zone) = &endpoint.zone else {
            return Err("One or more endpoints do not have a zone specified".to_owned());
        };
        let (zone, _) = cpu
            .get_key_value(zone)
            .ok_or_else(|| format!("No ready node of zone {zone} can take traffic"))?;
        serving.entry(zone).or_default().push(index);
    }
    balance(&cpu, count as u64, &mut serving)?;
    let zones: Vec<(usize, Name)> = serving
        .into_iter()
        .flat_map(|(zone, indices)| indices.into_iter().map(|index| (index, zone.clone())))
        .collect();
    for (index, zone) in zones {
        endpoints[index].hints = Hints { zones: [zone].into(), ..Hints::default() };
    }
    Ok(())
}

/// CPU of the nodes that take traffic, in thousandths of a core by zone.
fn cpu_by_zone(cluster: &Cluster) -> Result<BTreeMap<Name, u64>, String> {
    let takes_traffic = |node: &&Node| {
        node.ready == NodeCondition::Ready
            && !CONTROL_PLANE.iter().any(|label| node.meta.labels.contains_key(*label))
    };
    let mut cpu = BTreeMap::new();
    for node in cluster.nodes.values().map(|node| &**node).filter(takes_traffic) {
        let (Some(zone), Some(millis @ 1..)) = (node.zone(), node.allocatable_cpu_millis()) else {
            return Err("Insufficient Node information: allocatable CPU or zone not specified on \
                        one or more nodes"
                .to_owned());
        };
        *cpu.entry(zone).or_insert(0) += millis;
    }
    if cpu.len() < 2 {
        return Err("Nodes only ready in one zone".to_owned());
    }
    Ok(cpu)
}

/// Moves endpoints until every zone has its minimum: the share of its CPU, less the 20 % by which
/// its endpoints may be overloaded.
fn balance<'a>(
    cpu: &'a BTreeMap<Name, u64>,
    count: u64,
    serving: &mut BTreeMap<&'a Name, Vec<usize>>,
) -> Result<(), String> {
    let total: u64 = cpu.values().sum();
    let minimum = |zone: &Name| {
        let share = cpu.get(zone).copied().unwrap_or(0).saturating_mul(count).saturating_mul(5);
        share.div_ceil(total.saturating_mul(6))
    };
    if cpu.keys().map(minimum).sum::<u64>() > count {
        return Err(
            "Unable to allocate minimum required endpoints to each zone without exceeding \
                    overload threshold"
                .to_owned(),
        );
    }
    let has = |endpoints: &[usize]| endpoints.len() as u64;
    // Ends: every move fills a gap, and the minima together are no more than there is.
    while let Some(poor) = cpu
        .keys()
        .find(|zone| serving.get(zone).is_none_or(|endpoints| has(endpoints) < minimum(zone)))
    {
        let spare = |zone: &Name, endpoints: &[usize]| has(endpoints).saturating_sub(minimum(zone));
        let rich = serving
            .iter()
            .filter(|(zone, endpoints)| spare(zone, endpoints) > 0)
            .max_by_key(|(zone, endpoints)| (spare(zone, endpoints), std::cmp::Reverse(**zone)))
            .map(|(zone, _)| *zone);
        let moved = rich.and_then(|rich| serving.get_mut(rich)?.pop());
        let Some(moved) = moved else { break };
        serving.entry(poor).or_default().push(moved);
    }
    Ok(())
}

/// Says when hints come or go; nothing while they stay as they are.
pub(crate) fn event(
    service: &Service,
    family: Family,
    existing: &[&EndpointSlice],
    outcome: &Result<(), String>,
) -> Option<Write> {
    let had_hints = existing
        .iter()
        .flat_map(|slice| &slice.endpoints)
        .any(|endpoint| !endpoint.hints.zones.is_empty());
    let about = &service.meta;
    match outcome {
        Ok(()) if !had_hints => {
            let text = format!("Topology Aware Hints has been enabled, addressType: {family}");
            Some(REPORTER.normal(about, "TopologyAwareHintsEnabled", text))
        }
        Err(text) if had_hints => {
            let text = format!("{text}, addressType: {family}");
            Some(REPORTER.warning(about, "TopologyAwareHintsDisabled", text))
        }
        Ok(()) | Err(_) => None,
    }
}
