//! `pods/log`, `pods/exec`, `pods/attach` and `pods/portforward`, at the kubelet of the pod's node.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use wire::status::{self, CauseReason, Failure, FieldError};

use super::dial::{Place, unreachable};
use super::forward;
use super::object::object;
use crate::http::{Call, Server};

use crate::http::path::ResourcePath;
use crate::http::query::Query;
use crate::http::reply::{self, Body};

/// Streams a container's log.
pub(super) async fn log(
    server: &Arc<Server>,
    call: Call,
    path: &ResourcePath,
) -> Result<Response<Body>, Failure> {
    let (namespace, name) = names(path);
    let options = log_options(&call.query, name)?;
    let pod = object(server, "pods", namespace, name)?;
    let container = container(&pod, call.query.get("container").unwrap_or_default(), name)?;
    let Some(place) = kubelet_of(server, &pod)? else {
        // A pod that has no node yet has said nothing yet.
        return Ok(reply::text(200, ""));
    };
    let target = format!("/containerLogs/{namespace}/{name}/{}{options}", encode(&container));
    let mut sender = server.dialer.kubelet(&place).await?;
    let request = Request::get(target)
        .header(http::header::HOST, place.to_string())
        .body(forward::empty())
        .map_err(|error| status::internal(&error.to_string()))?;
    let response =
        sender.send_request(request).await.map_err(|error| unreachable(&place, &error))?;
    if response.status().is_success() {
        let content_type = "text/plain";
        let mut answer = reply::bytes(200, content_type, bytes::Bytes::new());
        *answer.body_mut() = forward::stream(server, response.into_body());
        return Ok(answer);
    }
    let code = response.status().as_u16();
    let text = Limited::new(response.into_body(), LONGEST_REFUSAL).collect().await;
    let text = text.map(|text| text.to_bytes()).unwrap_or_default();
    Err(refusal(code, String::from_utf8_lossy(&text).trim(), name))
}

/// Upgrades to a stream between the client and a container, or a pod's ports.
pub(super) async fn stream(
    server: &Arc<Server>,
    call: Call,
    path: &ResourcePath,
) -> Result<Response<Body>, Failure> {
    let (namespace, name) = names(path);
    let subresource = path.subresource.as_deref().unwrap_or_default();
    let pod = object(server, "pods", namespace, name)?;
    let target = if subresource == "portforward" {
        let ports = call.query.all("ports").map(|port| ("port", port.to_owned()));
        format!("/portForward/{namespace}/{name}{}", query(ports))
    } else {
        let container = container(&pod, call.query.get("container").unwrap_or_default(), name)?;
        let options = stream_options(&call.query, subresource == "exec");
        format!("/{subresource}/{namespace}/{name}/{}{options}", encode(&container))
    };
    let place = kubelet_of(server, &pod)?
        .ok_or_else(|| status::bad_request(format!("pod {name} does not have a host assigned")))?;
    if !forward::wants_upgrade(call.request.headers()) {
        return Err(status::bad_request("Upgrade request required"));
    }
    let sender = server.dialer.kubelet(&place).await?;
    forward::forward(server, sender, (&place, &place.to_string()), call.request, &target).await
}

fn names(path: &ResourcePath) -> (&str, &str) {
    (path.namespace.as_deref().unwrap_or_default(), path.name.as_deref().unwrap_or_default())
}

/// Where the kubelet of the pod's node listens; `None` before the pod has a node.
fn kubelet_of(server: &Server, pod: &Value) -> Result<Option<Place>, Failure> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Ok(None);
    }
    server.dialer.kubelet_of(&object(server, "nodes", "", node)?).map(Some)
}

/// The container meant: the named one, else the only one (registry/core/pod `strategy.go`).
fn container(pod: &Value, named: &str, pod_name: &str) -> Result<String, Failure> {
    let names = |list: &str| -> Vec<&str> {
        let containers = pod["spec"][list].as_array();
        containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["name"].as_str())
            .collect()
    };
    let (containers, inits) = (names("containers"), names("initContainers"));
    if named.is_empty() {
        if let [only] = containers.as_slice() {
            return Ok((*only).to_owned());
        }
        let mut text = format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            containers.join(" ")
        );
        if !inits.is_empty() {
            text.push_str(&format!(" or one of the init containers: [{}]", inits.join(" ")));
        }
        return Err(status::bad_request(text));
    }
    let known = containers.iter().chain(&inits).any(|name| *name == named)
        || names("ephemeralContainers").contains(&named);
    if known {
        Ok(named.to_owned())
    } else {
        Err(status::bad_request(format!("container {named} is not valid for pod {pod_name}")))
    }
}

/// The kubelet's query for a log, after the rules of `ValidatePodLogOptions`.
fn log_options(asked: &Query, pod_name: &str) -> Result<String, Failure> {
    let mut pairs = Vec::new();
    for name in ["follow", "previous", "timestamps"] {
        if asked.switch(name) == Some(true) {
            pairs.push((name, "true".to_owned()));
        }
    }
    let mut errors = Vec::new();
    for (name, least, why) in [
        ("sinceSeconds", 1, "must be greater than 0"),
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
    ] {
        match asked.integer(name)? {
            Some(number) if number < least => errors.push(FieldError {
                field: name.to_owned(),
                reason: CauseReason::Invalid,
                message: format!("Invalid value: {number}: {why}"),
            }),
            Some(number) => pairs.push((name, number.to_string())),
            None => {}
        }
    }
    if asked.get("sinceTime").is_some() && asked.get("sinceSeconds").is_some() {
        errors.push(FieldError {
            field: String::new(),
            reason: CauseReason::Forbidden,
            message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
                .to_owned(),
        });
    }
    for name in ["sinceTime", "stream"] {
        pairs.extend(asked.get(name).map(|value| (name, value.to_owned())));
    }
    if errors.is_empty() {
        Ok(query(pairs.into_iter()))
    } else {
        Err(status::invalid("", "PodLogOptions", pod_name, &errors))
    }
}

/// The kubelet's query for exec and attach.
fn stream_options(asked: &Query, with_command: bool) -> String {
    let switches = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
        .into_iter()
        .filter(|(name, _)| asked.switch(name) == Some(true))
        .map(|(_, kubelets)| (kubelets, "1".to_owned()));
    let command = asked.all("command").map(|word| ("command", word.to_owned()));
    query(switches.chain(command.filter(|_| with_command)))
}

fn query(pairs: impl Iterator<Item = (&'static str, String)>) -> String {
    let pairs: Vec<String> =
        pairs.map(|(name, value)| format!("{name}={}", encode(&value))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Percent-encodes all but unreserved characters (RFC 3986 2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// The kubelet's refusal as a `Status` (apiserver `GenericHttpResponseChecker`).
fn refusal(code: u16, text: &str, pod_name: &str) -> Failure {
    match code {
        400 => status::bad_request(text),
        500 => status::internal(text),
        404 => {
            let mut failure = status::not_found("", "pods/log", pod_name);
            failure.message = format!("the server could not find the requested resource ({text})");
            failure
        }
        _ => {
            let mut failure = status::untyped(text);
            failure.code = code;
            failure.reason = "InternalError".to_owned();
            failure
        }
    }
}

/// Bytes of a kubelet's refusal that are looked at.
const LONGEST_REFUSAL: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_only_container_is_meant_and_several_must_be_named() {
        let one = json!({ "spec": { "containers": [{ "name": "a" }] } });
        assert_eq!(container(&one, "", "p").unwrap(), "a");
        let two = json!({ "spec": {
            "containers": [{ "name": "a" }, { "name": "b" }], "initContainers": [{ "name": "i" }],
        }});
        assert_eq!(
            container(&two, "", "p").unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init \
             containers: [i]"
        );
        assert_eq!(container(&two, "i", "p").unwrap(), "i");
        assert_eq!(
            container(&two, "x", "p").unwrap_err().message,
            "container x is not valid for pod p"
        );
    }

    #[test]
    fn a_log_s_options_are_passed_on_or_refused() {
        let asked = Query::parse("follow=true&tailLines=10&container=c&timestamps=false");
        assert_eq!(log_options(&asked, "p").unwrap(), "?follow=true&tailLines=10");
        let failure = log_options(&Query::parse("tailLines=-1"), "p").unwrap_err();
        assert_eq!(
            (failure.code, &failure.details["causes"][0]["field"]),
            (422, &json!("tailLines"))
        );
        assert_eq!(log_options(&Query::parse("limitBytes=x"), "p").unwrap_err().code, 400);
    }

    #[test]
    fn a_command_keeps_its_words_and_their_order() {
        let asked = Query::parse("stdout=true&stdin=0&command=sh&command=-c&command=echo+%26");
        assert_eq!(
            stream_options(&asked, true),
            "?output=1&command=sh&command=-c&command=echo%20%26"
        );
        assert_eq!(stream_options(&asked, false), "?output=1");
    }
}
