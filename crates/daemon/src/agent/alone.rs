//! Tells of a second agent on the same node.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// An abstract name, of which each network namespace has its own.
const NAME: &str = "portolan-agent";

/// Holds the name while the agent runs; it goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Alone {
    _name: Option<UnixListener>,
}

impl Alone {
    /// Two agents with the same settings do no harm to each other, as when one takes the other's
    /// place; with different settings each undoes what the other does.
    pub(crate) fn claim() -> Self {
        let bound =
            SocketAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name));
        match &bound {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tracing::warn!(
                "another agent programs this node already: with other settings than its, each undoes \
                 what the other does"
            ),
            Err(error) => tracing::debug!(%error, "cannot tell whether there is another agent"),
            Ok(_) => {}
        }
        Self { _name: bound.ok() }
    }
}
