//! Tokens of ServiceAccounts: issued by TokenRequest, believed while account and bound object
//! live (KEP-1205).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use wire::status::{self, CauseReason, Failure, FieldError};

use super::jwt::{KeyError, Signer};
use super::{CREDENTIAL_ID, service_account_groups};
use crate::api::User;
use crate::id::uuid;
use crate::registry::Registry;

/// Issues and checks the tokens.
pub(crate) struct ServiceAccountTokens {
    signer: Signer,
    /// `--service-account-issuer`: the first issues, all are believed.
    issuers: Vec<String>,
    /// `--api-audiences`.
    audiences: Vec<String>,
}

impl ServiceAccountTokens {
    /// Signs with this key, PKCS #8 DER. Without issuers there is one of our own; without
    /// audiences the first issuer is the audience.
    pub(crate) fn new(
        pkcs8: &[u8],
        issuers: &[String],
        audiences: &[String],
    ) -> Result<Self, KeyError> {
        let issuers = if issuers.is_empty() { vec![ISSUER.to_owned()] } else { issuers.to_vec() };
        let audiences =
            if audiences.is_empty() { issuers[..1].to_vec() } else { audiences.to_vec() };
        Ok(Self { signer: Signer::new(pkcs8)?, issuers, audiences })
    }

    /// Whom tokens must be meant for to be good here.
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The issuer of new tokens.
    pub(crate) fn issuer(&self) -> &str {
        self.issuers.first().map_or(ISSUER, String::as_str)
    }

    /// The key that checks the tokens, as a JSON Web Key (RFC 7517).
    pub(crate) fn public_key(&self) -> Value {
        self.signer.public_key()
    }

    /// The user of a token of ours that is in time and whose account, and bound object, still
    /// exist with the same uid; and those of these audiences that the token names.
    pub(crate) fn user(
        &self,
        registry: &Registry,
        token: &str,
        audiences: &[String],
    ) -> Option<(User, Vec<String>)> {
        let claims = self.signer.verify(token)?;
        let now = Timestamp::now().as_second();
        let in_time =
            claims["nbf"].as_i64()? <= now + CLOCK_SKEW && now < claims["exp"].as_i64()?;
        let named = claims["aud"].as_array()?;
        let audiences: Vec<String> = audiences
            .iter()
            .filter(|audience| named.iter().any(|name| name == *audience))
            .cloned()
            .collect();
        let is_ours = self.issuers.iter().any(|issuer| claims["iss"] == *issuer);
        if !in_time || audiences.is_empty() || !is_ours {
            return None;
        }
        let private = &claims["kubernetes.io"];
        let namespace = private["namespace"].as_str()?;
        let account = &private["serviceaccount"];
        alive(registry, "serviceaccounts", namespace, account)?;
        for (kind, plural) in BOUND_KINDS {
            let bound = &private[kind.to_lowercase()];
            // The node of a pod's token only tells where the pod was.
            let is_told = kind == "Node" && !private["pod"].is_null();
            if !bound.is_null() && !is_told {
                alive(registry, plural, namespace, bound)?;
            }
        }
        let name = account["name"].as_str()?;
        let user = User {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            uid: account["uid"].as_str().unwrap_or_default().to_owned(),
            groups: service_account_groups(namespace),
            extra: extra(&claims),
        };
        Some((user, audiences))
    }

    /// Answers `serviceaccounts/NAME/token`: the TokenRequest with its status.
    pub(crate) fn issue(
        &self,
        registry: &Registry,
        namespace: &str,
        name: &str,
        request: &Value,
    ) -> Result<Value, Failure> {
        check_identity(namespace, name, request)?;
        let account = object(registry, "serviceaccounts", namespace, name)
            .ok_or_else(|| status::not_found("", "serviceaccounts", name))?;
        let lifetime = lifetime(request)?;
        let audiences = match request["spec"]["audiences"].as_array() {
            Some(audiences) if !audiences.is_empty() => audiences.clone(),
            _ => self.audiences.iter().map(|audience| audience.as_str().into()).collect(),
        };
        let bound = bound(registry, namespace, name, &request["spec"]["boundObjectRef"])?;
        let now = Timestamp::now().as_second();
        let mut private = json!({
            "namespace": namespace,
            "serviceaccount": { "name": name, "uid": account["metadata"]["uid"] },
        });
        for (key, reference) in bound {
            private[key] = reference;
        }
        let claims = json!({
            "iss": self.issuer(), "aud": audiences, "jti": uuid(),
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "iat": now, "nbf": now, "exp": now + lifetime,
            "kubernetes.io": private,
        });
        let token = self.signer.sign(&claims);
        let token = token.ok_or_else(|| status::internal("no randomness to sign a token with"))?;
        let mut answer = request.clone();
        answer["kind"] = "TokenRequest".into();
        answer["apiVersion"] = "authentication.k8s.io/v1".into();
        answer["metadata"]["name"] = name.into();
        answer["metadata"]["namespace"] = namespace.into();
        answer["metadata"]["creationTimestamp"] = moment(now)?.into();
        answer["spec"]["audiences"] = audiences.into();
        answer["spec"]["expirationSeconds"] = lifetime.into();
        answer["status"] =
            json!({ "token": token, "expirationTimestamp": moment(now + lifetime)? });
        Ok(answer)
    }
}

/// 422 for a request that names another account than its path does.
fn check_identity(namespace: &str, name: &str, request: &Value) -> Result<(), Failure> {
    for (field, expected) in [("name", name), ("namespace", namespace)] {
        let said = request["metadata"][field].as_str().unwrap_or_default();
        if !said.is_empty() && said != expected {
            let error = FieldError {
                field: format!("metadata.{field}"),
                reason: CauseReason::Invalid,
                message: format!(
                    "Invalid value: {}: must match the service account {field} if specified",
                    status::quote(said)
                ),
            };
            return Err(status::invalid("authentication.k8s.io", "TokenRequest", name, &[error]));
        }
    }
    Ok(())
}

fn moment(second: i64) -> Result<String, Failure> {
    let time = Timestamp::from_second(second);
    time.map(|time| time.to_string()).map_err(|error| status::internal(&error.to_string()))
}

fn lifetime(request: &Value) -> Result<i64, Failure> {
    let lifetime = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_LIFETIME);
    let why = match lifetime {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(lifetime),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let error = FieldError {
        field: "spec.expirationSeconds".to_owned(),
        reason: CauseReason::Invalid,
        message: format!("Invalid value: {lifetime}: {why}"),
    };
    Err(status::invalid("authentication.k8s.io", "TokenRequest", "", &[error]))
}

/// The claims for `spec.boundObjectRef`, by name: of the object, and of the node of a pod.
fn bound(
    registry: &Registry,
    namespace: &str,
    account: &str,
    reference: &Value,
) -> Result<Vec<(String, Value)>, Failure> {
    if reference.is_null() {
        return Ok(Vec::new());
    }
    let kind = reference["kind"].as_str().unwrap_or_default();
    let name = reference["name"].as_str().unwrap_or_default();
    let version = reference["apiVersion"].as_str().unwrap_or_default();
    let known = BOUND_KINDS.iter().find(|(known, _)| *known == kind && !version.contains('/'));
    let Some((_, plural)) = known else {
        let text = format!("cannot bind token to object of type {}", go_kind(version, kind));
        return Err(status::bad_request(text));
    };
    let object = object(registry, plural, namespace, name)
        .ok_or_else(|| status::not_found("", plural, name))?;
    let uid = &object["metadata"]["uid"];
    let wanted = reference["uid"].as_str().unwrap_or_default();
    if !wanted.is_empty() && uid != wanted {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. \
             The object might have been deleted and then recreated"
        );
        return Err(status::conflict("", kind, name, &why));
    }
    if kind == "Pod" && object["spec"]["serviceAccountName"] != account {
        return Err(status::bad_request(format!(
            "cannot bind token for serviceaccount {} to pod running with different serviceaccount \
             name.",
            status::quote(account)
        )));
    }
    let mut claims = vec![(kind.to_lowercase(), json!({ "name": name, "uid": uid }))];
    if kind == "Pod"
        && let Some(node) = object["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())
    {
        let uid = self::object(registry, "nodes", "", node)
            .map(|node| node["metadata"]["uid"].clone())
            .unwrap_or_default();
        claims.push(("node".to_owned(), json!({ "name": node, "uid": uid })));
    }
    Ok(claims)
}

/// A kind as Go prints it: `GROUP/VERSION, Kind=KIND`.
fn go_kind(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

/// What the token tells besides the user: its id, and what it is bound to.
fn extra(claims: &Value) -> BTreeMap<String, Vec<String>> {
    let private = &claims["kubernetes.io"];
    let id = claims["jti"].as_str().map(|id| format!("JTI={id}"));
    let mut extra: BTreeMap<String, Vec<String>> =
        id.into_iter().map(|id| (CREDENTIAL_ID.to_owned(), vec![id])).collect();
    for kind in ["pod", "node"] {
        for part in ["name", "uid"] {
            if let Some(value) = private[kind][part].as_str() {
                let key = format!("authentication.kubernetes.io/{kind}-{part}");
                extra.insert(key, vec![value.to_owned()]);
            }
        }
    }
    extra
}

/// `Some` when the object of this reference (name, uid) is still the same one.
fn alive(registry: &Registry, plural: &str, namespace: &str, reference: &Value) -> Option<()> {
    let object = object(registry, plural, namespace, reference["name"].as_str()?)?;
    let metadata = &object["metadata"];
    let is_gone = metadata["deletionTimestamp"]
        .as_str()
        .and_then(|time| time.parse::<Timestamp>().ok())
        .is_some_and(|time| time.as_second() + CLOCK_SKEW < Timestamp::now().as_second());
    (metadata["uid"] == reference["uid"] && !is_gone).then_some(())
}

fn object(registry: &Registry, plural: &str, namespace: &str, name: &str) -> Option<Value> {
    let row = wire::kinds::find("", "v1", plural)?;
    let namespace = if row.namespaced { namespace } else { "" };
    serde_json::from_slice(&registry.get(row, namespace, name)?.json).ok()
}

/// Issuer and audience of our tokens, unless flags say otherwise.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Objects that a token can be bound to.
const BOUND_KINDS: [(&str, &str); 3] = [("Pod", "pods"), ("Secret", "secrets"), ("Node", "nodes")];
/// Seconds.
const DEFAULT_LIFETIME: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// Seconds by which clocks may differ, and for which a token outlives what it is bound to.
const CLOCK_SKEW: i64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_about_the_account_of_its_path() {
        let of = |metadata: Value| check_identity("n", "a", &json!({ "metadata": metadata }));
        assert_eq!(of(json!({ "name": "a", "namespace": "n" })), Ok(()));
        assert_eq!(of(Value::Null), Ok(()));
        let failure = of(json!({ "name": "b" })).unwrap_err();
        assert_eq!(failure.details["causes"][0]["field"], "metadata.name");
        assert_eq!(of(json!({ "namespace": "b" })).unwrap_err().code, 422);
    }

    #[test]
    fn kinds_are_printed_as_go_does() {
        assert_eq!(go_kind("v1", "ConfigMap"), "/v1, Kind=ConfigMap");
        assert_eq!(go_kind("apps/v1", "Deployment"), "apps/v1, Kind=Deployment");
    }

    #[test]
    fn lifetimes_have_bounds() {
        let of = |seconds: i64| lifetime(&json!({ "spec": { "expirationSeconds": seconds } }));
        assert_eq!(of(600), Ok(600));
        assert_eq!(lifetime(&json!({})), Ok(DEFAULT_LIFETIME));
        assert_eq!(of(599).unwrap_err().code, 422);
        assert!(of(LONGEST + 1).unwrap_err().message.contains("larger than 2^32"));
    }
}
