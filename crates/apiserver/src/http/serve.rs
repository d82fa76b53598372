//! One request, from head to answer.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use wire::status::{self, Failure};

use super::call::Call;
use super::metrics::RequestLabels;
use super::negotiate::Format;
use super::path::{self, Target};
use super::query::Query;
use super::reply::{self, Body};
use super::server::{Peer, Server};
use super::{health, resource};
use crate::api::User;
use crate::audit::Draft;
use crate::authz::{Asked, Attributes};
use crate::percent::percent_decode;
use crate::registry::Registry;
use crate::{auth, discovery, id, proxy};

/// Answers one request. Never fails: failures are answers.
pub(crate) async fn serve(
    server: Arc<Server>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Response<Body> {
    let start = Instant::now();
    let audit_id = audit_id(&request);
    let is_mutating = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let counted = server.metrics.count_request(is_mutating);
    let draft = server.audit.as_ref();
    let draft = draft.map(|audit| Draft::new(audit, &request, &audit_id, peer.address));
    let mut seen = Seen { labels: RequestLabels::default(), draft, is_long: false, is_known: true };
    let plain = Format::json_for(
        request.headers(),
        &Query::parse(request.uri().query().unwrap_or_default()),
    );
    let mut response = match understand(&server, &peer, request, &mut seen) {
        Ok((call, Target::Resource(path))) => {
            resource::respond(&server, call, path, seen.draft.as_mut()).await
        }
        Ok((call, Target::Other)) => other(&server, &call).await,
        Err(failure) => reply::failure(&failure, plain),
    };
    let Seen { labels, mut draft, is_long, is_known } = seen;
    drop(counted);
    let code = response.status().as_u16();
    server.metrics.answered(&labels, code, start.elapsed());
    tracing::debug!(verb = labels.verb, resource = labels.resource, code, "answered");
    response.headers_mut().insert(AUDIT_ID, audit_id);
    let failure = response.extensions_mut().remove::<Failure>();
    if let (Some(draft), Some(failure)) = (&mut draft, failure) {
        draft.status(&failure.to_value());
    }
    match draft {
        Some(draft) if !is_known => draft.unauthenticated(code),
        Some(draft) if !is_long => draft.complete(code),
        draft if is_long => {
            let counted = server.metrics.count_long_running(&labels);
            return until_its_end(response, (counted, draft.map(|draft| draft.started(code))));
        }
        _ => {}
    }
    response
}

/// Keeps something as long as an answer goes on.
fn until_its_end(response: Response<Body>, kept: impl Send + 'static) -> Response<Body> {
    let keep = move |frame| {
        // Dropped together with the body: then the answer is complete.
        let _ = &kept;
        frame
    };
    response.map(|body| body.map_frame(keep).boxed_unsync())
}

/// What has been found out about a request, for those who count and write down.
struct Seen {
    labels: RequestLabels,
    draft: Option<Draft>,
    /// Whether the answer may go on for long.
    is_long: bool,
    /// Whether somebody is behind the credentials.
    is_known: bool,
}

/// Authenticates, takes the path apart and authorizes.
fn understand(
    server: &Server,
    peer: &Peer,
    request: Request<Incoming>,
    seen: &mut Seen,
) -> Result<(Call, Target), Failure> {
    let path = percent_decode(request.uri().path());
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let target = path.as_deref().map_or(Target::Other, path::parse);
    let verb = seen.look(&server.registry, request.method(), &target, &query);
    let asked = match &target {
        Target::Resource(resource) => Asked::Resource(resource.authorized(&query)),
        Target::Other => Asked::Path(path.as_deref().unwrap_or_default()),
    };
    let version = match &target {
        Target::Resource(resource) => resource.version.as_str(),
        Target::Other => "",
    };
    let mut refused = |user: &User| {
        let attributes = Attributes { user, verb, asked: asked.clone() };
        seen.draft.iter_mut().for_each(|draft| draft.asked(&attributes, None, version));
        seen.is_known = !user.name.is_empty();
        seen.draft.iter_mut().filter(|_| seen.is_known).for_each(Draft::received);
    };
    let headers = request.headers();
    let user = server
        .authenticator
        .authenticate(&server.registry, &peer.certificate, headers)
        .inspect_err(|_| refused(&User::default()))?;
    let authorizer = &server.registry.authorizer;
    let other = auth::impersonate(&user, headers, authorizer).inspect_err(|_| refused(&user))?;
    let by = other.is_some().then_some(&user);
    let attributes = Attributes { user: other.as_ref().unwrap_or(&user), verb, asked };
    let decision = authorizer.authorize(&attributes);
    if let Some(draft) = &mut seen.draft {
        draft.asked(&attributes, by, version);
        draft.received();
        draft.decided(&decision);
    }
    decision?;
    let path = path.ok_or_else(|| status::bad_request(UNREADABLE_PATH))?;
    let user = other.unwrap_or(user);
    Ok((Call { request, path, query, user, peer: peer.address }, target))
}

impl Seen {
    /// RBAC's word for what is done.
    fn look(
        &mut self,
        registry: &Registry,
        method: &Method,
        target: &Target,
        query: &Query,
    ) -> &'static str {
        let verb = match target {
            Target::Resource(resource) => resource::verb_name(method, resource, query),
            Target::Other => method_name(method),
        };
        self.labels.verb = counted_verb(verb);
        self.labels.dry_run =
            if query.all("dryRun").any(|value| value == "All") { "All" } else { "" };
        if let Target::Resource(path) = target
            && let Some(row) = registry.resources.served(&path.group, &path.version, &path.resource)
        {
            self.labels.group = row.group().to_owned();
            self.labels.version = row.version().to_owned();
            self.labels.resource = row.plural().to_owned();
            let subresource = path.subresource.as_deref().and_then(|name| row.subresource(name));
            self.labels.subresource = subresource.map_or("", |subresource| subresource.name);
            self.labels.scope = match (&path.name, &path.namespace) {
                (Some(_), _) => "resource",
                (None, Some(_)) => "namespace",
                (None, None) => "cluster",
            };
            let subresource = path.subresource.as_deref().unwrap_or_default();
            self.is_long = verb == "watch" || proxy::SUBRESOURCES.contains(&subresource);
        }
        verb
    }
}

/// Paths that are no resources.
async fn other(server: &Server, call: &Call) -> Response<Body> {
    if let Some(response) = health::respond(server, &call.path, &call.query) {
        return response;
    }
    if call.path == "/metrics" {
        let (content_type, page) = metrics_page(server, call.request.headers());
        return reply::bytes(200, content_type, page);
    }
    if let Some(document) = openid(server, &call.path) {
        return document;
    }
    discovery::respond(server, call).unwrap_or_else(reply::not_found)
}

/// The counters, and how full store and pools are now.
fn metrics_page(server: &Server, headers: &HeaderMap) -> (&'static str, String) {
    server.registry.allocator.measure();
    for (kind, count) in server.registry.object_counts() {
        server.metrics.stored(kind.group(), kind.plural(), count);
    }
    server.metrics.page(headers)
}

/// How others check the tokens of ServiceAccounts (OpenID Connect Discovery 1.0).
fn openid(server: &Server, path: &str) -> Option<Response<Body>> {
    let tokens = &server.authenticator.service_accounts;
    let (content_type, document) = match path {
        "/.well-known/openid-configuration" => {
            let keys = format!("https://{}/openid/v1/jwks", server.advertised);
            let document = json!({
                "issuer": tokens.issuer(), "jwks_uri": keys,
                "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            });
            ("application/json", document)
        }
        "/openid/v1/jwks" => ("application/jwk-set+json", json!({ "keys": [tokens.public_key()] })),
        _ => return None,
    };
    Some(reply::bytes(200, content_type, document.to_string()))
}

/// The id that the client gave this request, or a new one.
fn audit_id(request: &Request<Incoming>) -> HeaderValue {
    let given = request.headers().get(&AUDIT_ID).filter(|id| id.len() <= 64).cloned();
    given.unwrap_or_else(|| {
        HeaderValue::from_str(&id::uuid()).unwrap_or_else(|_| HeaderValue::from_static(""))
    })
}

/// The verb as kube-apiserver's metrics have it: HTTP's word where there is one.
fn counted_verb(verb: &'static str) -> &'static str {
    match verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "OTHER",
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::HEAD => "head",
        Method::OPTIONS => "options",
        _ => "other",
    }
}

const UNREADABLE_PATH: &str = "the path is not percent-encoded UTF-8";
const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
