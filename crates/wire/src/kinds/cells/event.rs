//! Events, in either shape.

use serde_json::Value;

use super::name;
use crate::kinds::age;
use crate::rules::event::to_core;
use crate::rules::fields::Fields;

pub(in crate::kinds) fn event(event: &Value, now: i64) -> Vec<Value> {
    let mut event = event.clone();
    to_core(&mut event);
    let series = event.at("/series");
    let first = first_of(&event, &["/firstTimestamp", "/eventTime"]);
    let last = match series.text("/lastObservedTime") {
        "" => first_of(&event, &["/lastTimestamp", "/firstTimestamp", "/eventTime"]),
        observed => observed,
    };
    let count = match (series.int("/count"), event.int("/count")) {
        (0, 0) => 1,
        (0, count) => count,
        (count, _) => count,
    };
    let object = event.at("/involvedObject");
    let kind = object.text("/kind").to_lowercase();
    let target = match object.text("/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        age::since(last, now).into(),
        event.text("/type").into(),
        event.text("/reason").into(),
        target.into(),
        object.text("/fieldPath").into(),
        source(&event).into(),
        event.text("/message").trim().into(),
        age::since(first, now).into(),
        count.into(),
        name(&event),
    ]
}

fn first_of<'a>(event: &'a Value, pointers: &[&str]) -> &'a str {
    let texts = pointers.iter().map(|pointer| event.text(pointer));
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or("")
}

/// The component, and the host where one is named.
fn source(event: &Value) -> String {
    let component = first_of(event, &["/source/component", "/reportingComponent"]);
    match first_of(event, &["/source/host", "/reportingInstance"]) {
        "" => component.to_owned(),
        host => format!("{component}, {host}"),
    }
}
