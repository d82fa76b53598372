//! SPDY/3.1 as `kubectl port-forward` speaks it.
//!
//! What it is: the server's side of one connection as a machine of bytes. kubectl carries
//! these bytes in WebSocket messages (KEP-4006) or, older ones, in an upgraded connection.
//!
//! What it is not: a general SPDY library. There is no flow control (kubectl has none), no
//! server push, and no I/O.
//!
//! ```text
//!  bytes ─▶ Connection::receive ─▶ Event::Opened, Data, Reset, Answer
//!  reply, data, reset ─▶ bytes
//! ```
//!
//! Source: SPDY Protocol, Draft 3.1 (The Chromium Projects).

mod headers;

use std::collections::BTreeMap;

pub use headers::Headers;
use headers::{Compressor, Decompressor};

/// Number of a stream; the client's are odd.
pub type StreamId = u32;

/// The server's side of a connection.
#[derive(Debug, Default)]
pub struct Connection {
    input: Vec<u8>,
    decompressor: Decompressor,
    compressor: Compressor,
}

/// What the client did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// It opened a stream. Answer with [`Connection::reply`] or [`Connection::reset`].
    Opened {
        /// The new stream.
        stream: StreamId,
        /// Names are lower case.
        headers: Headers,
        /// The client will send nothing on it.
        end: bool,
    },
    /// It sent data.
    Data {
        /// On this stream.
        stream: StreamId,
        /// The data; may be empty.
        data: Vec<u8>,
        /// It was the last.
        end: bool,
    },
    /// It gave a stream up in both directions.
    Reset {
        /// The stream.
        stream: StreamId,
    },
    /// Send these bytes back: the answer to a ping.
    Answer(Vec<u8>),
    /// It will open no more streams.
    GoAway,
}

/// What a client must not send. The connection is unusable afterwards.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Error {
    /// A control frame of another version.
    #[error("the client speaks SPDY version {0}, not 3")]
    Version(u16),
    /// A frame that is shorter than its fields.
    #[error("a SPDY frame of type {0} is too short")]
    Short(u16),
    /// A frame that is longer than anybody needs.
    #[error("a SPDY frame of {0} bytes is too long")]
    Long(usize),
    /// Headers that cannot be decompressed or read.
    #[error("the headers of a SPDY stream cannot be read: {0}")]
    Headers(&'static str),
}

/// Longest frame taken in; kubectl sends at most 32 KiB of data at once.
const MAX_FRAME: usize = 1 << 20;
/// Longest data frame given out.
const MAX_DATA: usize = 1 << 15;
/// Length of the fixed part of each frame.
const HEADER: usize = 8;
/// Last frame of a direction (2.2.2, 2.6.1).
const FLAG_FIN: u8 = 1;
/// Frame types (2.6).
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// Status code of RST_STREAM: the recipient could not process the stream (2.6.3).
const CANCEL: u32 = 5;

impl Connection {
    /// A fresh connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes received bytes, cut anywhere.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Error> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(length) = self.next_frame()? {
            let frame: Vec<u8> = self.input.drain(..length).collect();
            events.extend(self.frame(&frame)?);
        }
        Ok(events)
    }

    /// Accepts a stream.
    pub fn reply(&mut self, stream: StreamId) -> Vec<u8> {
        let mut body = stream.to_be_bytes().to_vec();
        body.extend(self.compressor.compress(&BTreeMap::new()));
        control(SYN_REPLY, 0, &body)
    }

    /// Sends data; `end` says that it is the last.
    pub fn data(&self, stream: StreamId, data: &[u8], end: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(data.len() + HEADER);
        let mut chunks = data.chunks(MAX_DATA).peekable();
        if chunks.peek().is_none() {
            append_data(&mut bytes, stream, &[], end);
        }
        while let Some(chunk) = chunks.next() {
            append_data(&mut bytes, stream, chunk, end && chunks.peek().is_none());
        }
        bytes
    }

    /// Gives a stream up in both directions.
    pub fn reset(&self, stream: StreamId) -> Vec<u8> {
        let body = [stream.to_be_bytes(), CANCEL.to_be_bytes()].concat();
        control(RST_STREAM, 0, &body)
    }

    /// Length of the next frame, when all of it is here.
    fn next_frame(&self) -> Result<Option<usize>, Error> {
        let Some(header) = self.input.first_chunk::<HEADER>() else { return Ok(None) };
        let length = HEADER + usize_of([0, header[5], header[6], header[7]]);
        if length > MAX_FRAME {
            return Err(Error::Long(length));
        }
        Ok((self.input.len() >= length).then_some(length))
    }

    fn frame(&mut self, frame: &[u8]) -> Result<Option<Event>, Error> {
        let (header, body) = frame.split_at(HEADER);
        let end = header[4] & FLAG_FIN != 0;
        if header[0] & 0x80 == 0 {
            let stream = word(header, 0, 0)?;
            return Ok(Some(Event::Data { stream, data: body.to_vec(), end }));
        }
        let version = u16::from_be_bytes([header[0] & 0x7f, header[1]]);
        if version != 3 {
            return Err(Error::Version(version));
        }
        let kind = u16::from_be_bytes([header[2], header[3]]);
        Ok(match kind {
            SYN_STREAM => {
                let stream = word(body, 0, kind)?;
                // Stream, associated stream, priority and slot come before the headers (2.6.1).
                let block = body.get(10..).ok_or(Error::Short(kind))?;
                let headers = self.decompressor.decompress(block)?;
                Some(Event::Opened { stream, headers, end })
            }
            RST_STREAM => Some(Event::Reset { stream: word(body, 0, kind)? }),
            PING => {
                let id = word(body, 0, kind)?;
                // Even numbers are ours: the client's answer, and we never ask (2.6.5).
                (id % 2 == 1).then(|| Event::Answer(control(PING, 0, &id.to_be_bytes())))
            }
            GOAWAY => Some(Event::GoAway),
            // SETTINGS, HEADERS, WINDOW_UPDATE and unknown frames change nothing here (2.6).
            _ => None,
        })
    }
}

fn append_data(bytes: &mut Vec<u8>, stream: StreamId, data: &[u8], end: bool) {
    bytes.extend((stream & 0x7fff_ffff).to_be_bytes());
    bytes.extend(flags_and_length(u8::from(end) * FLAG_FIN, data.len()));
    bytes.extend(data);
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend(flags_and_length(flags, body.len()));
    frame.extend(body);
    frame
}

/// One byte of flags and a length of 24 bits. Nothing here is longer than [`MAX_DATA`] and a
/// few headers.
fn flags_and_length(flags: u8, length: usize) -> [u8; 4] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, length[1], length[2], length[3]]
}

/// A number of 31 bits at an offset.
fn word(bytes: &[u8], at: usize, kind: u16) -> Result<u32, Error> {
    let chunk =
        bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Error::Short(kind))?;
    Ok(u32::from_be_bytes(*chunk) & 0x7fff_ffff)
}

fn usize_of(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's side of a stream's opening.
    fn open(compressor: &mut Compressor, stream: StreamId, headers: &Headers) -> Vec<u8> {
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(compressor.compress(headers));
        control(SYN_STREAM, 0, &body)
    }

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn streams_open_with_headers_that_share_one_compression_context() {
        let mut client = Compressor::default();
        let error = headers(&[("port", "8080"), ("requestid", "0"), ("streamtype", "error")]);
        let data = headers(&[("port", "8080"), ("requestid", "0"), ("streamtype", "data")]);
        let mut bytes = open(&mut client, 1, &error);
        bytes.extend(open(&mut client, 3, &data));
        let mut server = Connection::new();
        let mut events = Vec::new();
        for byte in bytes {
            events.extend(server.receive(&[byte]).unwrap());
        }
        assert_eq!(
            events,
            [
                Event::Opened { stream: 1, headers: error, end: false },
                Event::Opened { stream: 3, headers: data, end: false },
            ]
        );
    }

    #[test]
    fn data_comes_back_as_it_was_sent() {
        let mut connection = Connection::new();
        let sent = vec![7; MAX_DATA + 1];
        let events = connection.receive(&Connection::new().data(3, &sent, true)).unwrap();
        let lengths: Vec<_> = events
            .iter()
            .map(|event| match event {
                Event::Data { stream: 3, data, end } => (data.len(), *end),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [(MAX_DATA, false), (1, true)]);
    }

    #[test]
    fn an_empty_end_is_a_frame_too() {
        let events = Connection::new().receive(&Connection::new().data(3, &[], true)).unwrap();
        assert_eq!(events, [Event::Data { stream: 3, data: vec![], end: true }]);
    }

    #[test]
    fn a_ping_is_answered_and_an_answer_is_not() {
        let mut connection = Connection::new();
        let ping = control(PING, 0, &1_u32.to_be_bytes());
        assert_eq!(connection.receive(&ping).unwrap(), [Event::Answer(ping)]);
        assert_eq!(connection.receive(&control(PING, 0, &2_u32.to_be_bytes())).unwrap(), []);
    }

    #[test]
    fn what_breaks_the_protocol_is_refused() {
        let receive = |bytes: &[u8]| Connection::new().receive(bytes);
        assert_eq!(receive(&[0x80, 2, 0, 1, 0, 0, 0, 0]), Err(Error::Version(2)));
        assert_eq!(receive(&[0x80, 3, 0, 1, 0, 0, 0, 0]), Err(Error::Short(SYN_STREAM)));
        assert!(matches!(receive(&[0, 0, 0, 1, 0, 255, 255, 255]), Err(Error::Long(_))));
        let garbage = control(SYN_STREAM, 0, &[9; 40]);
        assert!(matches!(receive(&garbage), Err(Error::Headers(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Connection::new().receive(&bytes);
        }
    }
}
