//! Who asks.
//!
//! ```text
//!  client certificate ─┐
//!  Authorization ──────┼─▶ Authenticator ─▶ User ─▶ impersonate ─▶ User
//!  nothing ────────────┘        │ 401                    │ 403
//! ```
//!
//! What it is not: what the user may do is decided in `authz`.

mod certificate;
mod impersonate;
mod jwt;
mod service_account;
mod static_tokens;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use wire::status::{self, Failure};

use crate::api::User;
use crate::registry::Registry;

pub(crate) use certificate::user_of_certificate;
pub(crate) use impersonate::impersonate;
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
        certificate: &Certificate,
        headers: &HeaderMap,
    ) -> Result<User, Failure> {
        if let Certificate::Of(user) = certificate {
            return Ok(user.clone());
        }
        if let Some(token) = bearer(headers) {
            let found = self.review(registry, token, &[]);
            return found.map(|(user, _)| user).ok_or_else(status::unauthorized);
        }
        if self.anonymous && *certificate == Certificate::None {
            let groups = vec![UNAUTHENTICATED.to_owned()];
            return Ok(User { name: ANONYMOUS.to_owned(), groups, ..User::default() });
        }
        Err(status::unauthorized())
    }

    /// The user of a bearer token, and those of these audiences (none: this server's) that the
    /// token is meant for.
    pub(crate) fn review(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Option<(User, Vec<String>)> {
        let audiences =
            if audiences.is_empty() { self.service_accounts.audiences() } else { audiences };
        match self.tokens.user(token) {
            // Static tokens are for everybody who trusts this server.
            Some(user) => Some((user, audiences.to_vec())),
            None => self.service_accounts.user(registry, token, audiences),
        }
    }
}

/// What a client has shown of itself in the TLS handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Certificate {
    /// Nothing.
    None,
    /// A certificate that no known authority vouches for, or that names nobody.
    Unknown,
    /// A certificate of this user.
    Of(User),
}

/// The groups of all ServiceAccounts of a Namespace.
pub(crate) fn service_account_groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        AUTHENTICATED.to_owned(),
    ]
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The user of requests without credentials.
const ANONYMOUS: &str = "system:anonymous";
/// The group of everybody who has not shown who they are.
const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group of everybody who has shown who they are.
const AUTHENTICATED: &str = "system:authenticated";
/// Extra value: which certificate or token it was.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";
