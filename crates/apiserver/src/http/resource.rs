//! Requests for resources: which verb it is, whether it is served, and the way through the
//! registry and back.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, Response};
use wire::kinds::{Kind, Subresource};
use wire::status::{self, Failure};

use super::call::Call;
use super::inflight::Permit;
use super::negotiate::{self, Format, Negotiated};
use super::path::ResourcePath;
use super::query::Query;
use super::reply::{self, Body};
use super::server::Server;
use super::{gzip, input, output};
use crate::api::{Answer, Options, Request, Stored, Verb};
use crate::audit::Draft;
use crate::encode::Encoder;
use crate::proxy;
use crate::registry::Registry;
use crate::reviews::{self, Question};

/// RBAC's word for what a request does (apiserver `RequestInfo.Verb`).
pub(crate) fn verb_name(method: &Method, path: &ResourcePath, query: &Query) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if path.name.is_none() => "deletecollection",
        Method::DELETE => "delete",
        _ if path.watch => "watch",
        _ if path.name.is_some() => "get",
        _ if query.switch("watch") == Some(true) => "watch",
        _ => "list",
    }
}

/// Answers a request for a resource.
pub(crate) async fn respond(
    server: &Arc<Server>,
    call: Call,
    path: ResourcePath,
    draft: Option<&mut Draft>,
) -> Response<Body> {
    let served = Served::find(&server.registry, &path).filter(|_| !call.path.starts_with("//"));
    let Some(served) = served else { return reply::not_found() };
    let plain = Format::json_for(call.request.headers(), &call.query);
    if !served.allows(call.request.method(), &path, &call.query) {
        return reply::failure(&status::method_not_allowed(), plain);
    }
    if let Some(subresource) = path.subresource.as_deref()
        && proxy::SUBRESOURCES.contains(&subresource)
    {
        return proxy::respond(server, call, &path).await;
    }
    let negotiated = match negotiate::negotiate(call.request.headers(), &call.query) {
        Ok(negotiated) => negotiated,
        Err(failure) => return reply::failure(&failure, plain),
    };
    let response = async {
        check_name(&path)?;
        let verb = verb(call.request.method(), call.request.headers(), &path, &call.query)?;
        let timeout = match verb {
            Verb::Watch => Duration::MAX,
            _ => call.query.timeout(server.limits.request_timeout)?,
        };
        let Ok(permit) = server.inflight.admit(verb, &call.user).await else {
            return Ok(reply::too_many_requests());
        };
        let answered = answer(server, call, path, (&served, verb, negotiated), draft, permit);
        tokio::time::timeout(timeout, answered).await.unwrap_or_else(|_elapsed| {
            Err(status::timeout("request did not complete within the allotted timeout", 0))
        })
    };
    response.await.unwrap_or_else(|failure| reply::failure(&failure, negotiated.format))
}

/// A path that is served.
struct Served {
    row: Kind,
    subresource: Option<Subresource>,
}

impl Served {
    fn find(registry: &Registry, path: &ResourcePath) -> Option<Self> {
        let row = registry.resources.served(&path.group, &path.version, &path.resource)?;
        Self::of(row, path)
    }

    fn of(row: Kind, path: &ResourcePath) -> Option<Self> {
        if path.name.as_deref() == Some("") || path.namespace.as_deref() == Some("") {
            return None;
        }
        if !row.namespaced() && path.namespace.is_some() {
            return None;
        }
        // Objects of a namespaced kind have no path without their Namespace; lists have.
        if row.namespaced() && path.namespace.is_none() && path.name.is_some() {
            return None;
        }
        let subresource = match path.subresource.as_deref() {
            Some(name) => Some(*row.subresource(name)?),
            None => None,
        };
        let rest_is_known = path.rest.is_empty() || path.subresource.as_deref() == Some("proxy");
        rest_is_known.then_some(Self { row, subresource })
    }

    fn allows(&self, method: &Method, path: &ResourcePath, query: &Query) -> bool {
        let verb = verb_name(method, path, query);
        let known_method = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE]
            .contains(method);
        if let Some(subresource) = &self.subresource {
            // What proxies to a pod or node takes every method; discovery says so by its verbs.
            let is_proxy = subresource.name == "proxy";
            return (known_method || is_proxy) && subresource.verbs.contains(&verb);
        }
        let for_one = matches!(verb, "get" | "update" | "patch" | "delete");
        let over_all = self.row.namespaced() && path.namespace.is_none();
        let shape_fits = match verb {
            "watch" => true,
            _ if for_one => path.name.is_some(),
            "list" => *method == Method::GET,
            _ => path.name.is_none() && !over_all,
        };
        known_method && shape_fits && self.row.takes(verb)
    }
}

async fn answer(
    server: &Arc<Server>,
    call: Call,
    path: ResourcePath,
    (served, verb, negotiated): (&Served, Verb, Negotiated),
    mut draft: Option<&mut Draft>,
    permit: Permit,
) -> Result<Response<Body>, Failure> {
    let Call { request, query, user, .. } = call;
    let (head, body) = request.into_parts();
    let encoder = Encoder::new(served.row.clone(), negotiated, &query)?;
    if let Kind::Custom(custom) = &served.row {
        negotiate::check_custom(negotiated)?;
        input::check_custom(custom, &head.headers, verb)?;
    }
    let mut options = query.options()?;
    let validation = match verb {
        Verb::Get | Verb::List | Verb::Watch => wire::decode::FieldValidation::Ignore,
        _ => query.check_write(verb)?,
    };
    let bytes = match verb {
        Verb::Get | Verb::List | Verb::Watch => bytes::Bytes::new(),
        _ => input::read(&head.headers, body).await?,
    };
    let expected = served.row.form_of(served.subresource.as_ref());
    let decoded = input::decode(&head.headers, &bytes, verb, expected, validation)?;
    let deprecation = Some(served.row.deprecation()).filter(|text| !text.is_empty());
    let mut warnings: Vec<String> = deprecation.map(str::to_owned).into_iter().collect();
    let mut strict = Vec::new();
    let body = decoded.map(|decoded| {
        warnings.extend(decoded.warnings);
        strict = decoded.strict;
        decoded.value
    });
    if let (Some(draft), Some(body)) = (&mut draft, &body) {
        draft.request_body(body);
    }
    if matches!(verb, Verb::Delete | Verb::DeleteCollection)
        && let Some(body) = &body
    {
        input::merge_delete_options(&mut options, body);
    }
    if let (Verb::Watch, Some(name)) = (verb, &path.name) {
        narrow_to(&mut options, name);
    }
    let answer = if path.subresource.as_deref() == Some("token") {
        token(server, &path, body.as_ref())
    } else if !served.row.is_kept() {
        let namespace = path.namespace.as_deref().unwrap_or_default();
        let body = body.unwrap_or_default();
        let question = Question { row: &served.row, user: &user, namespace, body };
        created(reviews::answer(&server.registry, &server.authenticator, question))
    } else {
        let request = Request {
            verb,
            kind: served.row.clone(),
            namespace: path.namespace,
            name: path.name.filter(|_| verb != Verb::Watch),
            subresource: path.subresource,
            options,
            body,
            strict,
            user,
            user_agent_manager: input::user_agent_manager(&head.headers),
        };
        ask_registry(server, request, permit).await
    };
    if let Some(draft) = draft {
        let plain = Negotiated { format: Format::Json, ..negotiated };
        output::tell(draft, &answer, || Encoder::new(served.row.clone(), plain, &query));
    }
    let gzip = gzip::is_accepted(&head.headers);
    let (mut response, more) = output::respond(server, answer, encoder, negotiated.format, gzip);
    warnings.extend(more);
    reply::warn(&mut response, &warnings);
    Ok(response)
}

/// The deprecated watch of one object is a watch of all, narrowed to its name.
fn narrow_to(options: &mut Options, name: &str) {
    let narrowed = format!("metadata.name={name}");
    options.field_selector = match options.field_selector.as_str() {
        "" => narrowed,
        selector => format!("{selector},{narrowed}"),
    };
}

/// What has begun to write goes on when the client hangs up or the time is over: cut off between
/// its parts, it would give back node ports that the stored Service has.
async fn ask_registry(server: &Server, request: Request, permit: Permit) -> Answer {
    let registry = server.registry.clone();
    let (kind, verb) = (request.kind.clone(), request.verb);
    let calling = async move {
        let answer = registry.call(request).await;
        drop(permit);
        registry.definitions.caught_up(&kind, verb).await;
        answer
    };
    tokio::spawn(calling).await.unwrap_or_else(|error| {
        let failure = status::internal(&format!("the request could not be finished: {error}"));
        Answer::Failure(failure, Vec::new())
    })
}

/// Names that cannot be part of a storage key (apimachinery `IsValidPathSegmentName`).
fn check_name(path: &ResourcePath) -> Result<(), Failure> {
    let Some(name) = path.name.as_deref() else { return Ok(()) };
    let why = match name {
        "." => "may not be '.'",
        ".." => "may not be '..'",
        name if name.contains('%') => "may not contain '%'",
        _ => return Ok(()),
    };
    let name = status::quote(name);
    Err(status::bad_request(format!("Name parameter invalid: {name}: {why}")))
}

fn verb(
    method: &Method,
    headers: &HeaderMap,
    path: &ResourcePath,
    query: &Query,
) -> Result<Verb, Failure> {
    Ok(match verb_name(method, path, query) {
        "create" => Verb::Create,
        "update" => Verb::Update,
        "patch" => Verb::Patch(input::patch_type(headers)?),
        "delete" => Verb::Delete,
        "deletecollection" => Verb::DeleteCollection,
        "watch" => Verb::Watch,
        "list" => Verb::List,
        _ => Verb::Get,
    })
}

/// `serviceaccounts/NAME/token`.
fn token(server: &Server, path: &ResourcePath, body: Option<&serde_json::Value>) -> Answer {
    let namespace = path.namespace.as_deref().unwrap_or_default();
    let name = path.name.as_deref().unwrap_or_default();
    let null = serde_json::Value::Null;
    let tokens = &server.authenticator.service_accounts;
    created(tokens.issue(&server.registry, namespace, name, body.unwrap_or(&null)))
}

/// 201 with an object that is kept nowhere.
fn created(result: Result<serde_json::Value, Failure>) -> Answer {
    match result {
        Ok(object) => Answer::Object {
            code: 201,
            object: Stored { json: object.to_string().into(), value: None },
            warnings: Vec::new(),
        },
        Err(failure) => Answer::Failure(failure, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::{Target, parse};
    use super::*;

    fn allowed(method: Method, path: &str) -> Option<bool> {
        let Target::Resource(resource) = parse(path) else { return None };
        let row = wire::kinds::find(&resource.group, &resource.version, &resource.resource)?;
        let served = Served::of(row.into(), &resource)?;
        Some(served.allows(&method, &resource, &Query::default()))
    }

    #[test]
    fn verbs_are_told_by_method_name_and_query() {
        let Target::Resource(list) = parse("/api/v1/pods") else { panic!() };
        let watch = Query::parse("watch=1");
        assert_eq!(verb_name(&Method::GET, &list, &Query::default()), "list");
        assert_eq!(verb_name(&Method::GET, &list, &watch), "watch");
        assert_eq!(verb_name(&Method::DELETE, &list, &watch), "deletecollection");
        let Target::Resource(one) = parse("/api/v1/namespaces/n/pods/p") else { panic!() };
        assert_eq!(verb_name(&Method::GET, &one, &watch), "get");
    }

    #[test]
    fn objects_are_written_where_they_live() {
        assert_eq!(allowed(Method::POST, "/api/v1/namespaces/n/services"), Some(true));
        assert_eq!(allowed(Method::POST, "/api/v1/services"), Some(false));
        assert_eq!(allowed(Method::POST, "/api/v1/namespaces/n/services/s"), Some(false));
        assert_eq!(allowed(Method::DELETE, "/api/v1/services"), Some(false));
        assert_eq!(allowed(Method::GET, "/api/v1/services"), Some(true));
    }

    #[test]
    fn head_is_for_what_is_proxied_only() {
        for path in ["services", "namespaces/n/services/s", "namespaces/n/services/s/status"] {
            assert_eq!(allowed(Method::HEAD, &format!("/api/v1/{path}")), Some(false), "{path}");
        }
        let proxy = "/api/v1/namespaces/n/services/s/proxy/a";
        assert_eq!(allowed(Method::HEAD, proxy), Some(true));
    }

    #[test]
    fn what_is_not_served_is_not_found() {
        for path in [
            "/api/v1/gadgets",
            "/api/v2/services",
            "/api/v1/namespaces/n/nodes/x",
            "/api/v1/services/s",
            "/api/v1/namespaces//services",
            "/api/v1/namespaces/n/services//status",
            "/api/v1/namespaces/n/services/s/nonsense",
            "/api/v1/namespaces/n/services/s/status/more",
        ] {
            assert_eq!(allowed(Method::GET, path), None, "{path}");
        }
    }
}
