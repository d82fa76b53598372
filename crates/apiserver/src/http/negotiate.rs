//! Content negotiation: which bytes the client wants, and in which shape.
//!
//! It has two stages, as in the real server. The first looks at the bare media types and knows no
//! wildcard but `*/*`; the second looks at the parameters, which ask for Tables and metadata.

use http::HeaderMap;
use http::header::{ACCEPT, USER_AGENT};
use wire::status::{self, Failure};

use super::query::Query;

/// Encoding of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// `application/json`.
    Json,
    /// `application/json`, indented for people.
    IndentedJson,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// What the client wants to see of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// All of it.
    Object,
    /// A `Table` of this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata` of this version.
    Partial(&'static str),
    /// `PartialObjectMetadataList` of this version.
    PartialList(&'static str),
}

/// The outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Negotiated {
    /// Encoding.
    pub(crate) format: Format,
    /// Shape.
    pub(crate) shape: Shape,
}

impl Format {
    /// JSON as the client likes it: people read it indented. They say so (`?pretty=1`), or use a
    /// program that shows them what it gets.
    pub(crate) fn json_for(headers: &HeaderMap, query: &Query) -> Self {
        let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
        let shown = || {
            let agent = agent.unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|program| agent.starts_with(program))
        };
        let pretty = match query.get("pretty") {
            Some(asked) => matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True"),
            None => shown(),
        };
        if pretty { Self::IndentedJson } else { Self::Json }
    }

    /// The Content-Type of an answer.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::IndentedJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// The Content-Type of a watch stream.
    pub(crate) fn stream_type(self) -> &'static str {
        match self {
            Self::Json | Self::IndentedJson => "application/json",
            Self::Yaml => "application/yaml;stream=watch",
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// Chooses for a resource.
pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Negotiated, Failure> {
    let mut negotiated = by_accept(headers)?;
    if negotiated.format == Format::Json {
        negotiated.format = Format::json_for(headers, query);
    }
    Ok(negotiated)
}

/// Custom resources have no protobuf form; their metadata has.
pub(crate) fn check_custom(negotiated: Negotiated) -> Result<(), Failure> {
    match negotiated {
        Negotiated { format: Format::Protobuf, shape: Shape::Object } => {
            Err(status::not_acceptable(&REPRESENTATIONS[..2]))
        }
        _ => Ok(()),
    }
}

fn by_accept(headers: &HeaderMap) -> Result<Negotiated, Failure> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Negotiated { format: Format::Json, shape: Shape::Object });
    }
    if !clauses.iter().any(|clause| clause.media == "*/*" || format_of(&clause.media).is_some()) {
        return Err(status::not_acceptable(&REPRESENTATIONS));
    }
    let mut options: Vec<(u16, Negotiated)> = Vec::new();
    for clause in &clauses {
        let format = match clause.media.as_str() {
            "*/*" | "application/*" => Some(Format::Json),
            media => format_of(media),
        };
        if let (Some(format), Some(shape)) = (format, shape_of(clause, format)) {
            options.push((clause.quality, Negotiated { format, shape }));
        }
    }
    best(&options).ok_or_else(|| {
        let accepted = REPRESENTATIONS.join(", ");
        status::not_acceptable_because(format!(
            "only the following media types are accepted: {accepted}"
        ))
    })
}

/// Whether aggregated discovery of this version is asked for, and before plain JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Discovery {
    /// `APIGroupDiscoveryList` of `apidiscovery.k8s.io/v2`.
    Aggregated,
    /// The older documents.
    Plain,
}

/// Chooses for `/api` and `/apis`.
pub(crate) fn negotiate_discovery(headers: &HeaderMap) -> Result<Discovery, Failure> {
    let clauses = clauses(headers);
    let mut plain = clauses.is_empty();
    for clause in &clauses {
        if clause.media != "application/json" && clause.media != "*/*" {
            plain |= format_of(&clause.media).is_some() && clause.params.is_empty();
            continue;
        }
        match (clause.param("as"), clause.param("g"), clause.param("v")) {
            (None, _, _) => plain = true,
            (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io"), Some("v2")) => {
                return Ok(Discovery::Aggregated);
            }
            _ => {}
        }
    }
    if plain {
        return Ok(Discovery::Plain);
    }
    Err(status::not_acceptable(&REPRESENTATIONS))
}

/// The first of the best quality. Objects are kept as JSON, so JSON is taken before protobuf where
/// the client does not mind.
fn best(options: &[(u16, Negotiated)]) -> Option<Negotiated> {
    let quality = options.iter().map(|(quality, _)| *quality).max()?;
    let mut equal =
        options.iter().filter(|(other, _)| *other == quality).map(|(_, option)| *option);
    let first = equal.next()?;
    if first.format == Format::Protobuf {
        let json = Negotiated { format: Format::Json, ..first };
        return Some(if equal.any(|option| option == json) { json } else { first });
    }
    Some(first)
}

fn format_of(media: &str) -> Option<Format> {
    [Format::Json, Format::Yaml, Format::Protobuf]
        .into_iter()
        .find(|format| format.content_type() == media)
}

/// The shape that the parameters ask for; `None` when there is no such shape.
fn shape_of(clause: &Clause, format: Option<Format>) -> Option<Shape> {
    if clause.param("stream").is_some_and(|stream| stream != "watch") {
        return None;
    }
    let Some(kind) = clause.param("as") else { return Some(Shape::Object) };
    if clause.param("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = ["v1", "v1beta1"].into_iter().find(|known| clause.param("v") == Some(known))?;
    match kind {
        "Table" if format != Some(Format::Protobuf) => Some(Shape::Table(version)),
        "PartialObjectMetadata" => Some(Shape::Partial(version)),
        "PartialObjectMetadataList" => Some(Shape::PartialList(version)),
        _ => None,
    }
}

struct Clause {
    media: String,
    params: Vec<(String, String)>,
    /// In thousandths.
    quality: u16,
}

impl Clause {
    fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn clauses(headers: &HeaderMap) -> Vec<Clause> {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|clause| !clause.trim().is_empty())
        .map(clause)
        .collect()
}

fn clause(text: &str) -> Clause {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default().to_ascii_lowercase();
    let mut quality = 1000;
    let mut params = Vec::new();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if name == "q" {
            quality = thousandths(value);
        } else {
            params.push((name.to_owned(), value.trim_matches('"').to_owned()));
        }
    }
    Clause { media, params, quality }
}

/// `0.75` as 750; what is not a quality counts as 1, as in Go's goautoneg.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = part.chars().chain("000".chars()).take(3).collect();
    match (whole, digits.parse::<u16>()) {
        ("0", Ok(part)) => part,
        _ => 1000,
    }
}

const REPRESENTATIONS: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(text))])
    }

    fn chosen(text: &'static str) -> (Format, Shape) {
        let chosen = by_accept(&accept(text)).unwrap();
        (chosen.format, chosen.shape)
    }

    #[test]
    fn nothing_and_anything_are_json() {
        assert_eq!(chosen(""), (Format::Json, Shape::Object));
        assert_eq!(chosen("*/*"), (Format::Json, Shape::Object));
    }

    #[test]
    fn a_table_is_taken_before_its_fallback() {
        let text = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(chosen(text), (Format::Json, Shape::Table("v1")));
        let unknown = "application/json;as=Table;v=v9;g=meta.k8s.io,application/json";
        assert_eq!(chosen(unknown), (Format::Json, Shape::Object));
    }

    #[test]
    fn protobuf_gives_way_to_json_of_equal_quality() {
        let text = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(chosen(text).0, Format::Json);
        assert_eq!(chosen("application/vnd.kubernetes.protobuf").0, Format::Protobuf);
        let preferred = "application/vnd.kubernetes.protobuf,application/json;q=0.9";
        assert_eq!(chosen(preferred).0, Format::Protobuf);
    }

    #[test]
    fn people_read_indented_json() {
        let curl = HeaderMap::from_iter([(USER_AGENT, HeaderValue::from_static("curl/8"))]);
        let other = HeaderMap::new();
        let format = |headers, query| negotiate(headers, &Query::parse(query)).unwrap().format;
        assert_eq!(format(&curl, ""), Format::IndentedJson);
        assert_eq!(format(&curl, "pretty=0"), Format::Json);
        assert_eq!(format(&other, "pretty=true"), Format::IndentedJson);
        assert_eq!(format(&other, ""), Format::Json);
    }

    #[test]
    fn only_the_full_wildcard_is_known() {
        for text in ["application/*", "text/html", "image/png"] {
            let failure = by_accept(&accept(text)).unwrap_err();
            assert!(failure.message.starts_with("406: Not Acceptable\n\nAvailable"), "{text}");
        }
    }

    #[test]
    fn a_shape_that_does_not_exist_is_not_acceptable() {
        let failure = by_accept(&accept("application/json;as=Chart;v=v1;g=x")).unwrap_err();
        assert_eq!((failure.code, failure.reason.as_str()), (406, "NotAcceptable"));
    }

    #[test]
    fn discovery_is_aggregated_only_in_its_second_version() {
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        assert_eq!(negotiate_discovery(&accept(v2)), Ok(Discovery::Aggregated));
        let v2beta1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(negotiate_discovery(&accept(v2beta1)).unwrap_err().code, 406);
        assert_eq!(negotiate_discovery(&accept("application/json")), Ok(Discovery::Plain));
    }

    proptest::proptest! {
        #[test]
        fn any_accept_header_is_answered(text in "[ -~]{0,60}") {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_str(&text).unwrap())]);
            let _ = (by_accept(&headers), negotiate_discovery(&headers));
        }
    }
}
