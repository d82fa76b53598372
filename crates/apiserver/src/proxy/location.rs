//! `pods/proxy`, `services/proxy` and `nodes/proxy`: HTTP through the API server.
//!
//! Semantics 1.12. The name may carry a scheme and a port: `[scheme:]name[:port]`.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HOST, HeaderName, HeaderValue, LOCATION};
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::Value;
use wire::status::{self, Failure};

use super::dial::Place;
use super::links::Links;
use super::object::object;
use super::{forward, through};
use crate::http::{Call, Server};

use crate::http::path::ResourcePath;
use crate::http::reply::{self, Body};

/// Passes a request on to what the path names.
pub(super) async fn proxy(
    server: &Arc<Server>,
    call: Call,
    path: &ResourcePath,
) -> Result<Response<Body>, Failure> {
    let namespace = path.namespace.as_deref().unwrap_or_default();
    let target = Target::parse(&path.resource, path.name.as_deref().unwrap_or_default())?;
    let (place, is_kubelet) = match path.resource.as_str() {
        "services" => (service(server, namespace, &target)?, false),
        "pods" => (pod(server, namespace, &target)?, false),
        _ => node(server, &target)?,
    };
    let upgrading = forward::wants_upgrade(call.request.headers());
    let query = call.request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    if path.rest.is_empty() && !call.path.ends_with('/') && is_read(&call) && !upgrading {
        return Ok(redirect(&format!("{}/{query}", call.path)));
    }
    let (prefix, rest) = split(call.request.uri().path(), path.namespace.is_some());
    let links =
        Links { prefix: prefix.to_owned(), backend: place.to_string(), host: host(&call.request) };
    let asked = format!("/{rest}{query}");
    let mut request = call.request;
    set_forwarded(&mut request, &links, call.peer);
    let sender = match target.scheme.as_str() {
        _ if is_kubelet => server.dialer.kubelet(&place).await,
        "https" => server.dialer.unverified(&place).await,
        _ => server.dialer.plain(&place).await,
    };
    let answer = match sender {
        Ok(sender) => {
            forward::forward(server, sender, (&place, &links.host), request, &asked).await
        }
        Err(failure) => Err(failure),
    };
    match answer {
        answer if upgrading => answer,
        Ok(response) => through::lead(response, &links).await,
        Err(failure) => Err(not_reached(failure)),
    }
}

/// The path of the server that stands for the root behind it, and what follows its slash.
fn split(path: &str, namespaced: bool) -> (&str, &str) {
    // api/v1[/namespaces/NS]/RESOURCE/NAME/proxy
    let mut left = if namespaced { 7 } else { 5 };
    let mut in_segment = false;
    for (at, byte) in path.bytes().enumerate() {
        if byte != b'/' {
            in_segment = true;
        } else if std::mem::take(&mut in_segment) {
            left -= 1;
            if left == 0 {
                return (&path[..at], &path[at + 1..]);
            }
        }
    }
    (path, "")
}

/// The host that the client asked.
fn host(request: &Request<Incoming>) -> String {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or(named).unwrap_or_default().to_owned()
}

/// Tells the backend whom it really answers, and where it seems to be.
fn set_forwarded(request: &mut Request<Incoming>, links: &Links, peer: IpAddr) {
    let uri = HeaderValue::from_str(request.uri().path()).ok().filter(|_| !links.prefix.is_empty());
    let headers = request.headers_mut();
    if let Some(uri) = uri {
        headers.insert("x-forwarded-uri", uri);
    }
    let before: Vec<&str> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let mut clients = before.join(", ");
    if !clients.is_empty() {
        clients.push_str(", ");
    }
    clients.push_str(&peer.to_string());
    if let Ok(value) = HeaderValue::from_str(&clients) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// 503 rather than 500: it is not this server that fails.
fn not_reached(failure: Failure) -> Failure {
    match failure.message.strip_prefix("error dialing backend: ") {
        Some(why) => status::service_unavailable(format!("error trying to reach service: {why}")),
        None => failure,
    }
}

/// `[scheme:]name[:port]`.
#[derive(PartialEq, Eq, Debug)]
struct Target {
    scheme: String,
    name: String,
    port: String,
}

impl Target {
    fn parse(resource: &str, text: &str) -> Result<Self, Failure> {
        let singular = resource.strip_suffix('s').unwrap_or(resource);
        let invalid =
            || status::bad_request(format!("invalid {singular} request {}", status::quote(text)));
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return Err(invalid()),
        };
        if name.is_empty() || !["", "http", "https"].contains(&scheme) {
            return Err(invalid());
        }
        let [scheme, name, port] = [scheme, name, port].map(str::to_owned);
        Ok(Self { scheme, name, port })
    }
}

/// A ready endpoint that is a pod of the same Namespace, found through the Endpoints object (S18).
fn service(server: &Server, namespace: &str, target: &Target) -> Result<Place, Failure> {
    let service = object(server, "services", namespace, &target.name)?;
    let none = || {
        let name = status::quote(&target.name);
        status::service_unavailable(format!("no endpoints available for service {name}"))
    };
    let mut port_name = target.port.clone();
    if let Ok(number) = target.port.parse::<i64>() {
        let ports = service["spec"]["ports"].as_array();
        let declared = ports.into_iter().flatten().find(|port| port["port"] == number);
        let declared = declared.ok_or_else(|| {
            let name = status::quote(&target.name);
            status::service_unavailable(format!(
                "no service port {number} found for service {name}"
            ))
        })?;
        port_name = declared["name"].as_str().unwrap_or_default().to_owned();
    }
    let endpoints = object(server, "endpoints", namespace, &target.name).map_err(|_| none())?;
    let places: Vec<Place> = endpoints["subsets"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|subset| places(subset, &port_name))
        .filter(|(address, _)| is_pod(server, namespace, address))
        .filter_map(|(address, port)| {
            Some(Place { host: address["ip"].as_str()?.to_owned(), port })
        })
        .collect();
    choose(places).ok_or_else(none)
}

/// Every address of a subset with its port of that name.
fn places<'a>(subset: &'a Value, port_name: &str) -> Vec<(&'a Value, u16)> {
    let mut ports = subset["ports"].as_array().into_iter().flatten();
    let port = ports
        .find(|port| port["name"].as_str().unwrap_or_default() == port_name)
        .and_then(|port| u16::try_from(port["port"].as_u64()?).ok());
    let addresses = subset["addresses"].as_array().into_iter().flatten();
    port.into_iter().flat_map(|port| addresses.clone().map(move |a| (a, port))).collect()
}

/// Whoever writes Endpoints may not make the server connect to whatever address they like.
fn is_pod(server: &Server, namespace: &str, address: &Value) -> bool {
    let reference = &address["targetRef"];
    let same = reference["namespace"].as_str().is_none_or(|other| other == namespace);
    let name = reference["name"].as_str().filter(|_| same && reference["kind"] == "Pod");
    let Some(Ok(pod)) = name.map(|name| object(server, "pods", namespace, name)) else {
        return false;
    };
    let ips = pod["status"]["podIPs"].as_array();
    pod["status"]["podIP"] == address["ip"]
        || ips.into_iter().flatten().any(|ip| ip["ip"] == address["ip"])
}

/// One of them, at random.
fn choose(mut places: Vec<Place>) -> Option<Place> {
    let mut random = [0_u8; 4];
    // Without randomness the first will do.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    let index = usize::try_from(u32::from_le_bytes(random)).ok()?.checked_rem(places.len())?;
    Some(places.swap_remove(index))
}

fn pod(server: &Server, namespace: &str, target: &Target) -> Result<Place, Failure> {
    let pod = object(server, "pods", namespace, &target.name)?;
    let ip = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
    let ip = ip.filter(may_proxy_to).ok_or_else(|| status::bad_request("address not allowed"))?;
    // Without a port, the first one that a container declares.
    let port = if target.port.is_empty() {
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        containers
            .filter_map(|container| container["ports"].as_array())
            .flatten()
            .find_map(|port| port["containerPort"].as_u64())
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(80)
    } else {
        parse_port("pod", target)?
    };
    Ok(Place { host: ip.to_string(), port })
}

/// The server's own addresses are not for those who may only write pods and nodes
/// (apiserver `IsProxyableIP`).
fn may_proxy_to(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast() && !link_local
}

/// The kubelet unless another port is named; whether it is the kubelet.
fn node(server: &Server, target: &Target) -> Result<(Place, bool), Failure> {
    let node = object(server, "nodes", "", &target.name)?;
    let mut place = server.dialer.kubelet_of(&node)?;
    if target.port.is_empty() {
        return Ok((place, true));
    }
    let port = parse_port("node", target)?;
    if port == place.port {
        return Ok((place, true));
    }
    if place.host.parse().is_ok_and(|address| !may_proxy_to(&address)) {
        return Err(status::bad_request("address not allowed"));
    }
    place.port = port;
    Ok((place, false))
}

fn parse_port(kind: &str, target: &Target) -> Result<u16, Failure> {
    target.port.parse().map_err(|_| {
        let text = status::quote(&format!("{}:{}", target.name, target.port));
        status::bad_request(format!("invalid {kind} request {text}"))
    })
}

fn is_read(call: &Call) -> bool {
    matches!(*call.request.method(), http::Method::GET | http::Method::HEAD)
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = reply::bytes(301, "text/plain; charset=utf-8", bytes::Bytes::new());
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_may_carry_scheme_and_port() {
        let parsed = |text| {
            Target::parse("services", text).map(|target| (target.scheme, target.name, target.port))
        };
        let expect = |a: &str, b: &str, c: &str| Ok((a.to_owned(), b.to_owned(), c.to_owned()));
        assert_eq!(parsed("s"), expect("", "s", ""));
        assert_eq!(parsed("s:http"), expect("", "s", "http"));
        assert_eq!(parsed("https:s:443"), expect("https", "s", "443"));
        assert_eq!(parsed("https:s:"), expect("https", "s", ""));
        for text in ["a:b:c:d", "ftp:s:1", ":80"] {
            let message = parsed(text).unwrap_err().message;
            assert_eq!(message, format!("invalid service request \"{text}\""));
        }
    }

    #[test]
    fn the_port_of_the_name_is_taken_from_its_subset() {
        // S18.
        let subset = json!({
            "addresses": [{ "ip": "10.0.0.1" }, { "ip": "10.0.0.2" }],
            "ports": [{ "name": "a", "port": 1 }, { "port": 2 }],
        });
        assert_eq!(places(&subset, "").iter().map(|(_, port)| *port).collect::<Vec<_>>(), [2, 2]);
        assert_eq!(places(&subset, "a")[1].0["ip"], "10.0.0.2");
        assert!(places(&subset, "nope").is_empty());
    }

    #[test]
    fn the_server_s_own_addresses_are_not_proxied_to() {
        for text in ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "fe80::1", "224.0.0.1"] {
            assert!(!may_proxy_to(&text.parse().unwrap()), "{text}");
        }
        assert!(may_proxy_to(&"10.244.0.5".parse().unwrap()));
    }

    #[test]
    fn the_root_of_the_backend_is_where_the_subresource_is() {
        for (path, namespaced, expected) in [
            ("/api/v1/namespaces/proxy/services/s:80/proxy/a/proxy/", true, ("a/proxy/", 44)),
            ("/api/v1/namespaces/n/pods/p/proxy", true, ("", 33)),
            ("/api/v1/nodes/proxy/proxy/", false, ("", 25)),
        ] {
            let (prefix, rest) = split(path, namespaced);
            assert_eq!((rest, prefix.len()), expected, "{path}");
        }
    }

    #[test]
    fn nothing_to_choose_from_is_nothing() {
        assert_eq!(choose(Vec::new()), None);
        let place = Place { host: "h".to_owned(), port: 1 };
        assert_eq!(choose(vec![place.clone()]), Some(place));
    }
}
