//! Requests that somebody else answers: kubelets (log, exec, attach, port-forward), and what
//! listens in pods, behind Services and on nodes (`proxy`).
//!
//! ```text
//!  client ══ HTTP, upgraded ══ apiserver ══ TLS, upgraded ══ kubelet ── container
//!                                  └─ HTTP ── pod, endpoint of a Service
//! ```
//!
//! What it is not: it understands none of the protocols inside an upgraded connection (WebSocket,
//! SPDY): bytes pass through as they are.

mod dial;
mod forward;
mod kubelet;
mod links;
mod location;
mod object;
mod through;

use std::sync::Arc;

use http::Response;
use wire::status;

use crate::http::{Call, Server};

use crate::http::negotiate::Format;
use crate::http::path::ResourcePath;
use crate::http::reply::{self, Body};

pub(crate) use dial::Dialer;

/// The subresources that are answered here.
pub(crate) const SUBRESOURCES: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// Answers a request for one of [`SUBRESOURCES`].
pub(crate) async fn respond(
    server: &Arc<Server>,
    call: Call,
    path: &ResourcePath,
) -> Response<Body> {
    let plain = Format::json_for(call.request.headers(), &call.query);
    let answer = match (path.resource.as_str(), path.subresource.as_deref()) {
        ("pods", Some("log")) => kubelet::log(server, call, path).await,
        ("pods", Some("exec" | "attach" | "portforward")) => {
            kubelet::stream(server, call, path).await
        }
        (_, Some("proxy")) => location::proxy(server, call, path).await,
        _ => Err(status::method_not_allowed()),
    };
    answer.unwrap_or_else(|failure| reply::failure(&failure, plain))
}
