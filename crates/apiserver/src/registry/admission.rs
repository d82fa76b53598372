//! What kube-apiserver's admission plugins do to requests, as far as it matters here.

use serde_json::Value;
use wire::kinds::Kind;
use wire::status;

use super::Registry;
use crate::api::Request;
use crate::definitions::DEFINITIONS;
use crate::meta;
use crate::refusal::Outcome;
use crate::store::Key;

/// Namespaces that cannot be deleted (plugin `NamespaceLifecycle`).
const IMMORTAL_NAMESPACES: [&str; 3] = ["default", "kube-system", "kube-public"];

impl Registry {
    /// `NamespaceLifecycle`: nothing is created in a Namespace that is missing (404) or being
    /// deleted (403). The answer is the Namespace's version, which must still hold when the
    /// object is written.
    pub(super) fn admit_namespace(
        &self,
        request: &Request,
        name: &str,
    ) -> Outcome<Option<(Key, u64)>> {
        let row = &request.kind;
        if !row.namespaced() {
            return Ok(None);
        }
        let namespace = request.namespace();
        let key = self.namespace_key(namespace);
        let record =
            self.store.get(&key).ok_or_else(|| status::not_found("", "namespaces", namespace))?;
        if meta::is_deleting(&record.value()) {
            let failure = status::namespace_terminating(row.group(), row.plural(), name, namespace);
            return Err(failure.into());
        }
        Ok(Some((key, record.version)))
    }

    /// `NamespaceLifecycle`: some Namespaces stay.
    pub(super) fn admit_delete(&self, row: &Kind, name: &str) -> Outcome<()> {
        if self.is_namespace(row) && IMMORTAL_NAMESPACES.contains(&name) {
            let why = "this namespace may not be deleted";
            return Err(status::forbidden(row.group(), row.plural(), name, why).into());
        }
        Ok(())
    }

    /// `DenyServiceExternalIPs`: none may be added (S25).
    pub(super) fn admit_external_ips(
        &self,
        row: &Kind,
        new: &Value,
        old: Option<&Value>,
    ) -> Outcome<()> {
        if !self.config.deny_external_ips || !self.is_service(row) {
            return Ok(());
        }
        let ips = |object: &Value| object["spec"]["externalIPs"].as_array().cloned();
        let known = old.and_then(ips).unwrap_or_default();
        let added = ips(new).unwrap_or_default().iter().any(|ip| !known.contains(ip));
        if added {
            let why = "Use of external IPs is denied by admission control";
            let name = meta::text(new, "name");
            return Err(status::forbidden(row.group(), row.plural(), name, why).into());
        }
        Ok(())
    }

    /// Where a Namespace is.
    pub(super) fn namespace_key(&self, name: &str) -> Key {
        Key::new(self.namespaces, "", name)
    }

    /// Whether the row is `namespaces`.
    pub(super) fn is_namespace(&self, row: &Kind) -> bool {
        row.group().is_empty() && row.plural() == "namespaces"
    }

    /// Whether the row is `customresourcedefinitions`.
    pub(super) fn is_definition(&self, row: &Kind) -> bool {
        (row.group(), row.plural()) == DEFINITIONS
    }

    /// Whether the row is `services`.
    pub(super) fn is_service(&self, row: &Kind) -> bool {
        row.group().is_empty() && row.plural() == "services"
    }
}
