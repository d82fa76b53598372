//! How many Services ignore connections because their policy is Local and no endpoint is here.

use std::collections::{BTreeMap, BTreeSet};

use model::{Action, Family, FrontendKind, NodeView, Reason, ServiceName, ServiceView};

/// Which policy ignores them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Policy {
    /// `internalTrafficPolicy`.
    Internal,
    /// `externalTrafficPolicy`.
    External,
}

/// Counts that follow the view, Service by Service.
#[derive(Debug, Default)]
pub(crate) struct NoLocal {
    services: BTreeMap<ServiceName, BTreeSet<(Family, Policy)>>,
    counts: BTreeMap<(Family, Policy), i64>,
}

impl NoLocal {
    /// Looks at Services that have changed.
    pub(crate) fn update(&mut self, changed: &BTreeSet<ServiceName>, view: &NodeView) {
        for name in changed {
            for key in self.services.remove(name).into_iter().flatten() {
                *self.counts.entry(key).or_default() -= 1;
            }
            let ignored = view.services.get(name).map(|view| ignored(view)).unwrap_or_default();
            for key in &ignored {
                *self.counts.entry(*key).or_default() += 1;
            }
            if !ignored.is_empty() {
                self.services.insert(name.clone(), ignored);
            }
        }
    }

    /// Services by family and policy.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (Family, Policy, i64)> + '_ {
        Family::ALL.into_iter().flat_map(|family| {
            [Policy::Internal, Policy::External].map(|policy| {
                (family, policy, self.counts.get(&(family, policy)).copied().unwrap_or_default())
            })
        })
    }
}

fn ignored(view: &ServiceView) -> BTreeSet<(Family, Policy)> {
    let dropped = |action: &Action| *action == Action::Drop(Reason::NoLocalEndpoints);
    let frontends = view.frontends.iter().filter(|frontend| dropped(&frontend.external));
    frontends
        .map(|frontend| match frontend.kind {
            FrontendKind::ClusterIp(address) => (Family::of(address), Policy::Internal),
            FrontendKind::ExternalIp(address) | FrontendKind::LoadBalancer(address) => {
                (Family::of(address), Policy::External)
            }
            FrontendKind::NodePort(family) => (family, Policy::External),
        })
        .collect()
}
