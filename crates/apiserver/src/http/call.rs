//! One request, once its head has been understood.

use std::net::IpAddr;

use http::Request;
use hyper::body::Incoming;

use super::query::Query;
use crate::api::User;

/// A request whose head has been understood, of a user who may make it.
pub(crate) struct Call {
    /// The request, body unread.
    pub(crate) request: Request<Incoming>,
    /// Decoded path.
    pub(crate) path: String,
    /// Query.
    pub(crate) query: Query,
    /// Who asks.
    pub(crate) user: User,
    /// From where.
    pub(crate) peer: IpAddr,
}
