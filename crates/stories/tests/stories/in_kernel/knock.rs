//! One connection, and what came of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::Protocol;
use socket2::{Domain, SockAddr, Socket, Type};

use super::serve::{parse, sctp};

/// How long an answer may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// This server answered and saw this client.
    From {
        server: SocketAddr,
        client: IpAddr,
    },
    Refused,
    Silence,
    /// Anything else, such as "no route".
    Failed(ErrorKind),
}

/// Whether this kernel has SCTP sockets.
pub(crate) fn has_sctp() -> bool {
    sctp(SocketAddr::from(([127, 0, 0, 1], 0))).is_ok()
}

/// Connects, from `source` if given, and listens to what the server says. Called inside a
/// namespace.
pub(crate) fn knock(
    protocol: Protocol,
    source: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> Answer {
    match talk(protocol, source, to, patience) {
        Ok((_, text)) => match parse(&text) {
            Some((server, client)) => Answer::From { server, client },
            None => Answer::Failed(ErrorKind::InvalidData),
        },
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Answer::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Answer::Silence,
            other => Answer::Failed(other),
        },
    }
}

/// A connection that a server has answered, and what it said.
fn talk(
    protocol: Protocol,
    source: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<(Socket, String)> {
    let domain = Domain::for_address(to);
    let mut socket = match protocol {
        Protocol::Tcp => Socket::new(domain, Type::STREAM, None)?,
        Protocol::Udp => Socket::new(domain, Type::DGRAM, None)?,
        Protocol::Sctp => sctp(to)?,
    };
    if let Some(source) = source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    socket.set_read_timeout(Some(patience))?;
    if protocol == Protocol::Udp {
        socket.connect(&SockAddr::from(to))?;
        // An output rule that drops says so here; whether it refused comes with the answer.
        let _ = socket.send(b"who are you");
    } else {
        socket.connect_timeout(&SockAddr::from(to), patience)?;
    }
    let mut buffer = [0; 128];
    let len = socket.read(&mut buffer)?;
    Ok((socket, String::from_utf8_lossy(&buffer[..len]).into_owned()))
}

/// An established TCP connection, and who answers there.
pub(crate) struct Established {
    socket: Socket,
    pub(crate) server: SocketAddr,
}

impl Established {
    /// Called inside a namespace.
    pub(crate) fn open(source: Option<IpAddr>, to: SocketAddr) -> io::Result<Self> {
        let (socket, text) = talk(Protocol::Tcp, source, to, PATIENCE)?;
        let (server, _) = parse(&text).ok_or(ErrorKind::InvalidData)?;
        Ok(Self { socket, server })
    }

    /// Sends a byte and waits until it comes back.
    pub(crate) fn echo(&mut self) -> io::Result<()> {
        let mut byte = [0];
        self.socket.write_all(b"x")?;
        self.socket.read_exact(&mut byte)?;
        if byte == *b"x" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }
}
