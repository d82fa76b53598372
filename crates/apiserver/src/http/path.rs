//! What a path means: a resource of the API, or something else.
//!
//! The rules are those of apiserver's `RequestInfoFactory`: a path is understood before it is
//! known whether such a resource is served, because a refusal names it either way.

use super::query::Query;
use crate::authz::Resource;

/// A path of the API, taken apart.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct ResourcePath {
    /// Whether it starts with the deprecated `watch/`.
    pub(crate) watch: bool,
    /// API group, empty for core.
    pub(crate) group: String,
    /// Version.
    pub(crate) version: String,
    /// Namespace, when the path names one.
    pub(crate) namespace: Option<String>,
    /// Plural name of the resource.
    pub(crate) resource: String,
    /// Name of the object.
    pub(crate) name: Option<String>,
    /// Subresource.
    pub(crate) subresource: Option<String>,
    /// What follows the subresource, without a leading slash; for `proxy`.
    pub(crate) rest: String,
}

impl ResourcePath {
    /// The resource as authorization knows it. A Namespace lies in itself, and a list narrowed to
    /// one name is about that name (`RequestInfoFactory`).
    pub(crate) fn authorized<'a>(&'a self, query: &'a Query) -> Resource<'a> {
        let own_name = self.name.as_deref();
        let selected = own_name.is_none().then(|| query.get("fieldSelector")).flatten();
        let selected = selected.and_then(|selector| {
            selector.split(',').find_map(|part| part.strip_prefix("metadata.name="))
        });
        let selected = selected.map(|name| name.strip_prefix('=').unwrap_or(name));
        let own_namespace = own_name.filter(|_| self.resource == "namespaces");
        Resource {
            group: &self.group,
            resource: &self.resource,
            subresource: self.subresource.as_deref().unwrap_or_default(),
            namespace: self.namespace.as_deref().or(own_namespace).unwrap_or_default(),
            name: own_name.or(selected).unwrap_or_default(),
        }
    }
}

/// What a path means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    /// A resource, an object or a subresource.
    Resource(ResourcePath),
    /// Discovery, health and all else.
    Other,
}

/// Takes a decoded path apart.
pub(crate) fn parse(path: &str) -> Target {
    // Slashes at both ends mean nothing; an empty part in between is a name that nothing has.
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, version, parts) = match parts.as_slice() {
        ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
        _ => return Target::Other,
    };
    let (watch, parts) = match parts {
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, parts),
    };
    let (namespace, parts) = match parts {
        ["namespaces", _] => (None, parts),
        ["namespaces", _, below, ..] if NAMESPACE_SUBRESOURCES.contains(below) => (None, parts),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
        _ => (None, parts),
    };
    let owned = |index: usize| parts.get(index).map(|part| (*part).to_owned());
    Target::Resource(ResourcePath {
        watch,
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.map(str::to_owned),
        resource: owned(0).unwrap_or_default(),
        name: owned(1),
        subresource: owned(2),
        rest: rest_of(path, parts),
    })
}

/// What follows the subresource, with the slashes as they were sent.
fn rest_of(path: &str, parts: &[&str]) -> String {
    let Some(rest) = parts.get(3..).filter(|rest| !rest.is_empty()) else {
        return String::new();
    };
    let slash = if path.ends_with('/') { "/" } else { "" };
    format!("{}{slash}", rest.join("/"))
}

/// Below `/api/v1/namespaces/NAME/` these are not resources in the Namespace.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match parse(path) {
            Target::Resource(path) => path,
            Target::Other => panic!("{path} is not a resource"),
        }
    }

    #[test]
    fn a_namespace_lies_in_itself_and_a_selected_name_counts() {
        let namespace = resource("/api/v1/namespaces/n");
        let query = Query::default();
        let asked = namespace.authorized(&query);
        assert_eq!((asked.namespace, asked.name), ("n", "n"));
        let list = resource("/api/v1/namespaces/n/secrets");
        let query = Query::parse("watch=1&fieldSelector=metadata.name%3Ds");
        let asked = list.authorized(&query);
        assert_eq!((asked.namespace, asked.name), ("n", "s"));
    }

    #[test]
    fn lists_objects_and_subresources_are_told_apart() {
        let list = resource("/api/v1/namespaces/ns/services/");
        assert_eq!((list.namespace.as_deref(), list.name.as_deref()), (Some("ns"), None));
        let object = resource("/apis/apps/v1/namespaces/ns/deployments/web");
        assert_eq!((object.group.as_str(), object.name.as_deref()), ("apps", Some("web")));
        let scale = resource("/apis/apps/v1/namespaces/ns/deployments/web/scale");
        assert_eq!(scale.subresource.as_deref(), Some("scale"));
    }

    #[test]
    fn an_empty_part_is_a_part() {
        assert_eq!(resource("/api/v1/namespaces/ns//services").resource, "");
        assert_eq!(resource("/api//v1/namespaces").resource, "v1");
        assert_eq!(resource("/api/v1/namespaces/ns/services/s/proxy//a//b/").rest, "/a//b/");
    }

    #[test]
    fn a_namespace_is_an_object_and_a_scope() {
        let object = resource("/api/v1/namespaces/ns");
        assert_eq!((object.resource.as_str(), object.name.as_deref()), ("namespaces", Some("ns")));
        assert_eq!(object.namespace, None);
        let status = resource("/api/v1/namespaces/ns/finalize");
        assert_eq!(status.subresource.as_deref(), Some("finalize"));
        assert_eq!(resource("/api/v1/namespaces/ns/pods").resource, "pods");
    }

    #[test]
    fn the_watch_prefix_is_taken_off() {
        let watch = resource("/api/v1/watch/namespaces/ns/services/a");
        assert!(watch.watch);
        assert_eq!((watch.resource.as_str(), watch.name.as_deref()), ("services", Some("a")));
    }

    #[test]
    fn the_rest_of_a_proxy_path_keeps_its_end() {
        assert_eq!(resource("/api/v1/namespaces/n/services/s:80/proxy/a/b/").rest, "a/b/");
        assert_eq!(resource("/api/v1/namespaces/n/services/s/proxy").rest, "");
    }

    #[test]
    fn discovery_is_not_a_resource() {
        for path in ["/api", "/api/v1", "/api/v1/", "/apis", "/apis/apps/v1", "/version", "/"] {
            assert_eq!(parse(path), Target::Other, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_taken_apart(text in "[/a-z%0-9é]{0,40}") {
            if let Some(path) = crate::percent::percent_decode(&text) {
                parse(&path);
            }
        }
    }
}
