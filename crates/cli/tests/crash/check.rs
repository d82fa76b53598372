//! Whether a server that was killed holds what it must.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::client::{Client, SERVICES};
use crate::journal::{Journal, Kind, Lane};
use crate::server::Server;
use crate::writer::version;

/// Compares the server with the journal, and brings the journal up to date: what was cut off has
/// now happened or not. Empty when all is well.
pub(crate) async fn state(server: &Server, journal: &mut Journal) -> Vec<String> {
    let mut client = Client::connect(server).await.unwrap();
    let (services, newest) = list(&mut client, SERVICES).await;
    let (addresses, _) = list(&mut client, "/apis/networking.k8s.io/v1/ipaddresses").await;
    let mut problems = Vec::new();
    versions(journal, newest, &mut problems);
    let mut present: BTreeMap<String, u64> = services
        .iter()
        .map(|service| (name(service).to_owned(), version(service)))
        .filter(|(name, _)| name != "kubernetes")
        .collect();
    for mut lane in std::mem::take(&mut journal.lanes) {
        objects(&mut lane, journal, &mut present, &mut problems);
        journal.lanes.push(lane);
    }
    problems.extend(present.keys().map(|name| format!("{name} is there, and was deleted")));
    problems.extend(allocations(&services, &addresses));
    journal.newest = journal.newest.max(newest);
    problems
}

/// No version goes back or is used twice.
fn versions(journal: &mut Journal, newest: u64, problems: &mut Vec<String>) {
    let old = journal.newest;
    let mut reached = old;
    for lane in &mut journal.lanes {
        let mut last = old;
        for version in lane.acknowledged.drain(..) {
            if version <= last {
                problems.push(format!("version {version} was acknowledged after {last}"));
            }
            if !journal.used.insert(version) {
                problems.push(format!("version {version} was acknowledged twice"));
            }
            last = version;
            reached = reached.max(version);
            journal.acknowledged += 1;
        }
    }
    let mut last = old;
    for (version, name) in &journal.seen {
        if *version <= last {
            problems.push(format!("a watch saw version {version} of {name} after {last}"));
        }
        last = *version;
    }
    reached = reached.max(last);
    if newest < reached {
        problems.push(format!("the newest version is {newest}, and {reached} was told before"));
    }
    journal.newest = reached;
}

/// Every object of a writer is as the last acknowledged write left it, or as the write that was
/// cut off would have.
fn objects(
    lane: &mut Lane,
    journal: &mut Journal,
    present: &mut BTreeMap<String, u64>,
    problems: &mut Vec<String>,
) {
    let open = lane.open.take();
    journal.settled += u64::from(open.is_some());
    let mut names: BTreeSet<String> = lane.services.keys().cloned().collect();
    names.extend(open.iter().map(|open| open.name.clone()));
    for name in names {
        let before = lane.services.get(&name).copied();
        let now = present.remove(&name);
        let kind = open.as_ref().filter(|open| open.name == name).map(|open| open.kind);
        let is_done = match (kind, before, now) {
            (_, before, now) if before == now => false,
            (Some(Kind::Create), None, Some(_)) | (Some(Kind::Delete), Some(_), None) => true,
            (Some(Kind::Change), Some(before), Some(now)) => now > before,
            _ => {
                problems.push(format!("{name}: acknowledged {before:?}, found {now:?}, {kind:?}"));
                continue;
            }
        };
        let shown = journal.seen.iter().rfind(|(_, seen)| *seen == name);
        if let (Some((version, _)), Some(now)) = (shown, now)
            && now < *version
        {
            problems.push(format!("{name}: a watch saw {version}, found {now}"));
        }
        if is_done
            && let Some(now) = now
            && !journal.used.insert(now)
        {
            problems.push(format!("{name}: version {now} was another write's"));
        }
        match now {
            Some(now) => drop(lane.services.insert(name, now)),
            None => drop(lane.services.remove(&name)),
        }
    }
}

/// Addresses and node ports belong to one Service each, and every IPAddress to one that has it.
fn allocations(services: &[Value], addresses: &[Value]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut owners: BTreeMap<&str, String> = BTreeMap::new();
    for address in addresses {
        let parent = &address["spec"]["parentRef"];
        let parent = [&parent["namespace"], &parent["name"]].map(|text| text.as_str().unwrap());
        owners.insert(name(address), parent.join("/"));
    }
    let mut ports: BTreeMap<u64, &str> = BTreeMap::new();
    for service in services {
        let (own, spec) = (name(service), &service["spec"]);
        for address in array(&spec["clusterIPs"]).iter().filter_map(Value::as_str) {
            match owners.remove(address) {
                Some(owner) if owner == format!("default/{own}") => {}
                owner => problems.push(format!("{own} has {address}, which is of {owner:?}")),
            }
        }
        let listed = array(&spec["ports"]).iter().map(|port| &port["nodePort"]);
        let held: BTreeSet<u64> =
            listed.chain([&spec["healthCheckNodePort"]]).filter_map(Value::as_u64).collect();
        for port in held {
            if let Some(other) = ports.insert(port, own) {
                problems.push(format!("{own} and {other} have node port {port}"));
            }
        }
    }
    problems.extend(owners.iter().map(|(address, owner)| format!("{address} is left of {owner}")));
    problems
}

/// Objects and version of a list.
async fn list(client: &mut Client, path: &str) -> (Vec<Value>, u64) {
    let (code, answer) = client.ask("GET", path, &Value::Null).await.unwrap();
    assert_eq!(code, 200, "{answer}");
    (array(&answer["items"]).to_vec(), version(&answer))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
