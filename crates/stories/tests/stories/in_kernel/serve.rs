//! Servers that tell who they are and whom they saw, and then echo.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::thread;

use model::Protocol;
use socket2::{Domain, SockAddr, Socket, Type};

/// Answers on an address until the process ends. Called inside a namespace.
pub(crate) fn serve(protocol: Protocol, address: SocketAddr) {
    match protocol {
        Protocol::Tcp => serve_stream(TcpListener::bind(address).unwrap(), address),
        Protocol::Udp => serve_udp(UdpSocket::bind(address).unwrap(), address),
        Protocol::Sctp => {
            let socket = sctp(address).unwrap();
            socket.bind(&SockAddr::from(address)).unwrap();
            socket.listen(64).unwrap();
            serve_stream(socket.into(), address);
        }
    }
}

/// A one-to-one SCTP socket (RFC 6458 section 4).
pub(crate) fn sctp(address: SocketAddr) -> std::io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(libc::IPPROTO_SCTP.into()))
}

/// What a server says: its own address and the client's.
pub(crate) fn parse(text: &str) -> Option<(SocketAddr, IpAddr)> {
    let (server, client) = text.trim_end().split_once(' ')?;
    Some((server.parse().ok()?, client.parse().ok()?))
}

fn serve_stream(listener: TcpListener, address: SocketAddr) {
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let Ok(peer) = stream.peer_addr() else { return };
                // In one piece, so that one read gets it.
                let _ = stream.write_all(format!("{address} {}\n", peer.ip()).as_bytes());
                // Until the client closes: then its port rests, not the server's.
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|len| len == 1) {
                    let _ = stream.write_all(&byte);
                }
            });
        }
    });
}

fn serve_udp(socket: UdpSocket, address: SocketAddr) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{address} {}\n", peer.ip()).as_bytes(), peer);
        }
    });
}
