//! What is asked, and what the answer is.

use crate::api::User;

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    /// Who.
    pub(crate) user: &'a User,
    /// RBAC's word, or the method of a path in small letters.
    pub(crate) verb: &'a str,
    /// With what.
    pub(crate) asked: Asked<'a>,
}

/// A resource of the API, or a path outside it.
#[derive(Clone, Debug)]
pub(crate) enum Asked<'a> {
    /// A resource.
    Resource(Resource<'a>),
    /// A path.
    Path(&'a str),
}

/// A resource, an object or a subresource. What is not named is empty.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Resource<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl Resource<'_> {
    /// `pods` or `pods/log`.
    pub(super) fn combined(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Attributes<'_> {
    pub(super) fn namespace(&self) -> &str {
        match &self.asked {
            Asked::Resource(resource) => resource.namespace,
            Asked::Path(_) => "",
        }
    }
}

/// Whether something is allowed, and why; the reason may be empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    pub(crate) allowed: bool,
    pub(crate) reason: String,
}

impl Decision {
    pub(super) fn allow(reason: impl Into<String>) -> Self {
        Self { allowed: true, reason: reason.into() }
    }

    pub(super) fn no(reason: impl Into<String>) -> Self {
        Self { allowed: false, reason: reason.into() }
    }
}

/// API group of roles and bindings.
pub(crate) const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
