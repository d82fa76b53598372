//! A network for one program and its children: for measuring the agent without a lab around it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::link::{Links, Route};
use crate::error::LabError;
use crate::sandbox;

/// The loopback link.
const LOOPBACK: &str = "lo";

/// Leaves the user's network for an empty one in which this process is root. Loopback is up and
/// has `addresses`; packets to `networks` leave over it with the source `source`, which is all
/// that the address of a Service needs to be reachable.
///
/// Only a process with a single thread can do that.
///
/// # Errors
/// [`LabError::Forbidden`] names the setting of this machine that forbids it.
pub fn alone(addresses: &[IpNet], networks: &[IpNet], source: IpAddr) -> Result<(), LabError> {
    sandbox::leave_network()?;
    let build = || {
        let mut links = Links::open()?;
        links.set_up(LOOPBACK, true)?;
        addresses.iter().try_for_each(|address| links.add_address(LOOPBACK, *address))?;
        networks.iter().try_for_each(|to| {
            links.add_route(&Route { to: *to, via: None, link: LOOPBACK, source: Some(source) })
        })
    };
    build().map_err(|source| LabError::Forbidden {
        what: "building a network in a namespace of one's own",
        remedy: "the kernel's answer says what is missing".to_owned(),
        source,
    })
}
