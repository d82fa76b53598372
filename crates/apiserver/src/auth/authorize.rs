//! May this user do that? And: acting as somebody else.

use http::HeaderMap;
use wire::status::{self, Failure};

use super::{ANONYMOUS, AUTHENTICATED};
use crate::api::User;
use crate::http::path::{ResourcePath, Target};

/// Refuses with 403 what the user may not do. `verb` is RBAC's word, or the method of a path
/// outside the API, in small letters.
pub(crate) fn authorize(
    user: &User,
    verb: &str,
    target: &Target,
    path: &str,
) -> Result<(), Failure> {
    if user.groups.iter().any(|group| group == AUTHENTICATED) {
        return Ok(());
    }
    match target {
        Target::Resource(resource) => Err(forbidden(user, verb, resource)),
        Target::Other if verb == "get" && is_public(path) => Ok(()),
        Target::Other => Err(status::forbidden_path(&format!(
            "User {} cannot {verb} path {}",
            status::quote(&user.name),
            status::quote(path)
        ))),
    }
}

/// The user named by `Impersonate-User` and `Impersonate-Group`, if any: with `authorize` as it
/// is, everybody who is authenticated may act as anybody.
pub(crate) fn impersonate(user: User, headers: &HeaderMap) -> Result<User, Failure> {
    let text = |name: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok().map(str::to_owned))
            .filter(|value| !value.is_empty())
            .collect::<Vec<_>>()
    };
    let mut groups = text("impersonate-group");
    let Some(name) = text("impersonate-user").into_iter().next() else {
        if groups.is_empty() {
            return Ok(user);
        }
        return Err(status::internal(&format!(
            "requested {} without impersonating a user",
            status::quote(&groups.join(","))
        )));
    };
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        let resource = ResourcePath {
            resource: "users".to_owned(),
            name: Some(name),
            ..ResourcePath::default()
        };
        return Err(forbidden(&user, "impersonate", &resource));
    }
    if name != ANONYMOUS && !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    Ok(User { name, groups })
}

fn forbidden(user: &User, verb: &str, target: &ResourcePath) -> Failure {
    let resource = match &target.subresource {
        Some(subresource) => format!("{}/{subresource}", target.resource),
        None => target.resource.clone(),
    };
    let scope = match &target.namespace {
        Some(namespace) => format!("in the namespace {}", status::quote(namespace)),
        None => "at the cluster scope".to_owned(),
    };
    let why = format!(
        "User {} cannot {verb} resource {} in API group {} {scope}",
        status::quote(&user.name),
        status::quote(&resource),
        status::quote(&target.group),
    );
    let name = target.name.as_deref().unwrap_or_default();
    status::forbidden(&target.group, &target.resource, name, &why)
}

/// What ClusterRole `system:public-info-viewer` opens to everybody.
fn is_public(path: &str) -> bool {
    ["/healthz", "/livez", "/readyz", "/version", "/version/"].contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::path;

    fn user(groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: ANONYMOUS.to_owned(), groups }
    }

    fn message(verb: &str, path: &str) -> String {
        authorize(&user(&[]), verb, &path::parse(path), path).unwrap_err().message
    }

    #[test]
    fn a_refusal_names_the_resource_and_its_scope() {
        assert_eq!(
            message("list", "/api/v1/namespaces/n/services"),
            "services is forbidden: User \"system:anonymous\" cannot list resource \"services\" \
             in API group \"\" in the namespace \"n\""
        );
        assert_eq!(
            message("get", "/apis/networking.k8s.io/v1/servicecidrs/kubernetes"),
            "servicecidrs.networking.k8s.io \"kubernetes\" is forbidden: User \
             \"system:anonymous\" cannot get resource \"servicecidrs\" in API group \
             \"networking.k8s.io\" at the cluster scope"
        );
    }

    #[test]
    fn health_and_version_are_open_and_nothing_else() {
        for path in ["/healthz", "/version"] {
            assert_eq!(authorize(&user(&[]), "get", &Target::Other, path), Ok(()));
        }
        assert_eq!(
            message("get", "/metrics"),
            "forbidden: User \"system:anonymous\" cannot get path \"/metrics\""
        );
    }

    #[test]
    fn the_authenticated_may() {
        let target = path::parse("/api/v1/nodes");
        assert_eq!(authorize(&user(&[AUTHENTICATED]), "list", &target, "/api/v1/nodes"), Ok(()));
    }

    #[test]
    fn somebody_without_credentials_is_nobody_else() {
        let headers = [("impersonate-user", "admin")];
        let headers = HeaderMap::from_iter(headers.map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        }));
        assert_eq!(impersonate(user(&[]), &headers).unwrap_err().code, 403);
        let other = impersonate(user(&[AUTHENTICATED]), &headers).unwrap();
        assert_eq!((other.name.as_str(), other.groups.len()), ("admin", 1));
    }
}
