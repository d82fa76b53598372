//! Compressed answers, for clients that accept gzip (L1; apiserver
//! `deferredResponseWriter`).
//!
//! Only large ones, and never watches: small answers gain nothing, and level 1 is where most is
//! saved for the time.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Response};

use super::reply::{self, Body};

/// Whether a client accepts gzip.
pub(crate) fn is_accepted(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let quality = parameters.trim().strip_prefix("q=").unwrap_or("1");
            name.trim() == "gzip" && quality.parse::<f32>().is_ok_and(|quality| quality > 0.0)
        })
}

/// An answer in pieces, compressed when it is large and `accepted`.
pub(crate) fn answer(
    code: u16,
    content_type: &str,
    mut pieces: impl Iterator<Item = Bytes> + Send + 'static,
    accepted: bool,
) -> Response<Body> {
    let mut first = Vec::new();
    let mut size = 0;
    while size <= THRESHOLD {
        let Some(piece) = pieces.next() else {
            return match <[Bytes; 1]>::try_from(first) {
                Ok([whole]) => reply::bytes(code, content_type, whole),
                Err(several) => reply::bytes(code, content_type, several.concat()),
            };
        };
        size += piece.len();
        first.push(piece);
    }
    let pieces = first.into_iter().chain(pieces);
    if !accepted {
        return reply::stream(code, content_type, stream::iter(pieces));
    }
    let mut response = reply::stream(code, content_type, stream::iter(Gzip::new(pieces)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Pieces of a text as pieces of its compressed form.
struct Gzip<I> {
    pieces: I,
    /// `None` at the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Gzip<I> {
    fn new(pieces: I) -> Self {
        let encoder = GzEncoder::new(Vec::with_capacity(2 * PIECE), Compression::new(LEVEL));
        Self { pieces, encoder: Some(encoder) }
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Gzip<I> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut encoder = self.encoder.take()?;
        for piece in self.pieces.by_ref() {
            // Writing to memory cannot fail.
            drop(encoder.write_all(&piece));
            if encoder.get_ref().len() >= PIECE {
                let out = std::mem::replace(encoder.get_mut(), Vec::with_capacity(2 * PIECE));
                self.encoder = Some(encoder);
                return Some(out.into());
            }
        }
        encoder.finish().ok().map(Bytes::from)
    }
}

/// Bytes: smaller answers are sent as they are.
const THRESHOLD: usize = 128 * 1024;
const LEVEL: u32 = 1;
/// Bytes of compressed text that are sent at a time.
const PIECE: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use http_body_util::BodyExt;

    use super::*;

    fn accepts(text: &'static str) -> bool {
        is_accepted(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(text))]))
    }

    #[test]
    fn gzip_is_one_of_the_codings_and_not_refused() {
        assert!(accepts("gzip"));
        assert!(accepts("deflate, gzip;q=0.5"));
        assert!(!accepts("identity"));
        assert!(!accepts("gzip;q=0"));
        assert!(!accepts("x-gzip"));
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn only_what_is_large_is_compressed_and_comes_back_whole() {
        for (count, is_large) in [(0, false), (1, false), (4, false), (5, true), (900, true)] {
            let piece = |number: usize| Bytes::from(format!("{number:>32768}"));
            let response = answer(200, "text/plain", (0..count).map(piece), true);
            let is_compressed = response.headers().contains_key(CONTENT_ENCODING);
            assert_eq!(is_compressed, is_large, "{count}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let mut text = Vec::new();
            if is_compressed {
                assert!(body.len() < 32768 * count / 10);
                GzDecoder::new(&*body).read_to_end(&mut text).unwrap();
            } else {
                text.extend_from_slice(&body);
            }
            assert_eq!(text, (0..count).map(piece).collect::<Vec<_>>().concat());
        }
    }
}
