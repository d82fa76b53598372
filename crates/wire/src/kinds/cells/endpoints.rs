//! Endpoints and EndpointSlices.

use serde_json::Value;

use super::{NONE, at_most_three, created, name};
use crate::rules::fields::Fields;

pub(in crate::kinds) fn endpoints(endpoints: &Value, now: i64) -> Vec<Value> {
    let mut shown = Vec::new();
    for subset in endpoints.list("/subsets") {
        let addresses = subset.list("/addresses").iter().map(|address| address.text("/ip"));
        let ports = subset.list("/ports");
        if ports.is_empty() {
            shown.extend(addresses.map(str::to_owned));
            continue;
        }
        for port in ports {
            let addresses = subset.list("/addresses").iter().map(|address| address.text("/ip"));
            shown.extend(addresses.map(|address| join(address, port.int("/port"))));
        }
    }
    let text =
        if endpoints.list("/subsets").is_empty() { NONE.to_owned() } else { at_most_three(&shown) };
    vec![name(endpoints), text.into(), created(endpoints, now)]
}

pub(in crate::kinds) fn endpoint_slice(slice: &Value, now: i64) -> Vec<Value> {
    let port = |port: &Value| match (port.at("/port").as_i64(), port.at("/name").as_str()) {
        (Some(number), _) => number.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    let ports: Vec<String> = slice.list("/ports").iter().map(port).collect();
    let addresses: Vec<String> = slice
        .list("/endpoints")
        .iter()
        .flat_map(|endpoint| endpoint.texts("/addresses"))
        .map(str::to_owned)
        .collect();
    vec![
        name(slice),
        slice.text("/addressType").into(),
        or_unset(at_most_three(&ports)).into(),
        or_unset(at_most_three(&addresses)).into(),
        created(slice, now),
    ]
}

fn or_unset(text: String) -> String {
    if text.is_empty() { "<unset>".to_owned() } else { text }
}

fn join(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}
