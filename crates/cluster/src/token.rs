//! Service account tokens (TokenRequest, `authentication.k8s.io/v1`).

use http::Method;
use model::Name;
use serde_json::json;

use crate::client::{Client, JSON, RequestError, Target};

/// What a token is wanted for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRequest {
    /// Namespace of the ServiceAccount.
    pub namespace: Name,
    /// Name of the ServiceAccount.
    pub service_account: Name,
    /// Who may accept the token; empty means the API server itself.
    pub audiences: Vec<String>,
    /// Wanted lifetime in seconds; at least 600, the server may give another one.
    pub expiration_seconds: u32,
    /// Name and uid of the pod that the token dies with.
    pub pod: Option<(Name, Name)>,
}

/// A token and how long it lasts.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The bearer token. A secret: do not log it.
    pub token: String,
    /// RFC 3339 time at which it expires.
    pub expiration: String,
}

impl Client {
    /// Asks the API server for a service account token.
    ///
    /// # Errors
    /// When the ServiceAccount does not exist, or the server does not answer.
    pub async fn request_token(&self, request: &TokenRequest) -> Result<Token, RequestError> {
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            request.namespace, request.service_account
        );
        let mut body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": request.audiences,
                "expirationSeconds": request.expiration_seconds,
            },
        });
        if let Some((name, uid)) = &request.pod {
            body["spec"]["boundObjectRef"] = json!({
                "apiVersion": "v1", "kind": "Pod", "name": name.as_str(), "uid": uid.as_str(),
            });
        }
        let answer = self.exchange(Method::POST, &path, JSON, Some(&body)).await?;
        let text = |field: &str| answer["status"][field].as_str().map(str::to_owned);
        match (text("token"), text("expirationTimestamp")) {
            (Some(token), Some(expiration)) => Ok(Token { token, expiration }),
            _ => Err(Target::new(&Method::POST, &path).answer("status.token is missing")),
        }
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token {{ expiration: {:?}, .. }}", self.expiration)
    }
}
