//! `--authorization-mode`.

use std::str::FromStr;

use thiserror::Error;

/// Who decides what users may do. Members of `system:masters` may do everything in every mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthorizationMode {
    /// Everybody may do everything.
    AlwaysAllow,
    /// Nobody may do anything.
    AlwaysDeny,
    /// Nodes may do what kubelets need.
    Node,
    /// Roles and bindings decide.
    Rbac,
}

impl AuthorizationMode {
    /// All modes, with the names that the flag has for them.
    pub const ALL: [(&str, Self); 4] = [
        ("AlwaysAllow", Self::AlwaysAllow),
        ("AlwaysDeny", Self::AlwaysDeny),
        ("Node", Self::Node),
        ("RBAC", Self::Rbac),
    ];
}

impl FromStr for AuthorizationMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode);
        found.ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// A mode that this server does not have.
#[derive(Debug, Error)]
#[error("no authorization mode {0:?} here; there are AlwaysAllow, AlwaysDeny, Node and RBAC")]
pub struct UnknownMode(String);
