//! The hickory server around the zone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Header, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType as WireType};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use crate::zone::{Answer, Code, Data, RecordType, Resource, Zone};

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses to serve on, UDP and TCP each.
    pub listen: Vec<SocketAddr>,
    /// Where names outside the cluster go; without it they are refused.
    pub upstream: Option<SocketAddr>,
    /// Time to live of all records.
    pub ttl: Duration,
}

/// An address cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("listen for DNS on {protocol} {address}")]
pub struct BindError {
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// The kernel's reason.
    pub source: io::Error,
}

/// A running DNS server. Dropping it closes its sockets.
pub struct Server {
    server: hickory_server::server::Server<Handler>,
}

/// A TCP client that is silent for this long is disconnected (RFC 7766, 6.2.3).
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Queued answers of one TCP client.
const TCP_ANSWERS: usize = 32;
/// A silent upstream costs this long, then the client gets SERVFAIL and asks again.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// EDNS payload that needs no fragments on any link (DNS flag day 2020).
const MAX_UDP_PAYLOAD: u16 = 1232;

impl Server {
    /// Binds every address and starts answering from whatever zone is current.
    ///
    /// # Errors
    /// When an address is taken or does not exist.
    pub async fn start(settings: Settings, zone: Arc<ArcSwap<Zone>>) -> Result<Self, BindError> {
        let ttl = u32::try_from(settings.ttl.as_secs()).unwrap_or(u32::MAX);
        let handler = Handler { zone, upstream: settings.upstream, ttl };
        let mut server = hickory_server::server::Server::new(handler);
        for address in settings.listen {
            let failed = |protocol| move |source| BindError { protocol, address, source };
            server.register_socket(UdpSocket::bind(address).await.map_err(failed("udp"))?);
            let listener = TcpListener::bind(address).await.map_err(failed("tcp"))?;
            server.register_listener(listener, TCP_IDLE, TCP_ANSWERS);
        }
        Ok(Self { server })
    }

    /// Ends serving; requests under way are answered.
    pub async fn stop(mut self) {
        if let Err(error) = self.server.shutdown_gracefully().await {
            tracing::warn!(%error, "stop the DNS server");
        }
    }
}

struct Handler {
    zone: Arc<ArcSwap<Zone>>,
    upstream: Option<SocketAddr>,
    ttl: u32,
}

/// The sections of a response.
#[derive(Default)]
struct Sections {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let sections = self.sections(request).await;
        let mut metadata =
            Metadata::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        metadata.response_code = sections.code;
        metadata.authoritative = sections.authoritative;
        metadata.recursion_desired = request.metadata.recursion_desired;
        metadata.recursion_available = self.upstream.is_some();
        let edns = request.edns.as_ref().map(|asked| answer_edns(asked.max_payload()));
        let message = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build(
            metadata,
            &sections.answers,
            &sections.authority,
            &[],
            &sections.additional,
        );
        match response.send_response(message).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, client = %request.src(), "send a DNS answer");
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: Default::default() }.into()
            }
        }
    }
}

impl Handler {
    async fn sections(&self, request: &Request) -> Sections {
        if request.metadata.op_code != OpCode::Query {
            return Sections { code: ResponseCode::NotImp, ..Sections::default() };
        }
        let [query] = request.queries.queries() else {
            return Sections { code: ResponseCode::FormErr, ..Sections::default() };
        };
        let name = Name::from(query.name()).to_ascii();
        let zone = self.zone.load_full();
        let answer = zone.answer(&name, asked_type(query.query_type()));
        match (answer.code, self.upstream) {
            (Code::NotOurs, Some(upstream)) => forward(request, upstream).await,
            (Code::NotOurs, None) => {
                Sections { code: ResponseCode::Refused, ..Sections::default() }
            }
            _ => self.authoritative(zone.domain(), answer),
        }
    }

    fn authoritative(&self, domain: &str, answer: Answer) -> Sections {
        let record = |resource: Resource| to_record(resource, self.ttl);
        let empty = answer.records.is_empty();
        Sections {
            code: match answer.code {
                Code::NoSuchName => ResponseCode::NXDomain,
                Code::Exists | Code::NotOurs => ResponseCode::NoError,
            },
            authoritative: true,
            answers: answer.records.into_iter().filter_map(record).collect(),
            // Lets resolvers remember the absence (RFC 2308).
            authority: if empty {
                authority(domain, self.ttl).into_iter().collect()
            } else {
                vec![]
            },
            additional: answer.additional.into_iter().filter_map(record).collect(),
        }
    }
}

fn answer_edns(payload: u16) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(payload.clamp(512, MAX_UDP_PAYLOAD));
    edns
}

fn asked_type(kind: WireType) -> RecordType {
    match kind {
        WireType::A => RecordType::A,
        WireType::AAAA => RecordType::Aaaa,
        WireType::CNAME => RecordType::Cname,
        WireType::SRV => RecordType::Srv,
        WireType::PTR => RecordType::Ptr,
        WireType::TXT => RecordType::Txt,
        WireType::SOA => RecordType::Soa,
        WireType::ANY => RecordType::Any,
        _ => RecordType::Other,
    }
}

/// `None` for a name that DNS cannot carry (an ExternalName longer than 255 bytes, say).
fn to_record(resource: Resource, ttl: u32) -> Option<Record> {
    let name = absolute(&resource.name)?;
    let data = match resource.data {
        Data::Address(std::net::IpAddr::V4(address)) => RData::A(A(address)),
        Data::Address(std::net::IpAddr::V6(address)) => RData::AAAA(AAAA(address)),
        Data::Alias(target) => RData::CNAME(CNAME(absolute(&target)?)),
        Data::Service { port, target } => {
            RData::SRV(SRV::new(0, 100, port.get(), absolute(&target)?))
        }
        Data::Pointer(target) => RData::PTR(PTR(absolute(&target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text])),
    };
    Some(Record::from_rdata(name, ttl, data))
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn authority(domain: &str, ttl: u32) -> Option<Record> {
    let primary = absolute(&format!("ns.dns.{domain}"))?;
    let mailbox = absolute(&format!("hostmaster.{domain}"))?;
    let soa = SOA::new(primary, mailbox, 1, 7200, 1800, 86400, ttl);
    Some(Record::from_rdata(absolute(domain)?, ttl, RData::SOA(soa)))
}

/// Hands the question to the upstream server, word for word.
async fn forward(request: &Request, upstream: SocketAddr) -> Sections {
    let failed = || Sections { code: ResponseCode::ServFail, ..Sections::default() };
    let asked = tokio::time::timeout(UPSTREAM_TIMEOUT, ask(request.as_slice(), upstream)).await;
    let reply = match asked {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            tracing::warn!(%upstream, %error, "ask the upstream DNS server");
            return failed();
        }
        Err(_) => return failed(),
    };
    let Ok(message) = Message::from_vec(&reply) else { return failed() };
    if message.metadata.id != request.metadata.id {
        return failed();
    }
    Sections {
        code: message.metadata.response_code,
        authoritative: false,
        answers: message.answers,
        authority: message.authorities,
        additional: message.additionals,
    }
}

async fn ask(question: &[u8], upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let local: SocketAddr = if upstream.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut reply = vec![0; usize::from(u16::MAX)];
    let length = socket.recv(&mut reply).await?;
    reply.truncate(length);
    Ok(reply)
}
