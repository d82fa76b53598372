//! Which address or port number a Service gets (semantics 2.2 and 2.3, KEP-3070).
//!
//! A range is cut in two bands. The lower one is left to people who ask for a
//! certain value; automatic choice starts at a random place of the upper band,
//! scans to its end, wraps to its start, and only then looks into the lower band
//! in the same way. Nothing is remembered here: the caller says what is in use
//! and hands in the random start, and reserving the answer is its business too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use model::{Family, NodePort};

/// The addresses of one ServiceCIDR that Services may get.
///
/// Neither the network address nor, with IPv4, the broadcast address is usable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AddressRange {
    network: IpNet,
}

/// Why a requested value cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StaticRefusal {
    /// It is outside the range, or an address that no Service may have.
    NotInRange,
    /// Somebody has it.
    Allocated,
}

impl AddressRange {
    /// The range of a ServiceCIDR; host bits are ignored.
    pub fn new(network: IpNet) -> Self {
        Self { network: network.trunc() }
    }

    /// The network as given, without host bits.
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// Its address family.
    pub fn family(&self) -> Family {
        Family::of(self.network.network())
    }

    /// The lowest usable address (`default/kubernetes` takes it in the primary range).
    pub fn first(&self) -> Option<IpAddr> {
        (self.count() > 0).then(|| self.at(0))
    }

    /// How many addresses are usable; saturates for networks wider than /1.
    pub fn count(&self) -> u128 {
        let unusable = match self.family() {
            Family::V4 => 2,
            Family::V6 => 1,
        };
        self.size().saturating_sub(unusable)
    }

    /// How many of them, from the lowest, are kept for static use by preference.
    pub fn lower_band(&self) -> u128 {
        band(self.size(), 16, 256).min(self.count())
    }

    /// Whether a Service may have this address (A1).
    pub fn is_usable(&self, address: IpAddr) -> bool {
        self.index(address).is_some_and(|index| index < self.count())
    }

    /// Whether a requested address can be had.
    ///
    /// # Errors
    ///
    /// When it is not usable, or in use.
    pub fn check_static(
        &self,
        address: IpAddr,
        is_used: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), StaticRefusal> {
        if !self.is_usable(address) {
            return Err(StaticRefusal::NotInRange);
        }
        if is_used(address) {
            return Err(StaticRefusal::Allocated);
        }
        Ok(())
    }

    /// The free address that comes first from `start`, any random number; `None` when full.
    ///
    /// To go on after somebody else was faster, mark that address as used and ask again with the
    /// same start.
    pub fn pick(&self, start: u128, mut is_used: impl FnMut(IpAddr) -> bool) -> Option<IpAddr> {
        scan(self.lower_band(), self.count(), start, |index| !is_used(self.at(index)))
            .map(|index| self.at(index))
    }

    /// All addresses of the network, usable or not.
    fn size(&self) -> u128 {
        let host_bits = u32::from(self.network.max_prefix_len() - self.network.prefix_len());
        1u128.checked_shl(host_bits).unwrap_or(u128::MAX)
    }

    /// The usable address at a position; `index` is below [`Self::count`].
    fn at(&self, index: u128) -> IpAddr {
        match self.network.network() {
            IpAddr::V4(network) => {
                let index = u32::try_from(index).unwrap_or(u32::MAX);
                IpAddr::V4(Ipv4Addr::from_bits(network.to_bits().saturating_add(1 + index)))
            }
            IpAddr::V6(network) => {
                IpAddr::V6(Ipv6Addr::from_bits(network.to_bits().saturating_add(1 + index)))
            }
        }
    }

    /// The position of an address of the network, `None` for the network address and others.
    fn index(&self, address: IpAddr) -> Option<u128> {
        let distance = match (self.network.network(), address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                u128::from(address.to_bits().checked_sub(network.to_bits())?)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                address.to_bits().checked_sub(network.to_bits())?
            }
            _ => return None,
        };
        distance.checked_sub(1)
    }
}

/// The node ports that Services may get; health check node ports come from it too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    first: NodePort,
    last: NodePort,
}

impl PortRange {
    /// From the lowest to the highest port, both included; swapped when the wrong way round.
    pub fn new(range: RangeInclusive<NodePort>) -> Self {
        let (first, last) = range.into_inner();
        Self { first: first.min(last), last: first.max(last) }
    }

    /// The lowest port.
    pub fn first(&self) -> NodePort {
        self.first
    }

    /// The highest port.
    pub fn last(&self) -> NodePort {
        self.last
    }

    /// How many ports there are.
    pub fn count(&self) -> u16 {
        (self.last.get() - self.first.get()).saturating_add(1)
    }

    /// How many of them, from the lowest, are kept for static use by preference.
    pub fn lower_band(&self) -> u16 {
        u16::try_from(band(u128::from(self.count()), 32, 128)).unwrap_or(128).min(self.count())
    }

    /// Whether the port lies in the range.
    pub fn contains(&self, port: NodePort) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether a requested port can be had.
    ///
    /// # Errors
    ///
    /// When it is outside the range, or in use.
    pub fn check_static(
        &self,
        port: NodePort,
        is_used: impl FnOnce(NodePort) -> bool,
    ) -> Result<(), StaticRefusal> {
        if !self.contains(port) {
            return Err(StaticRefusal::NotInRange);
        }
        if is_used(port) {
            return Err(StaticRefusal::Allocated);
        }
        Ok(())
    }

    /// The free port that comes first from `start`, any random number; `None` when full.
    pub fn pick(&self, start: u128, mut is_used: impl FnMut(NodePort) -> bool) -> Option<NodePort> {
        let at = |index: u128| self.first.saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
        let is_free = |index| !is_used(at(index));
        scan(u128::from(self.lower_band()), u128::from(self.count()), start, is_free).map(at)
    }
}

/// Size of the lower band: nothing up to 16 values, else `size / step` within 16 and `max`.
fn band(size: u128, step: u128, max: u128) -> u128 {
    if size <= 16 { 0 } else { (size / step).clamp(16, max) }
}

/// Scans `lower..count` and then `0..lower`, each from `start` to the end and from its beginning.
/// A2.
fn scan(
    lower: u128,
    count: u128,
    start: u128,
    mut is_free: impl FnMut(u128) -> bool,
) -> Option<u128> {
    [lower..count, 0..lower].into_iter().filter(|band| !band.is_empty()).find_map(|band| {
        let from = band.start + start % (band.end - band.start);
        (from..band.end).chain(band.start..from).find(|index| is_free(*index))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> AddressRange {
        AddressRange::new(text.parse().unwrap())
    }

    fn ports(first: u16, last: u16) -> PortRange {
        PortRange::new(NodePort::new(first).unwrap()..=NodePort::new(last).unwrap())
    }

    #[test]
    fn bands_have_the_documented_sizes() {
        // A2.
        for (network, usable, lower) in [
            ("10.0.0.0/28", 14, 0),
            ("10.0.0.0/27", 30, 16),
            ("10.0.0.0/24", 254, 16),
            ("10.0.0.0/20", 4094, 256),
            ("10.0.0.0/16", 65534, 256),
            ("10.0.0.0/32", 0, 0),
            ("fd00::/112", 65535, 256),
            ("fd00::/64", (1 << 64) - 1, 256),
        ] {
            assert_eq!((range(network).count(), range(network).lower_band()), (usable, lower));
        }
        assert_eq!(ports(30000, 32767).lower_band(), 86);
        assert_eq!(ports(30000, 30015).lower_band(), 0);
    }

    #[test]
    fn the_broadcast_address_is_usable_with_ipv6_only() {
        // A1.
        assert!(!range("10.0.0.0/24").is_usable("10.0.0.255".parse().unwrap()));
        assert!(range("fd00::/120").is_usable("fd00::ff".parse().unwrap()));
        assert!(!range("fd00::/120").is_usable("fd00::".parse().unwrap()));
        assert!(!range("10.0.0.0/24").is_usable("fd00::1".parse().unwrap()));
    }

    #[test]
    fn the_lower_band_is_used_only_when_the_upper_one_is_full() {
        // A2.
        let range = range("10.0.0.0/24");
        let last_upper: IpAddr = "10.0.0.200".parse().unwrap();
        let first_upper: IpAddr = "10.0.0.17".parse().unwrap();
        let free_in_upper = |address| address != last_upper && address >= first_upper;
        assert_eq!(range.pick(12345, free_in_upper), Some(last_upper));
        let lower = range.pick(18, |address| address >= first_upper).unwrap();
        assert_eq!(lower, "10.0.0.3".parse::<IpAddr>().unwrap());
        assert_eq!(range.pick(18, |_| true), None);
    }

    #[test]
    fn a_static_value_may_come_from_either_band() {
        // A3.
        let range = range("10.0.0.0/24");
        assert_eq!(range.check_static("10.0.0.1".parse().unwrap(), |_| false), Ok(()));
        assert_eq!(range.check_static("10.0.0.254".parse().unwrap(), |_| false), Ok(()));
        let taken = range.check_static("10.0.0.9".parse().unwrap(), |_| true);
        assert_eq!(taken, Err(StaticRefusal::Allocated));
        let outside = range.check_static("10.0.1.9".parse().unwrap(), |_| false);
        assert_eq!(outside, Err(StaticRefusal::NotInRange));
    }

    #[test]
    fn the_widest_ranges_do_not_overflow() {
        assert!(range("::/0").pick(u128::MAX, |_| false).is_some());
        assert!(range("0.0.0.0/0").pick(u128::MAX, |_| false).is_some());
        assert_eq!(ports(1, 65535).count(), 65535);
    }

    proptest! {
        #[test]
        fn picking_hands_out_every_usable_address_once(prefix in 25u8..=32, start: u128) {
            let range = range(&format!("10.1.4.0/{prefix}"));
            let mut used = BTreeSet::new();
            while let Some(address) = range.pick(start, |address| used.contains(&address)) {
                prop_assert!(range.is_usable(address));
                prop_assert!(used.insert(address));
            }
            prop_assert_eq!(used.len() as u128, range.count());
        }

        #[test]
        fn picking_prefers_the_upper_band(start: u128, used in 0u16..2000) {
            let range = ports(30000, 32767);
            let taken = |port: NodePort| port.get() >= 30086 && port.get() < 30086 + used;
            let port = range.pick(start, taken).unwrap();
            prop_assert!(port.get() >= 30086 + used && range.contains(port));
        }
    }
}
