//! What is served: groups, versions, resources, OpenAPI documents, the server's version.
//!
//! Everything is read off the kinds: those of the table in `wire`, and those of definitions.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, IF_NONE_MATCH, LOCATION, VARY};
use http::{HeaderMap, Method, Response};
use jiff::{SignedDuration, Timestamp};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use wire::kinds::{Kind, Subresource};
use wire::status::{self, Failure};

use crate::http::{Call, Server};

use crate::http::negotiate::{Discovery, Format, negotiate, negotiate_discovery};
use crate::http::query::Query;
use crate::http::reply::{self, Body};
use crate::resources::{Document, Resources};

/// Answers a discovery path; `None` when it is none.
pub(crate) fn respond(server: &Server, call: &Call) -> Option<Response<Body>> {
    let path = call.path.strip_prefix('/')?;
    let path: Vec<&str> = match path.strip_suffix('/').unwrap_or(path) {
        "" => Vec::new(),
        path => path.split('/').collect(),
    };
    let asked = Asked { headers: call.request.headers(), query: &call.query };
    let page = page(server, &asked, &path)?;
    let plain = Format::json_for(asked.headers, asked.query);
    if call.request.method() != Method::GET {
        return Some(reply::failure(&status::method_not_allowed(), plain));
    }
    Some(page.unwrap_or_else(|failure| reply::failure(&failure, plain)))
}

/// What a client wants to see.
struct Asked<'a> {
    headers: &'a HeaderMap,
    query: &'a Query,
}

type Page = Result<Response<Body>, Failure>;

fn page(server: &Server, asked: &Asked<'_>, path: &[&str]) -> Option<Page> {
    let kinds = &server.registry.resources.all_served()[..];
    match path {
        [] => Some(Ok(json_page(asked, &root(kinds)))),
        ["version"] => Some(Ok(json_page(asked, &version()))),
        ["api"] => Some(groups(kinds, asked, |group| group.is_empty(), || api_versions(server))),
        ["apis"] => Some(groups(kinds, asked, |group| !group.is_empty(), || group_list(kinds))),
        ["api", version] => resources(kinds, "", version).map(|list| negotiated_page(asked, &list)),
        ["apis", group] => api_group(kinds, group).map(|group| negotiated_page(asked, &group)),
        ["apis", group, version] if !group.is_empty() => {
            resources(kinds, group, version).map(|list| negotiated_page(asked, &list))
        }
        ["openapi", rest @ ..] => openapi(server, asked, rest),
        _ => None,
    }
}

/// `/api` and `/apis`: one document of everything, or the older ones.
fn groups(
    kinds: &[Kind],
    asked: &Asked<'_>,
    wanted: fn(&str) -> bool,
    plain: impl Fn() -> Value,
) -> Page {
    Ok(match negotiate_discovery(asked.headers)? {
        Discovery::Plain => json_page(asked, &plain()),
        Discovery::Aggregated => {
            let document = aggregated(kinds, wanted).to_string();
            cached(asked.headers, AGGREGATED_TYPE, Bytes::from(document))
        }
    })
}

fn openapi(server: &Server, asked: &Asked<'_>, path: &[&str]) -> Option<Page> {
    let resources = &server.registry.resources;
    let page = |group, version| {
        let body = document(resources, group, version)?;
        Some(kept(asked, (group, version), body))
    };
    match path {
        ["v2"] => Some(openapi_v2(resources, asked.headers)),
        ["v3"] => Some(Ok(json_page(asked, &openapi_index(resources)))),
        ["v3", "api", version] => page("", version),
        ["v3", "apis", group, version] => page(group, version),
        _ => None,
    }
}

fn document(resources: &Resources, group: &str, version: &str) -> Option<Bytes> {
    let documents = resources.documents();
    let own = documents.into_iter().find(|own| own.group == group && own.version == version);
    match own {
        Some(own) => Some(own.body),
        None => wire::openapi::document(group, version).map(Bytes::from_static),
    }
}

fn openapi_index(resources: &Resources) -> Value {
    let mut index = wire::openapi::index().clone();
    for Document { group, version, body } in resources.documents() {
        let (path, entry) = wire::openapi::entry(&group, &version, &body);
        index["paths"][path] = entry;
    }
    index
}

/// A document of the index. Whoever follows the index names the content by its hash, and may keep
/// what is found under that name for a year; another hash is of another time (kube-openapi
/// `handler3`).
fn kept(asked: &Asked<'_>, (group, version): (&str, &str), body: Bytes) -> Page {
    let (_, entry) = wire::openapi::entry(group, version, &body);
    let current = entry["serverRelativeURL"].as_str().unwrap_or_default();
    let hash = asked.query.get("hash").filter(|hash| !hash.is_empty());
    if hash.is_some_and(|hash| !current.ends_with(&format!("?hash={hash}"))) {
        return moved(current);
    }
    let mut response = cached(asked.headers, "application/json", body);
    if hash.is_some() {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let expires = (Timestamp::now() + A_YEAR).strftime("%a, %d %b %Y %H:%M:%S GMT");
        if let Ok(expires) = HeaderValue::from_str(&expires.to_string()) {
            headers.insert(EXPIRES, expires);
        }
    }
    Ok(response)
}

fn moved(to: &str) -> Page {
    let mut response = reply::bytes(301, "text/html; charset=utf-8", Bytes::new());
    let to = HeaderValue::from_str(to).map_err(|error| status::internal(&error.to_string()))?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

/// The older OpenAPI: the same types, without paths, as JSON or as gnostic's protobuf.
fn openapi_v2(resources: &Resources, headers: &HeaderMap) -> Page {
    let accept = headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let takes_json = accept.is_none_or(|accept| {
        ["application/json", "*/*"].iter().any(|media| accept.contains(media)) || accept.is_empty()
    });
    let takes_protobuf = accept.is_some_and(|accept| accept.contains(GNOSTIC));
    if !takes_json && !takes_protobuf {
        return Err(status::not_acceptable(&["application/json", GNOSTIC]));
    }
    let mut definitions = serde_json::Map::new();
    for (group, version) in group_versions(&resources.all_served()) {
        let Some(text) = document(resources, group, version) else { continue };
        let text =
            String::from_utf8_lossy(&text).replace("#/components/schemas/", "#/definitions/");
        let mut document: Value =
            serde_json::from_str(&text).map_err(|error| status::internal(&error.to_string()))?;
        if let Value::Object(schemas) = document["components"]["schemas"].take() {
            definitions.extend(schemas);
        }
    }
    let document = json!({
        "swagger": "2.0", "info": { "title": "Kubernetes", "version": GIT_VERSION },
        "paths": {}, "definitions": definitions,
    });
    if takes_protobuf {
        let body = wire::openapi::v2_protobuf(&document).into();
        // Not what was asked for: media types have no `@` (kubernetes/kube-openapi).
        return Ok(cached(
            headers,
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            body,
        ));
    }
    Ok(cached(headers, "application/json", document.to_string().into()))
}

/// How clients ask for OpenAPI v2 as protobuf.
const GNOSTIC: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// A document with a name for its content: who knows it already gets 304.
fn cached(headers: &HeaderMap, content_type: &str, body: Bytes) -> Response<Body> {
    let hash: String =
        digest(&SHA256, &body).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let etag = format!("\"{hash}\"");
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|value| value.trim() == etag);
    let mut response = if known {
        reply::bytes(304, content_type, Bytes::new())
    } else {
        reply::bytes(200, content_type, body)
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// A page for those who take one of the encodings.
fn negotiated_page(asked: &Asked<'_>, value: &Value) -> Page {
    negotiate(asked.headers, asked.query)?;
    Ok(json_page(asked, value))
}

fn json_page(asked: &Asked<'_>, value: &Value) -> Response<Body> {
    let format = match negotiate(asked.headers, asked.query) {
        Ok(negotiated) if negotiated.format == Format::Yaml => Format::Yaml,
        _ => Format::json_for(asked.headers, asked.query),
    };
    match crate::encode::render(format, value.to_string().into()) {
        Ok(body) => reply::bytes(200, format.content_type(), body),
        Err(failure) => reply::failure(&failure, Format::Json),
    }
}

fn root(kinds: &[Kind]) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, version) in group_versions(kinds) {
        if !group.is_empty() {
            paths.push(format!("/apis/{group}"));
            paths.push(format!("/apis/{group}/{version}"));
        }
    }
    for path in ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"] {
        paths.push(path.to_owned());
    }
    paths.push("/version".to_owned());
    json!({ "paths": paths })
}

fn version() -> Value {
    let (architecture, system) = (std::env::consts::ARCH, std::env::consts::OS);
    let architecture = match architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "major": "1", "minor": MINOR, "emulationMajor": "1", "emulationMinor": MINOR,
        "minCompatibilityMajor": "1", "minCompatibilityMinor": MINOR,
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": format!("{system}/{architecture}"),
    })
}

fn api_versions(server: &Server) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            { "clientCIDR": "0.0.0.0/0", "serverAddress": server.advertised.to_string() },
        ],
    })
}

fn group_list(kinds: &[Kind]) -> Value {
    let mut groups: Vec<Value> = Vec::new();
    for (group, _) in group_versions(kinds) {
        if group.is_empty() || groups.iter().any(|known| known["name"] == group) {
            continue;
        }
        groups.extend(api_group(kinds, group).map(|mut group| {
            // Inside the list the groups carry no type.
            if let Some(fields) = group.as_object_mut() {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            group
        }));
    }
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn api_group(kinds: &[Kind], name: &str) -> Option<Value> {
    let versions: Vec<Value> = group_versions(kinds)
        .into_iter()
        .filter(|(group, _)| *group == name && !group.is_empty())
        .map(|(_, version)| json!({ "groupVersion": format!("{name}/{version}"), "version": version }))
        .collect();
    let preferred = versions.first()?.clone();
    Some(json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions,
        "preferredVersion": preferred,
    }))
}

fn resources(kinds: &[Kind], group: &str, version: &str) -> Option<Value> {
    let rows = kinds.iter().filter(|row| row.group() == group && row.version() == version);
    let mut resources: Vec<Value> = rows.flat_map(resource).collect();
    if resources.is_empty() {
        return None;
    }
    resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut list = json!({
        "kind": "APIResourceList", "groupVersion": group_version, "resources": resources,
    });
    // The oldest document of all says no version of itself.
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

/// The entries of one row: the resource and its subresources.
fn resource(row: &Kind) -> Vec<Value> {
    let mut own = json!({
        "name": row.plural(), "singularName": row.singular(), "namespaced": row.namespaced(),
        "kind": row.kind(), "verbs": row.verbs(),
    });
    if row.is_kept() {
        own["storageVersionHash"] = storage_hash(&row.stored()).into();
    }
    set_names(&mut own, row);
    let mut all = vec![own];
    for subresource in row.subresources() {
        let body = row.form_of(Some(subresource)).gvk;
        let mut entry = json!({
            "name": format!("{}/{}", row.plural(), subresource.name), "singularName": "",
            "namespaced": row.namespaced(), "kind": body.kind, "verbs": subresource.verbs,
        });
        if !subresource.version.is_empty() {
            entry["version"] = subresource.version.into();
            if !subresource.group.is_empty() {
                entry["group"] = subresource.group.into();
            }
        }
        all.push(entry);
    }
    all
}

fn set_names(entry: &mut Value, row: &Kind) {
    if !row.short_names().is_empty() {
        entry["shortNames"] = row.short_names().into();
    }
    if !row.categories().is_empty() {
        entry["categories"] = row.categories().into();
    }
}

/// `APIGroupDiscoveryList` of the groups wanted (KEP-3352).
fn aggregated(kinds: &[Kind], wanted: fn(&str) -> bool) -> Value {
    let mut items: Vec<Value> = Vec::new();
    for (group, version) in group_versions(kinds) {
        if !wanted(group) {
            continue;
        }
        let resources: Vec<Value> = kinds
            .iter()
            .filter(|row| row.group() == group && row.version() == version)
            .map(aggregated_resource)
            .collect();
        let version = json!({ "version": version, "freshness": "Current", "resources": resources });
        let mut metadata = json!({ "creationTimestamp": null });
        if !group.is_empty() {
            metadata["name"] = group.into();
        }
        match items.iter_mut().find(|item| item["metadata"] == metadata) {
            Some(item) => item["versions"].as_array_mut().into_iter().for_each(|versions| {
                versions.push(version.clone());
            }),
            None => items.push(json!({ "metadata": metadata, "versions": [version] })),
        }
    }
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(row: &Kind) -> Value {
    let mut entry = json!({
        "resource": row.plural(), "singularResource": row.singular(), "verbs": row.verbs(),
        "scope": if row.namespaced() { "Namespaced" } else { "Cluster" },
        "responseKind": { "group": row.group(), "version": row.version(), "kind": row.kind() },
    });
    set_names(&mut entry, row);
    if !row.subresources().is_empty() {
        let subresource = |subresource: &Subresource| {
            let body = row.form_of(Some(subresource)).gvk;
            json!({
                "subresource": subresource.name, "verbs": subresource.verbs,
                "responseKind": {
                    "group": body.group, "version": body.version, "kind": body.kind,
                },
            })
        };
        entry["subresources"] = row.subresources().iter().map(subresource).collect();
    }
    entry
}

/// Every group and version once, in the order of the kinds.
fn group_versions(kinds: &[Kind]) -> Vec<(&str, &str)> {
    let mut all = Vec::new();
    for row in kinds {
        if !all.contains(&(row.group(), row.version())) {
            all.push((row.group(), row.version()));
        }
    }
    all
}

/// Changes when objects are stored under another type; clients only compare it.
fn storage_hash(row: &Kind) -> String {
    use base64::Engine;
    let identity = format!("{}/{}/{}", row.group(), row.version(), row.kind());
    let hash = digest(&SHA256, identity.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&hash.as_ref()[..8])
}

const A_YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);
const AGGREGATED_TYPE: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
/// The release whose behaviour this server follows.
const MINOR: &str = "36";
const GIT_VERSION: &str = "v1.36.2+portolan";

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> Vec<Kind> {
        wire::kinds::kinds().iter().map(Kind::from).collect()
    }

    #[test]
    fn every_kind_is_found_in_both_forms() {
        let kinds = kinds();
        let all =
            [aggregated(&kinds, str::is_empty), aggregated(&kinds, |group| !group.is_empty())];
        let listed: usize = all
            .iter()
            .flat_map(|list| list["items"].as_array().into_iter().flatten())
            .flat_map(|group| group["versions"].as_array().into_iter().flatten())
            .map(|version| version["resources"].as_array().map_or(0, Vec::len))
            .sum();
        assert_eq!(listed, kinds.len());
        for row in &kinds {
            let list = resources(&kinds, row.group(), row.version()).unwrap();
            let entries = list["resources"].as_array().unwrap();
            let entry = entries.iter().find(|entry| entry["name"] == row.plural()).unwrap();
            assert_eq!(entry["kind"], row.kind());
        }
    }

    #[test]
    fn a_group_names_its_preferred_version() {
        let group = api_group(&kinds(), "discovery.k8s.io").unwrap();
        assert_eq!(group["preferredVersion"]["groupVersion"], "discovery.k8s.io/v1");
        assert_eq!((api_group(&kinds(), "example.com"), api_group(&kinds(), "")), (None, None));
    }

    #[test]
    fn a_document_is_kept_under_the_name_of_its_content() {
        let headers = HeaderMap::new();
        let ask = |query: &str| {
            let query = Query::parse(query);
            let body = Bytes::from_static(wire::openapi::document("", "v1").unwrap());
            kept(&Asked { headers: &headers, query: &query }, ("", "v1"), body).unwrap()
        };
        let current = wire::openapi::index()["paths"]["api/v1"]["serverRelativeURL"].as_str();
        let (_, query) = current.unwrap().split_once('?').unwrap();
        let named = ask(query);
        assert_eq!(named.headers()[CACHE_CONTROL], "public, immutable");
        assert!(named.headers()[EXPIRES].to_str().unwrap().ends_with(" GMT"));
        assert_eq!(ask("").headers()[CACHE_CONTROL], "no-cache, private");
        let other = ask("hash=0");
        assert_eq!(
            (other.status().as_u16(), other.headers()[LOCATION].to_str().ok()),
            (301, current)
        );
    }

    #[test]
    fn a_list_of_resources_comes_in_a_known_encoding() {
        let html =
            HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("text/html"))]);
        let query = Query::default();
        let failure = negotiated_page(&Asked { headers: &html, query: &query }, &root(&kinds()));
        assert_eq!(failure.unwrap_err().code, 406);
    }

    #[test]
    fn a_known_document_is_not_sent_again() {
        let first = cached(&HeaderMap::new(), "application/json", "{}".into());
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, first.headers()[ETAG].clone());
        assert_eq!(cached(&headers, "application/json", "{}".into()).status(), 304);
        assert_eq!(cached(&headers, "application/json", "[]".into()).status(), 200);
    }
}
