//! The answer of a backend, made fit for those who asked this server for it.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use futures::stream;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName,
    HeaderValue, LOCATION,
};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use wire::status::Failure;

use super::dial::{Place, unreachable};
use super::links::Links;
use crate::http::reply::Body;

/// Leads redirects and the links of pages through the server (S19), and keeps to itself whom the
/// backend lets read its answers: that is this server's to say.
pub(super) async fn lead(
    response: Response<Body>,
    links: &Links,
) -> Result<Response<Body>, Failure> {
    let (mut head, body) = response.into_parts();
    for name in CROSS_ORIGIN {
        head.headers.remove(name);
    }
    if let Some(location) = head.headers.get(LOCATION) {
        let url = location.to_str().ok().and_then(|text| links.url(text));
        if let Some(url) = url.and_then(|url| HeaderValue::from_str(&url).ok()) {
            head.headers.insert(LOCATION, url);
        }
        return Ok(Response::from_parts(head, body));
    }
    let Some(encoding) = Encoding::of_page(&head.headers) else {
        return Ok(Response::from_parts(head, body));
    };
    let broken = |error: &io::Error| {
        let place = Place { host: links.backend.clone(), port: 0 };
        unreachable(&place, error)
    };
    let page = match read(body).await.map_err(|error| broken(&error))? {
        Page::Whole(page) => page,
        Page::TooLarge(body) => return Ok(Response::from_parts(head, body)),
    };
    // What cannot be understood is passed on.
    let changed = encoding
        .decode(&page)
        .and_then(|page| encoding.encode(&links.html(&page)))
        .map_or(page, Bytes::from);
    // HEAD tells the length of what GET would give, which is not known here.
    head.headers.remove(CONTENT_LENGTH);
    let body = Full::new(changed).map_err(|never| match never {}).boxed_unsync();
    Ok(Response::from_parts(head, body))
}

/// A page, or one that is too large to be held in memory, as it would have been.
enum Page {
    Whole(Bytes),
    TooLarge(Body),
}

async fn read(mut body: Body) -> io::Result<Page> {
    let mut page = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            page.extend_from_slice(&data);
        }
        if page.len() > LARGEST {
            let start = stream::iter([Ok(hyper::body::Frame::data(Bytes::from(page)))]);
            let whole = futures::StreamExt::chain(start, BodyStream::new(body));
            return Ok(Page::TooLarge(BodyExt::boxed_unsync(StreamBody::new(whole))));
        }
    }
    Ok(Page::Whole(page.into()))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    Plain,
    Gzip,
    Deflate,
}

impl Encoding {
    /// How a page of HTML is encoded; `None` when it is no page, or its encoding is not known.
    fn of_page(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let content_type = text(CONTENT_TYPE)?.split(';').next()?.trim();
        if !content_type.eq_ignore_ascii_case("text/html") {
            return None;
        }
        match text(CONTENT_ENCODING) {
            None | Some("") => Some(Self::Plain),
            Some("gzip") => Some(Self::Gzip),
            Some("deflate") => Some(Self::Deflate),
            Some(_) => None,
        }
    }

    fn decode(self, page: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let limit = LARGEST as u64 + 1;
        let length = match self {
            Self::Plain => return Some(page.to_vec()),
            Self::Gzip => GzDecoder::new(page).take(limit).read_to_end(&mut out).ok()?,
            Self::Deflate => DeflateDecoder::new(page).take(limit).read_to_end(&mut out).ok()?,
        };
        (length <= LARGEST).then_some(out)
    }

    fn encode(self, page: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Plain => Some(page.to_vec()),
            Self::Gzip => {
                let mut out = GzEncoder::new(Vec::new(), Compression::default());
                out.write_all(page).ok()?;
                out.finish().ok()
            }
            Self::Deflate => {
                let mut out = DeflateEncoder::new(Vec::new(), Compression::default());
                out.write_all(page).ok()?;
                out.finish().ok()
            }
        }
    }
}

/// Bytes; a larger page is passed on with its links as they are.
const LARGEST: usize = 8 * 1024 * 1024;
const CROSS_ORIGIN: [HeaderName; 4] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_whose_encoding_is_known_are_changed() {
        let of = |content_type: &'static str, encoding: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            Encoding::of_page(&headers)
        };
        assert_eq!(of("text/html; charset=utf-8", ""), Some(Encoding::Plain));
        assert_eq!(of("text/html", "gzip"), Some(Encoding::Gzip));
        assert_eq!(of("text/html", "br"), None);
        assert_eq!(of("application/json", ""), None);
    }

    #[test]
    fn a_packed_page_is_unpacked_and_packed_again() {
        for encoding in [Encoding::Plain, Encoding::Gzip, Encoding::Deflate] {
            let packed = encoding.encode(b"page").unwrap();
            assert_eq!(encoding.decode(&packed).unwrap(), b"page");
            assert_eq!(encoding.decode(b"\x1fno").is_some(), encoding == Encoding::Plain);
        }
    }
}
