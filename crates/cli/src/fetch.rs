//! One GET over plain HTTP, for pages of an agent on this machine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

/// A page of a local agent takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The body of a page.
///
/// # Errors
/// When nobody answers, or with another status than 200.
pub(crate) fn get(server: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&server, PATIENCE).context("connect to the agent")?;
    stream.set_read_timeout(Some(PATIENCE)).context("limit the wait for an answer")?;
    // HTTP/1.0: the answer ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").context("send a request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        bail!("the answer is not HTTP");
    };
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        bail!("GET {path}: {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}
