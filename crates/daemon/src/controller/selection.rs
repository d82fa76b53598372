//! Which controllers work: the flag `--controllers`, read as kube-controller-manager reads it.

use std::collections::BTreeSet;

use model::Kind;
use thiserror::Error;

use super::key::KINDS;

/// A controller that can be left out, by kube-controller-manager's name where that has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ControllerName {
    /// `endpointslice-controller`
    EndpointSlice,
    /// `endpoints-controller`
    Endpoints,
    /// `endpointslice-mirroring-controller`
    EndpointSliceMirroring,
    /// `deployment-controller`
    Deployment,
    /// `replicaset-controller`
    ReplicaSet,
    /// `service-lb-controller`: load balancer addresses (kube-controller-manager leaves them to a cloud's)
    ServiceLb,
    /// `node-lifecycle-controller`
    NodeLifecycle,
    /// `node-ipam-controller`
    NodeIpam,
    /// `namespace-controller`
    Namespace,
    /// `garbage-collector-controller`
    GarbageCollector,
    /// `scheduler`: a program of its own in Kubernetes
    Scheduler,
}

impl ControllerName {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::EndpointSlice,
        Self::Endpoints,
        Self::EndpointSliceMirroring,
        Self::Deployment,
        Self::ReplicaSet,
        Self::ServiceLb,
        Self::NodeLifecycle,
        Self::NodeIpam,
        Self::Namespace,
        Self::GarbageCollector,
        Self::Scheduler,
    ];

    /// The name that people write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EndpointSlice => "endpointslice-controller",
            Self::Endpoints => "endpoints-controller",
            Self::EndpointSliceMirroring => "endpointslice-mirroring-controller",
            Self::Deployment => "deployment-controller",
            Self::ReplicaSet => "replicaset-controller",
            Self::ServiceLb => "service-lb-controller",
            Self::NodeLifecycle => "node-lifecycle-controller",
            Self::NodeIpam => "node-ipam-controller",
            Self::Namespace => "namespace-controller",
            Self::GarbageCollector => "garbage-collector-controller",
            Self::Scheduler => "scheduler",
        }
    }

    /// The kinds that it looks at.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::EndpointSlice => &[Kind::Service, Kind::EndpointSlice, Kind::Pod, Kind::Node],
            Self::Endpoints => &[Kind::Service, Kind::Endpoints, Kind::Pod, Kind::Node],
            Self::EndpointSliceMirroring => &[Kind::Service, Kind::Endpoints, Kind::EndpointSlice],
            Self::Deployment => &[Kind::Deployment, Kind::ReplicaSet, Kind::Pod],
            Self::ReplicaSet => &[Kind::ReplicaSet, Kind::Pod],
            Self::ServiceLb => &[Kind::Service, Kind::Node],
            Self::NodeLifecycle => &[Kind::Node, Kind::Pod],
            Self::NodeIpam => &[Kind::Node],
            Self::Namespace | Self::GarbageCollector => &KINDS,
            Self::Scheduler => &[Kind::Pod, Kind::Node, Kind::Namespace],
        }
    }

    fn named(name: &str) -> Result<Self, UnknownController> {
        let found = Self::ALL.into_iter().find(|controller| controller.as_str() == name);
        found.ok_or_else(|| UnknownController { name: name.to_owned() })
    }
}

/// A name that no controller has.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "there is no controller {name:?}; there are {}",
    ControllerName::ALL.map(ControllerName::as_str).join(", ")
)]
pub struct UnknownController {
    name: String,
}

/// The controllers that work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection(BTreeSet<ControllerName>);

impl Selection {
    /// Every controller.
    pub fn all() -> Self {
        Self(ControllerName::ALL.into())
    }

    /// `*` stands for all that are on by default, `NAME` for one, `-NAME` leaves one out,
    /// whatever the order.
    ///
    /// # Errors
    /// When a name is no controller's.
    pub fn of(
        wanted: &[impl AsRef<str>],
        off_by_default: &[ControllerName],
    ) -> Result<Self, UnknownController> {
        let (mut on, mut off) = (BTreeSet::new(), BTreeSet::new());
        for word in wanted.iter().map(AsRef::as_ref) {
            match word.strip_prefix('-') {
                _ if word == "*" => {
                    let all = ControllerName::ALL.into_iter();
                    on.extend(all.filter(|controller| !off_by_default.contains(controller)));
                }
                Some(name) => {
                    off.insert(ControllerName::named(name)?);
                }
                None => {
                    on.insert(ControllerName::named(word)?);
                }
            }
        }
        Ok(Self(&on - &off))
    }

    /// Whether none works.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The kinds that they look at, and so need rights to list and watch.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let wanted = |kind: &Kind| self.0.iter().any(|name| name.kinds().contains(kind));
        KINDS.into_iter().filter(wanted).collect()
    }

    /// Whether they look at the metadata of objects of every kind.
    pub(crate) fn sees_everything(&self) -> bool {
        self.contains(ControllerName::Namespace) || self.contains(ControllerName::GarbageCollector)
    }

    /// Whether this one works.
    pub fn contains(&self, controller: ControllerName) -> bool {
        self.0.contains(&controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(wanted: &[&str]) -> Vec<ControllerName> {
        let selection = Selection::of(wanted, &[ControllerName::Scheduler]).expect("is valid");
        selection.0.into_iter().collect()
    }

    #[test]
    fn a_star_stands_for_what_is_on_by_default() {
        assert_eq!(selected(&["*"]).len(), ControllerName::ALL.len() - 1);
        assert!(!selected(&["*"]).contains(&ControllerName::Scheduler));
        assert_eq!(selected(&["*", "scheduler"]).len(), ControllerName::ALL.len());
    }

    #[test]
    fn a_minus_wins_wherever_it_stands() {
        let without = selected(&["-namespace-controller", "*", "namespace-controller"]);
        assert!(!without.contains(&ControllerName::Namespace));
        assert!(without.contains(&ControllerName::Endpoints));
    }

    #[test]
    fn one_name_is_one_controller() {
        assert_eq!(selected(&["service-lb-controller"]), [ControllerName::ServiceLb]);
    }

    #[test]
    fn only_what_is_looked_at_is_watched() {
        let addresses = Selection(BTreeSet::from([ControllerName::ServiceLb]));
        assert_eq!(addresses.kinds(), [Kind::Service, Kind::Node]);
        assert!(!addresses.sees_everything());
        assert_eq!(Selection::all().kinds(), KINDS);
    }

    #[test]
    fn an_unknown_name_is_told_with_the_known_ones() {
        let error = Selection::of(&["*", "-nothing"], &[]).expect_err("is refused").to_string();
        assert!(error.contains("\"nothing\"") && error.contains("namespace-controller"), "{error}");
    }
}
