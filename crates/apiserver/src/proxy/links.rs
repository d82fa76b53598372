//! Links of a backend, led through the server (S19; apimachinery `util/proxy.Transport`).
//!
//! A backend does not know that its `/` is `/api/v1/namespaces/NS/services/NAME/proxy/` to those
//! who read its pages. Absolute paths in `Location` and in the attributes of HTML that hold URLs
//! get that prefix. Relative ones are right as they are, and so are other hosts' URLs. Cookies and
//! URLs in scripts and style sheets are left alone, as upstream leaves them.

/// What the URLs of one answer become.
pub(super) struct Links {
    /// The path of the server that stands for the backend's root, without a slash at its end.
    pub(super) prefix: String,
    /// The backend, as `address:port`.
    pub(super) backend: String,
    /// The host that the client asked.
    pub(super) host: String,
}

impl Links {
    /// What a URL becomes; `None` when it stays as it is.
    pub(super) fn url(&self, text: &str) -> Option<String> {
        let url = Url::parse(text)?;
        let is_own = url.host.is_empty() || url.host == self.backend || url.host == self.host;
        if !is_own || !url.path.starts_with('/') {
            return None;
        }
        let mut out = String::new();
        if !url.host.is_empty() && url.host == self.host {
            out.push_str(url.before_path);
        }
        if url.path.starts_with(&self.prefix) {
            out.push_str(url.path);
        } else {
            out.push_str(&self.prefix);
            out.push_str(&clean(url.path));
        }
        out.push_str(url.after_path);
        (out != text).then_some(out)
    }

    /// A page with its links changed, and every other byte as it was.
    pub(super) fn html(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + page.len() / 8);
        let mut rest = page;
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            let (text, markup) = rest.split_at(start);
            out.extend_from_slice(text);
            let is_tag = markup.get(1).is_some_and(u8::is_ascii_alphabetic);
            let end = if is_tag { self.tag(markup, &mut out) } else { skip(markup, &mut out) };
            rest = markup.get(end..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        out
    }

    /// Writes a start tag, and the text after it where that is no markup; how many bytes it was.
    fn tag(&self, markup: &[u8], out: &mut Vec<u8>) -> usize {
        let Some(tag) = Tag::parse(markup) else {
            // The page ends within.
            out.extend_from_slice(markup);
            return markup.len();
        };
        let attributes = url_attributes(&tag.name);
        let mut written = 0;
        for (key, (start, end)) in &tag.attributes {
            let Some(value) = markup.get(*start..*end) else { continue };
            let value = unquote(value);
            let is_url = attributes.contains(&key.as_str());
            let text = is_url.then(|| std::str::from_utf8(value).ok()).flatten();
            if let Some(url) = text.and_then(|text| self.url(&unescape(text))) {
                out.extend_from_slice(&markup[written..*start]);
                out.extend_from_slice(format!("\"{}\"", escape(&url)).as_bytes());
                written = *end;
            }
        }
        let end = if RAW_TEXT.contains(&tag.name.as_str()) {
            tag.end + raw_text(&markup[tag.end..], &tag.name)
        } else {
            tag.end
        };
        out.extend_from_slice(&markup[written..end]);
        end
    }
}

/// `[SCHEME:][//HOST]PATH[?QUERY][#FRAGMENT]` (RFC 3986 appendix B).
struct Url<'a> {
    before_path: &'a str,
    host: &'a str,
    path: &'a str,
    after_path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        if text.chars().any(char::is_control) {
            return None;
        }
        let end = text.find(['?', '#']).unwrap_or(text.len());
        let (hierarchy, after_path) = text.split_at(end);
        let scheme = hierarchy.find(['/', ':']).filter(|at| hierarchy[*at..].starts_with(':'));
        let start = scheme.map_or(0, |at| at + 1);
        let after_scheme = &hierarchy[start..];
        let (host, path) = match after_scheme.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", after_scheme),
        };
        let before_path = &hierarchy[..hierarchy.len() - path.len()];
        // User information is no part of the host.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        Some(Self { before_path, host, path, after_path })
    }
}

/// An absolute path without empty segments, `.` and `..`, as Go's `path.Clean` gives it; a slash
/// at its end stays.
fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let end = if path.ends_with('/') { "/" } else { "" };
    match segments.is_empty() {
        true => end.to_owned(),
        false => format!("/{}{end}", segments.join("/")),
    }
}

/// A start tag. Positions are offsets from its `<`.
struct Tag {
    /// In lower case.
    name: String,
    /// Names in lower case, and where their values stand, quotes included.
    attributes: Vec<(String, (usize, usize))>,
    /// After its `>`.
    end: usize,
}

impl Tag {
    fn parse(markup: &[u8]) -> Option<Self> {
        let find = |from: usize, is: fn(u8) -> bool| {
            let found = markup.get(from..)?.iter().position(|byte| is(*byte))?;
            Some(from + found)
        };
        let lower = |from: usize, to: usize| {
            String::from_utf8_lossy(&markup[from..to]).to_ascii_lowercase()
        };
        let mut at = find(1, |byte| is_space(byte) || matches!(byte, b'/' | b'>'))?;
        let name = lower(1, at);
        let mut attributes = Vec::new();
        loop {
            at = find(at, |byte| !is_space(byte) && byte != b'/')?;
            if markup[at] == b'>' {
                return Some(Self { name, attributes, end: at + 1 });
            }
            // An equals sign that comes first is a part of the name.
            let key_end =
                find(at + 1, |byte| is_space(byte) || matches!(byte, b'/' | b'>' | b'='))?;
            let key = lower(at, key_end);
            at = find(key_end, |byte| !is_space(byte))?;
            if markup[at] != b'=' {
                continue;
            }
            let start = find(at + 1, |byte| !is_space(byte))?;
            at = match markup[start] {
                b'"' => find(start + 1, |byte| byte == b'"')? + 1,
                b'\'' => find(start + 1, |byte| byte == b'\'')? + 1,
                _ => find(start, |byte| is_space(byte) || byte == b'>')?,
            };
            attributes.push((key, (start, at)));
        }
    }
}

/// Writes a comment, an end tag or a declaration as it is; how many bytes it was.
fn skip(markup: &[u8], out: &mut Vec<u8>) -> usize {
    let end: &[u8] = if markup.starts_with(b"<!--") { b"-->" } else { b">" };
    let is_markup = markup.get(1).is_some_and(|next| matches!(next, b'!' | b'?' | b'/'));
    let length = match is_markup {
        true => markup.windows(end.len()).position(|window| window == end).map(|at| at + end.len()),
        false => Some(1),
    };
    let length = length.unwrap_or(markup.len());
    out.extend_from_slice(&markup[..length]);
    length
}

/// Bytes up to the end tag of an element that holds no markup.
fn raw_text(text: &[u8], name: &str) -> usize {
    let is_end = |window: &[u8]| {
        window.starts_with(b"</") && window[2..].eq_ignore_ascii_case(name.as_bytes())
    };
    text.windows(name.len() + 2).position(is_end).unwrap_or(text.len())
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] | [b'\'', inner @ .., b'\''] => inner,
        value => value,
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0x0c)
}

/// The character references that URLs are written with. Others are left as they are.
fn unescape(text: &str) -> String {
    let mut text = text.to_owned();
    for (reference, char) in [
        ("&#39;", "'"),
        ("&#34;", "\""),
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ] {
        text = text.replace(reference, char);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The attributes that hold URLs (HTML 4.01 and 5, index of attributes).
fn url_attributes(tag: &str) -> &'static [&'static str] {
    match tag {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    }
}

/// Elements whose text is no markup.
const RAW_TEXT: [&str; 8] =
    ["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/p/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            host: "api:6443".to_owned(),
        }
    }

    #[test]
    fn absolute_paths_of_the_backend_get_the_prefix() {
        // S19.
        for (url, expected) in [
            ("/", "/p/proxy/"),
            ("/a/../b//c/?q=/x#/y", "/p/proxy/b/c/?q=/x#/y"),
            ("http://10.0.0.1:80/a", "/p/proxy/a"),
            ("https://api:6443/a", "https://api:6443/p/proxy/a"),
            ("//10.0.0.1:80/p/proxy/a", "/p/proxy/a"),
            ("//evil/..//x", "//evil/..//x"),
            ("/p/proxy/a", "/p/proxy/a"),
            ("a/b", "a/b"),
            ("?q", "?q"),
            ("", ""),
            ("mailto:a@b", "mailto:a@b"),
            ("http://example.com/a", "http://example.com/a"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("http://10.0.0.1:80@example.com/", "http://10.0.0.1:80@example.com/"),
        ] {
            let became = links().url(url).unwrap_or_else(|| url.to_owned());
            assert_eq!(became, expected, "{url}");
        }
    }

    #[test]
    fn the_links_of_a_page_are_changed_and_nothing_else() {
        // S19.
        let page = |url: &str| {
            format!(
                "<!DOCTYPE html><!-- <a href='/c'> --><A\n class=x HREF = {url} disabled>a < b</a>\
                 <img/src={url}><p href=/no><script src={url}>'<a href=\"/no\">'</SCRIPT>\
                 <a href={url}"
            )
        };
        let became = String::from_utf8(links().html(page("'/x?a=1&amp;b'").as_bytes())).unwrap();
        let mut expected = page("\"/p/proxy/x?a=1&amp;b\"");
        // The last tag is cut off.
        let cut = expected.rfind("<a").unwrap();
        expected.replace_range(cut.., "<a href='/x?a=1&amp;b'");
        assert_eq!(became, expected);
        let unquoted = links().html(b"<form action=/x></form>");
        assert_eq!(unquoted, b"<form action=\"/p/proxy/x\"></form>");
    }

    proptest::proptest! {
        #[test]
        fn a_page_without_absolute_paths_stays_as_it_is(page in "[<>a-z ='\"!-]{0,60}") {
            proptest::prop_assert_eq!(links().html(page.as_bytes()), page.as_bytes());
        }

        #[test]
        fn any_url_and_page_is_taken_apart(text in "[<a-z0-9:/?#@.%&;=' é>-]{0,40}") {
            links().url(&text);
            links().html(text.as_bytes());
            links().html(format!("<a href=\"{text}\"").as_bytes());
        }
    }
}
