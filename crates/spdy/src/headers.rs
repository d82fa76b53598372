//! Header blocks: names and values, compressed with one context per direction (2.6.10).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::Error;

/// Headers of a stream.
pub type Headers = BTreeMap<String, String>;

/// Longest header block after decompression.
const MAX_BLOCK: usize = 1 << 16;

/// Compresses the header blocks of one direction.
#[derive(Debug)]
pub(crate) struct Compressor {
    zlib: Compress,
}

/// Decompresses the header blocks of the other direction.
#[derive(Debug)]
pub(crate) struct Decompressor {
    zlib: Decompress,
}

impl Default for Compressor {
    fn default() -> Self {
        let mut zlib = Compress::new(Compression::default(), true);
        let set = zlib.set_dictionary(&DICTIONARY);
        debug_assert!(set.is_ok(), "a fresh context takes a dictionary");
        Self { zlib }
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self { zlib: Decompress::new(true) }
    }
}

impl Compressor {
    /// One header block, flushed, so that the other side can read it at once.
    pub(crate) fn compress(&mut self, headers: &Headers) -> Vec<u8> {
        let mut plain = length(headers.len()).to_vec();
        for (name, value) in headers {
            for text in [name, value] {
                plain.extend(length(text.len()));
                plain.extend(text.as_bytes());
            }
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let before = self.zlib.total_in();
        loop {
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(plain.len());
            block.reserve(64);
            let status = self.zlib.compress_vec(&plain[taken..], &mut block, FlushCompress::Sync);
            // Room left over means that everything has been flushed.
            if status.is_err() || block.len() < block.capacity() {
                return block;
            }
        }
    }
}

impl Decompressor {
    /// The headers of one block.
    pub(crate) fn decompress(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let plain = self.inflate(block)?;
        let mut rest = plain.as_slice();
        let count = take_length(&mut rest)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let name = take_text(&mut rest)?.to_ascii_lowercase();
            headers.insert(name, take_text(&mut rest)?);
        }
        Ok(headers)
    }

    fn inflate(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        const BROKEN: Error = Error::Headers("they are not compressed as SPDY/3 wants");
        let mut plain = Vec::with_capacity(1024);
        let mut rest = block;
        loop {
            let before = self.zlib.total_in();
            let result = self.zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.zlib.total_in() - before).unwrap_or(rest.len());
            rest = &rest[taken..];
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| BROKEN)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(BROKEN),
                Ok(Status::Ok | Status::BufError) if plain.len() == plain.capacity() => {
                    if plain.len() >= MAX_BLOCK {
                        return Err(Error::Headers("they are too long"));
                    }
                    plain.reserve(1024);
                }
                Ok(Status::Ok | Status::BufError) => return Ok(plain),
            }
        }
    }
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

fn take_length(rest: &mut &[u8]) -> Result<usize, Error> {
    let (length, tail) = rest.split_first_chunk::<4>().ok_or(Error::Headers("they end early"))?;
    *rest = tail;
    Ok(usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX))
}

fn take_text(rest: &mut &[u8]) -> Result<String, Error> {
    let length = take_length(rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(Error::Headers("they end early"))?;
    *rest = tail;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Headers("they are not UTF-8"))
}

/// What both sides know before the first byte (2.6.10.1): words with their lengths, then text.
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let words = WORDS.iter().flat_map(|word| [&length(word.len())[..], word.as_bytes()].concat());
    words.chain(TEXT.bytes()).collect()
});

const WORDS: [&str; 65] = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

const TEXT: &str = "\
10010120120220520630030230330430530630740240540640740840941041141241341441541641\
7502504505203 Non-Authoritative Information204 No Content301 Moved Permanently40\
0 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error\
501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept O\
ct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,imag\
e/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/\
javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1\
,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_one_of_the_draft() {
        assert_eq!(DICTIONARY.len(), 1423);
        let mut zlib = Compress::new(Compression::default(), true);
        assert_eq!(zlib.set_dictionary(&DICTIONARY).unwrap(), 0xe3c6_a7c2, "Adler-32");
    }
}
