//! Why something was decided, as data.

use std::fmt;

/// A decision's reason. `explain`, metrics, events and conditions print it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Reason {
    /// ExternalName Services have no dataplane (D3).
    ExternalName,
    /// Headless Services are found by DNS only (D3).
    Headless,
    /// No cluster IP has been allocated yet.
    NoClusterIp,
    /// Label `service.kubernetes.io/service-proxy-name` hands it to another proxy (D1).
    OtherProxy(String),
    /// No ready endpoint and none that serves while terminating (D23).
    NoEndpoints,
    /// Policy Local and no endpoint on this node (D22).
    NoLocalEndpoints,
    /// Only terminating endpoints are left, they serve (D21).
    TerminatingFallback,
    /// Hints restrict to this node's endpoints (D20).
    NodeHints,
    /// Hints restrict to this zone's endpoints (D20).
    ZoneHints,
    /// The source is outside `loadBalancerSourceRanges` (D26).
    SourceRange,
    /// An ingress of ipMode Proxy or a hostname is not handled by nodes (D8).
    IngressNotVip,
    /// The destination port is not declared on this cluster IP (semantics 4.6).
    UndeclaredPort,
    /// The address lies in a ServiceCIDR and belongs to no Service (semantics 4.6).
    UnallocatedAddress,
    /// Not handled by Services at all.
    NotAService,
    /// Anything else, for people.
    Other(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExternalName => f.write_str("type ExternalName has no address, only a DNS alias"),
            Self::Headless => f.write_str("headless (clusterIP: None): clients use DNS"),
            Self::NoClusterIp => f.write_str("no cluster IP has been allocated"),
            Self::OtherProxy(name) => write!(f, "label service-proxy-name hands it to {name:?}"),
            Self::NoEndpoints => f.write_str("no endpoint is ready"),
            Self::NoLocalEndpoints => {
                f.write_str("the traffic policy is Local and no endpoint is on this node")
            }
            Self::TerminatingFallback => {
                f.write_str("no endpoint is ready; terminating ones still serve")
            }
            Self::NodeHints => f.write_str("topology hints keep the traffic on this node"),
            Self::ZoneHints => f.write_str("topology hints keep the traffic in this zone"),
            Self::SourceRange => f.write_str("the source is not in loadBalancerSourceRanges"),
            Self::IngressNotVip => {
                f.write_str("this load balancer delivers by itself (ipMode Proxy or a hostname)")
            }
            Self::UndeclaredPort => f.write_str("the Service does not declare this port"),
            Self::UnallocatedAddress => f.write_str("no Service owns this cluster IP"),
            Self::NotAService => f.write_str("not an address of a Service"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The reasons that go with a result, in the order in which they were found.
pub type Report = Vec<Reason>;

/// A result with its reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reported<T> {
    /// The result.
    pub value: T,
    /// Why it is what it is.
    pub report: Report,
}
