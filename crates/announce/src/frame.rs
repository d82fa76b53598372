//! ARP and Neighbour Discovery on Ethernet: parsing questions, building answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv6::{Icmpv6PayloadSlice, NeighborAdvertisementHeader};
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, ArpPacket, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};

/// An Ethernet address.
pub type MacAddress = [u8; 6];

/// A whole Ethernet frame, ready to send.
pub type Frame = Vec<u8>;

/// "Who has this address?", by ARP or Neighbour Solicitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Query {
    /// The address asked for.
    pub target: IpAddr,
    /// Where the answer goes.
    pub asker_mac: MacAddress,
    /// Who asks; the unspecified address for a duplicate address probe (RFC 5227, RFC 4862).
    pub asker: IpAddr,
}

/// Ethernet broadcast.
const BROADCAST: MacAddress = [0xff; 6];
/// ff02::1, all nodes on the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Hop limit that proves a Neighbour Discovery packet never left the link (RFC 4861, 7.1.1).
const ND_HOP_LIMIT: u8 = 255;
/// Target Link-Layer Address option of Neighbour Discovery (RFC 4861, 4.6.1).
const OPTION_TARGET_LINK_LAYER: u8 = 2;

impl Query {
    /// Reads a received frame. `None` for everything that is not a well-formed question.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let sender = packet.link.as_ref()?.to_header()?.ethernet2()?.source;
        match packet.net? {
            NetSlice::Arp(arp) => Self::from_arp(&arp.to_packet()),
            NetSlice::Ipv6(ip) if ip.header().hop_limit() == ND_HOP_LIMIT => {
                let source = ip.header().source_addr();
                let destination = ip.header().destination_addr();
                let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { return None };
                if !icmp.is_checksum_valid(source.octets(), destination.octets()) {
                    return None;
                }
                let Ok(Icmpv6PayloadSlice::NeighborSolicitation(body)) = icmp.payload_slice()
                else {
                    return None;
                };
                Some(Self {
                    target: body.target_address().into(),
                    asker_mac: sender,
                    asker: source.into(),
                })
            }
            _ => None,
        }
    }

    fn from_arp(packet: &ArpPacket) -> Option<Self> {
        let arp = packet.try_eth_ipv4().ok()?;
        // A gratuitous announcement asks for the sender's own address: nobody answers it.
        if arp.operation != ArpOperation::REQUEST || arp.sender_ipv4 == arp.target_ipv4 {
            return None;
        }
        Some(Self {
            target: arp.target_ipv4_addr().into(),
            asker_mac: arp.sender_mac,
            asker: arp.sender_ipv4_addr().into(),
        })
    }

    /// The answer that `mac` has the address.
    pub fn answer(&self, mac: MacAddress) -> Frame {
        match (self.target, self.asker) {
            (IpAddr::V4(target), IpAddr::V4(asker)) => {
                arp(ArpOperation::REPLY, mac, target, self.asker_mac, asker, self.asker_mac)
            }
            (IpAddr::V6(target), IpAddr::V6(asker)) if !asker.is_unspecified() => {
                neighbour_advertisement(mac, target, self.asker_mac, asker, true)
            }
            // A duplicate address probe has no source to answer to (RFC 4861, 7.2.4).
            (IpAddr::V6(target), _) => unsolicited_advertisement(mac, target),
            (IpAddr::V4(target), IpAddr::V6(_)) => gratuitous_arp(mac, target),
        }
    }
}

/// "From now on `mac` has `address`", to everybody on the link.
pub(crate) fn announcement(mac: MacAddress, address: IpAddr) -> Frame {
    match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => unsolicited_advertisement(mac, address),
    }
}

/// A request with equal addresses: hosts that only listen to requests learn it too (RFC 5227, 3).
fn gratuitous_arp(mac: MacAddress, address: Ipv4Addr) -> Frame {
    arp(ArpOperation::REQUEST, mac, address, [0; 6], address, BROADCAST)
}

fn unsolicited_advertisement(mac: MacAddress, address: Ipv6Addr) -> Frame {
    neighbour_advertisement(mac, address, [0x33, 0x33, 0, 0, 0, 1], ALL_NODES, false)
}

fn arp(
    operation: ArpOperation,
    sender_mac: MacAddress,
    sender: Ipv4Addr,
    target_mac: MacAddress,
    target: Ipv4Addr,
    to: MacAddress,
) -> Frame {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac,
        sender_ipv4: sender.octets(),
        target_mac,
        target_ipv4: target.octets(),
    };
    let builder = PacketBuilder::ethernet2(sender_mac, to).arp(packet.into());
    let mut frame = Vec::with_capacity(builder.size());
    let written = builder.write(&mut frame);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
    frame
}

fn neighbour_advertisement(
    mac: MacAddress,
    address: Ipv6Addr,
    to_mac: MacAddress,
    to: Ipv6Addr,
    solicited: bool,
) -> Frame {
    let header = NeighborAdvertisementHeader { router: false, solicited, r#override: true };
    let builder = PacketBuilder::ethernet2(mac, to_mac)
        .ipv6(address.octets(), to.octets(), ND_HOP_LIMIT)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(header));
    let mut body = address.octets().to_vec();
    body.extend([OPTION_TARGET_LINK_LAYER, 1]);
    body.extend(mac);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    let written = builder.write(&mut frame, &body);
    debug_assert!(written.is_ok(), "a Vec takes every byte");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: MacAddress = [2, 0, 0, 0, 0, 1];
    const THEIRS: MacAddress = [2, 0, 0, 0, 0, 9];

    #[test]
    fn an_arp_request_is_answered_to_its_asker() {
        let vip = Ipv4Addr::new(172, 30, 0, 200);
        let asker = Ipv4Addr::new(172, 30, 0, 250);
        let request = arp(ArpOperation::REQUEST, THEIRS, asker, [0; 6], vip, BROADCAST);
        let query = Query::parse(&request).unwrap();
        assert_eq!(query.target, IpAddr::from(vip));
        let answer = query.answer(OURS);
        assert_eq!(&answer[..6], &THEIRS);
        assert_eq!(&answer[20..22], &[0, 2], "operation REPLY");
        assert_eq!(&answer[22..28], &OURS);
        assert_eq!(&answer[28..32], &vip.octets());
    }

    #[test]
    fn a_neighbour_solicitation_is_answered_with_override_and_link_layer_option() {
        let vip: Ipv6Addr = "fd00:30::c001".parse().unwrap();
        let asker: Ipv6Addr = "fd00:30::250".parse().unwrap();
        let builder = PacketBuilder::ethernet2(THEIRS, [0x33, 0x33, 0xff, 0, 0xc0, 1])
            .ipv6(asker.octets(), ALL_NODES.octets(), ND_HOP_LIMIT)
            .icmpv6(Icmpv6Type::NeighborSolicitation);
        let mut request = Vec::new();
        builder.write(&mut request, &vip.octets()).unwrap();
        let query = Query::parse(&request).unwrap();
        assert_eq!((query.target, query.asker), (vip.into(), asker.into()));
        let answer = query.answer(OURS);
        assert_eq!(answer[54], 136, "type Neighbour Advertisement");
        assert_eq!(answer[58], 0x60, "solicited and override");
        assert_eq!(&answer[answer.len() - 6..], &OURS);
    }

    #[test]
    fn a_neighbour_solicitation_from_beyond_the_link_is_ignored() {
        let vip: Ipv6Addr = "fd00:30::c001".parse().unwrap();
        let builder = PacketBuilder::ethernet2(THEIRS, OURS)
            .ipv6(vip.octets(), ALL_NODES.octets(), 64)
            .icmpv6(Icmpv6Type::NeighborSolicitation);
        let mut request = Vec::new();
        builder.write(&mut request, &vip.octets()).unwrap();
        assert_eq!(Query::parse(&request), None);
    }

    #[test]
    fn an_announcement_is_no_question() {
        let frame = announcement(OURS, "172.30.0.200".parse().unwrap());
        assert_eq!(Query::parse(&frame), None);
        assert_eq!(&frame[..6], &BROADCAST);
    }

    #[test]
    fn garbage_is_no_question() {
        for length in 0..80 {
            assert_eq!(Query::parse(&vec![0xff; length]), None);
        }
    }
}
