//! Who may use an address and port that several Services name.
//!
//! Cluster IPs and node ports are unique by the API, but `externalIPs`, load balancer addresses and
//! hand-written manifests are not. Upstream leaves open which Service wins; here it is the oldest,
//! then the first by name, and the others lose that frontend only and say so.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::net::IpAddr;

use model::{
    Family, Frontend, FrontendKind, Port, Protocol, Reason, ServiceName, ServiceView, Timestamp,
};

/// What only one Service can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Claim {
    Address(IpAddr, Protocol, Port),
    NodePort(Family, Protocol, Port),
}

impl Claim {
    fn of(frontend: &Frontend) -> Self {
        let (protocol, port) = (frontend.protocol, frontend.port);
        match frontend.kind {
            FrontendKind::ClusterIp(address)
            | FrontendKind::ExternalIp(address)
            | FrontendKind::LoadBalancer(address) => Self::Address(address, protocol, port),
            FrontendKind::NodePort(family) => Self::NodePort(family, protocol, port),
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(address, protocol, port) => {
                write!(f, "{} {protocol}", std::net::SocketAddr::new(*address, port.get()))
            }
            Self::NodePort(_, protocol, port) => write!(f, "node port {port} {protocol}"),
        }
    }
}

/// Every claim of every Service; the first claimant in order wins.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    claimants: BTreeSet<(Claim, Timestamp, ServiceName)>,
    /// Sorted, without doubles.
    of_service: BTreeMap<ServiceName, (Timestamp, Box<[Claim]>)>,
}

impl Claims {
    /// Replaces the claims of a Service (`None`: it is gone). Returns the other claimants of what it
    /// gave up or took.
    pub(crate) fn put(
        &mut self,
        name: &ServiceName,
        planned: Option<(Timestamp, &ServiceView)>,
    ) -> BTreeSet<ServiceName> {
        let new = planned.map(|(created, view)| {
            let claims: BTreeSet<Claim> = view.frontends.iter().map(Claim::of).collect();
            (created, claims.into_iter().collect::<Box<[Claim]>>())
        });
        if self.of_service.get(name) == new.as_ref() {
            return BTreeSet::new();
        }
        let mut others = BTreeSet::new();
        if let Some((created, claims)) = self.of_service.remove(name) {
            for claim in claims {
                self.claimants.remove(&(claim, created, name.clone()));
                others.extend(self.claimants(claim).cloned());
            }
        }
        if let Some((created, claims)) = new {
            for &claim in &claims {
                others.extend(self.claimants(claim).cloned());
                self.claimants.insert((claim, created, name.clone()));
            }
            self.of_service.insert(name.clone(), (created, claims));
        }
        others.remove(name);
        others
    }

    /// Takes the frontends that another Service has won out of a view, and reports them.
    pub(crate) fn withdraw_lost(&self, view: &mut ServiceView) {
        let ServiceView { name, frontends, report, .. } = view;
        frontends.retain(|frontend| {
            let claim = Claim::of(frontend);
            let Some(winner) = self.claimants(claim).next() else { return true };
            if winner != name {
                report.push(Reason::Other(format!("{claim} already belongs to Service {winner}")));
            }
            winner == name
        });
    }

    /// Fills the nodes of its maps, which are half empty after Services were put in order.
    pub(crate) fn fill_nodes(&mut self) {
        self.claimants = take(&mut self.claimants).into_iter().collect();
        self.of_service = take(&mut self.of_service).into_iter().collect();
    }

    /// Who claims something, in order.
    fn claimants(&self, claim: Claim) -> impl Iterator<Item = &ServiceName> {
        // Nothing comes before the earliest time and the empty name.
        let first = (claim, Timestamp(i64::MIN), ServiceName::default());
        let all = self.claimants.range(first..).take_while(move |(other, ..)| *other == claim);
        all.map(|(_, _, name)| name)
    }
}
