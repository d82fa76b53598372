//! Connections of ctnetlink.

use std::net::{IpAddr, SocketAddr};

use model::{Family, Protocol};

use super::abi::*;
use super::batch::{ACK, DUMP, REQUEST};
use super::{Attributes, Message, Writer, protocol_family};

/// One connection as conntrack knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Flow {
    /// IANA number of the transport protocol.
    pub(crate) protocol: u8,
    /// Source of the packets as sent by the client.
    pub(crate) source: SocketAddr,
    /// Destination of the packets as sent by the client.
    pub(crate) destination: SocketAddr,
    /// Where answers come from: the endpoint, when the destination was changed.
    pub(crate) reply_source: SocketAddr,
    /// Whether packets of both sides have been seen.
    pub(crate) answered: bool,
    /// Tells it from a later connection with the same addresses.
    pub(crate) id: u32,
    /// Conntrack zone.
    pub(crate) zone: Option<u16>,
}

/// Asks for all connections of a family and protocol, or for those only that nobody has answered.
/// Kernels before 5.8 ignore the protocol, those before 5.15 the restriction.
pub(crate) fn dump_flows(
    family: Family,
    protocol: Protocol,
    unanswered: bool,
    sequence: u32,
) -> Vec<u8> {
    let mut writer = Writer::default();
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
    let open = writer.begin(kind, REQUEST | DUMP, sequence, protocol_family(family), 0);
    writer.nested(CTA_TUPLE_ORIG, |writer| {
        writer.nested(CTA_TUPLE_PROTO, |writer| {
            writer.attribute(CTA_PROTO_NUM, &[protocol.number()]);
        });
    });
    if unanswered {
        writer.number(CTA_STATUS, 0);
        writer.number(CTA_STATUS_MASK, IPS_SEEN_REPLY);
    }
    writer.nested(CTA_FILTER, |writer| {
        writer.attribute(CTA_FILTER_ORIG_FLAGS, &CTA_FILTER_CTA_PROTO_NUM.to_ne_bytes());
        writer.attribute(CTA_FILTER_REPLY_FLAGS, &0_u32.to_ne_bytes());
    });
    writer.end(&open);
    writer.into_bytes()
}

/// Reads one connection; `None` for protocols without ports.
pub(crate) fn decode_flow(message: Message<'_>) -> Option<Flow> {
    let attributes = message.attributes();
    let original = attributes.nested(CTA_TUPLE_ORIG)?;
    let reply = attributes.nested(CTA_TUPLE_REPLY)?;
    let (source, destination) = endpoints(original)?;
    let (reply_source, _) = endpoints(reply)?;
    Some(Flow {
        protocol: *original.nested(CTA_TUPLE_PROTO)?.get(CTA_PROTO_NUM)?.first()?,
        source,
        destination,
        reply_source,
        answered: attributes.number(CTA_STATUS)? & IPS_SEEN_REPLY != 0,
        id: attributes.number(CTA_ID)?,
        zone: attributes
            .get(CTA_ZONE)
            .and_then(|zone| zone.try_into().ok().map(u16::from_be_bytes)),
    })
}

/// Deletes one connection.
pub(crate) fn delete_flow(flow: &Flow, sequence: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let family = protocol_family(Family::of(flow.destination.ip()));
    let open = writer.begin(kind, REQUEST | ACK, sequence, family, 0);
    writer.nested(CTA_TUPLE_ORIG, |writer| {
        writer.nested(CTA_TUPLE_IP, |writer| match (flow.source.ip(), flow.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                writer.attribute(CTA_IP_V4_SRC, &source.octets());
                writer.attribute(CTA_IP_V4_DST, &destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                writer.attribute(CTA_IP_V6_SRC, &source.octets());
                writer.attribute(CTA_IP_V6_DST, &destination.octets());
            }
            _ => {}
        });
        writer.nested(CTA_TUPLE_PROTO, |writer| {
            writer.attribute(CTA_PROTO_NUM, &[flow.protocol]);
            writer.attribute(CTA_PROTO_SRC_PORT, &flow.source.port().to_be_bytes());
            writer.attribute(CTA_PROTO_DST_PORT, &flow.destination.port().to_be_bytes());
        });
    });
    writer.number(CTA_ID, flow.id);
    if let Some(zone) = flow.zone {
        writer.attribute(CTA_ZONE, &zone.to_be_bytes());
    }
    writer.end(&open);
    writer.into_bytes()
}

fn endpoints(tuple: Attributes<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let ip = tuple.nested(CTA_TUPLE_IP)?;
    let protocol = tuple.nested(CTA_TUPLE_PROTO)?;
    let port = |kind| protocol.get(kind)?.try_into().ok().map(u16::from_be_bytes);
    let address = |v4, v6| match ip.get(v4) {
        Some(bytes) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        None => <[u8; 16]>::try_from(ip.get(v6)?).ok().map(IpAddr::from),
    };
    let source = SocketAddr::new(address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(CTA_PROTO_SRC_PORT)?);
    let destination =
        SocketAddr::new(address(CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(CTA_PROTO_DST_PORT)?);
    Some((source, destination))
}
