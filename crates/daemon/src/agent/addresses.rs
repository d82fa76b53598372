//! The addresses of this machine's interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every address of every interface in this network namespace.
pub(crate) fn local_addresses() -> std::io::Result<BTreeSet<IpAddr>> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    Ok(interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() {
        let addresses = local_addresses().expect("interfaces can be listed");
        assert!(addresses.iter().any(IpAddr::is_loopback));
    }
}
