//! Acting as somebody else: headers `Impersonate-User`, `-Group`, `-Uid` and `-Extra-*`
//! (apiserver `filters/impersonation.go`).

use std::collections::BTreeMap;

use http::HeaderMap;
use wire::status::{self, Failure, quote};

use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED};
use crate::api::User;
use crate::authz::{Asked, Attributes, Authorizer, Resource};
use crate::percent::percent_decode;

/// The user named by the headers; `None` when they name nobody.
///
/// # Errors
///
/// 403 when `user` may not be each of what is named (verb `impersonate`), 500 when no user is.
pub(crate) fn impersonate(
    user: &User,
    headers: &HeaderMap,
    authorizer: &Authorizer,
) -> Result<Option<User>, Failure> {
    let name = texts(headers, USER).into_iter().next().unwrap_or_default();
    let mut groups = texts(headers, GROUP);
    let uid = texts(headers, UID).into_iter().next().unwrap_or_default();
    let extra = extra(headers);
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        let wanted = if groups.is_empty() { uid } else { groups.join(",") };
        let why = format!("requested {} without impersonating a user", quote(&wanted));
        return Err(status::internal(&why));
    }
    let account = service_account(&name);
    match account {
        Some((namespace, name)) => {
            let resource = Resource { namespace, name, ..resource("", "serviceaccounts") };
            check(authorizer, user, resource)?;
        }
        None => check(authorizer, user, Resource { name: &name, ..resource("", "users") })?,
    }
    for group in &groups {
        check(authorizer, user, Resource { name: group, ..resource("", "groups") })?;
    }
    if !uid.is_empty() {
        check(authorizer, user, Resource { name: &uid, ..resource(AUTHENTICATION, "uids") })?;
    }
    for (key, values) in &extra {
        for value in values {
            let resource = resource(AUTHENTICATION, "userextras");
            check(authorizer, user, Resource { subresource: key, name: value, ..resource })?;
        }
    }
    if let Some((namespace, _)) = account
        && groups.is_empty()
    {
        groups = super::service_account_groups(namespace);
    }
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    if name == ANONYMOUS {
        if !has(UNAUTHENTICATED) {
            groups.push(UNAUTHENTICATED.to_owned());
        }
    } else if !has(AUTHENTICATED) && !has(UNAUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    Ok(Some(User { name, uid, groups, extra }))
}

fn check(authorizer: &Authorizer, user: &User, resource: Resource<'_>) -> Result<(), Failure> {
    let asked = Asked::Resource(resource);
    authorizer.authorize(&Attributes { user, verb: "impersonate", asked }).map(drop)
}

fn resource(group: &'static str, resource: &'static str) -> Resource<'static> {
    Resource { group, resource, ..Resource::default() }
}

/// Namespace and name of the ServiceAccount that a user is.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn texts(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

fn extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let Ok(value) = value.to_str() else { continue };
        let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
        extra.entry(key).or_default().push(value.to_owned());
    }
    extra
}

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_is_told_by_its_user_name() {
        assert_eq!(service_account("system:serviceaccount:n:s"), Some(("n", "s")));
        for name in ["admin", "system:serviceaccount:n", "system:serviceaccount::s"] {
            assert_eq!(service_account(name), None, "{name}");
        }
    }

    #[test]
    fn keys_of_extra_values_are_percent_decoded() {
        let mut headers = HeaderMap::new();
        for value in ["a", "b"] {
            let name = http::HeaderName::from_static("impersonate-extra-example.com%2fkey");
            headers.append(name, http::HeaderValue::from_static(value));
        }
        assert_eq!(extra(&headers)["example.com/key"], ["a", "b"]);
    }
}
