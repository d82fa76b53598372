//! Who asks, and whether they may.
//!
//! ```text
//!  client certificate ─┐
//!  Authorization ──────┼─▶ Authenticator ─▶ User ─▶ impersonate ─▶ authorize ─▶ request
//!  nothing ────────────┘        │ 401                                  │ 403
//! ```
//!
//! What it is not: there are no roles yet. Whoever is authenticated may do everything; whoever is
//! not may read health and version.

mod authorize;
mod certificate;
mod jwt;
mod service_account;
mod static_tokens;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use wire::status::{self, Failure};

use crate::api::User;
use crate::registry::Registry;

pub(crate) use authorize::{authorize, impersonate};
pub(crate) use certificate::user_of_certificate;
pub use jwt::KeyError;
pub(crate) use service_account::ServiceAccountTokens;
pub(crate) use static_tokens::StaticTokens;
pub use static_tokens::TokenFileError;

/// Finds the user behind a request.
pub(crate) struct Authenticator {
    /// `--token-auth-file`.
    pub(crate) tokens: StaticTokens,
    /// Tokens that this server issues.
    pub(crate) service_accounts: ServiceAccountTokens,
    /// `--anonymous-auth`.
    pub(crate) anonymous: bool,
}

impl Authenticator {
    /// The certificate's user, else the bearer token's, else the anonymous one. Credentials that
    /// are wrong are refused, also where none would do.
    pub(crate) fn authenticate(
        &self,
        registry: &Registry,
        certificate: Option<&User>,
        headers: &HeaderMap,
    ) -> Result<User, Failure> {
        if let Some(user) = certificate {
            return Ok(user.clone());
        }
        if let Some(token) = bearer(headers) {
            return self
                .tokens
                .user(token)
                .or_else(|| self.service_accounts.user(registry, token))
                .ok_or_else(status::unauthorized);
        }
        if self.anonymous {
            let groups = vec!["system:unauthenticated".to_owned()];
            return Ok(User { name: ANONYMOUS.to_owned(), groups });
        }
        Err(status::unauthorized())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user of requests without credentials.
const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who has shown who they are.
const AUTHENTICATED: &str = "system:authenticated";
