//! Reading a request's body and turning it into objects.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use wire::custom::CustomKind;
use wire::decode::{ContentType, Decoded, FieldValidation};
use wire::patch::{Patch, PatchKind};
use wire::schema::Form;
use wire::status::{self, Failure};

use crate::api::{Options, PatchType, Verb};

/// Reads the whole body, in bounded space; the time is bounded by the caller.
pub(crate) async fn read(headers: &HeaderMap, mut body: Incoming) -> Result<Bytes, Failure> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok())
        .unwrap_or(0);
    let mut whole = BytesMut::with_capacity(announced.min(FIRST_BUFFER));
    // What is too large is still read for a while: a client that is writing does not look for an
    // answer, and would only see the connection break.
    let mut size = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| status::bad_request(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        size = size.saturating_add(data.len());
        if size > LARGEST_DRAINED {
            break;
        }
        if size <= LARGEST {
            whole.extend_from_slice(&data);
        }
    }
    if size > LARGEST {
        return Err(status::too_large(LARGEST as u64));
    }
    Ok(whole.freeze())
}

/// The type of a patch, by its Content-Type.
pub(crate) fn patch_type(headers: &HeaderMap) -> Result<PatchType, Failure> {
    match media_type(headers).as_str() {
        "application/json-patch+json" => Ok(PatchType::Json),
        "application/merge-patch+json" => Ok(PatchType::Merge),
        "application/strategic-merge-patch+json" => Ok(PatchType::Strategic),
        "application/apply-patch+yaml" => Ok(PatchType::Apply),
        _ => Err(status::unsupported_patch_type()),
    }
}

/// How custom resources are not written: they have neither strategic merge patches nor a protobuf
/// form, and none are made whose definition is being deleted.
pub(crate) fn check_custom(
    kind: &CustomKind,
    headers: &HeaderMap,
    verb: Verb,
) -> Result<(), Failure> {
    let is_object = matches!(verb, Verb::Create | Verb::Update);
    match verb {
        Verb::Create if kind.is_terminating => Err(status::definition_terminating("create")),
        Verb::Patch(PatchType::Strategic) => Err(status::unsupported_media_type(&CUSTOM_PATCHES)),
        _ if is_object && content_type(headers)? == ContentType::Protobuf => {
            Err(status::unsupported_media_type(&ACCEPTED[..2]))
        }
        _ => Ok(()),
    }
}

/// The decoded body of a write.
pub(crate) struct Written {
    /// What was sent.
    pub(crate) value: Value,
    /// Texts for `Warning` headers.
    pub(crate) warnings: Vec<String>,
    /// What is unusual about a patch, to be judged with the patched object.
    pub(crate) strict: Vec<String>,
}

/// Decodes the body of a write; `None` where there is none to decode.
pub(crate) fn decode(
    headers: &HeaderMap,
    body: &[u8],
    verb: Verb,
    expected: Form<'_>,
    validation: FieldValidation,
) -> Result<Option<Written>, Failure> {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => Ok(None),
        Verb::Create | Verb::Update => {
            wire::decode::object(body, content_type(headers)?, expected, validation).map(object)
        }
        Verb::Patch(PatchType::Apply) => wire::apply::parse(body, validation).map(object),
        Verb::Patch(kind) => {
            let kind = match kind {
                PatchType::Json => PatchKind::Json,
                PatchType::Strategic => PatchKind::Strategic,
                PatchType::Merge | PatchType::Apply => PatchKind::Merge,
            };
            let Patch { value, strict } = wire::patch::parse(kind, body)?;
            Ok(Some(Written { value, warnings: Vec::new(), strict }))
        }
        Verb::Delete | Verb::DeleteCollection if body.is_empty() => Ok(None),
        Verb::Delete | Verb::DeleteCollection => {
            wire::decode::delete_options(body, content_type(headers)?).map(plain)
        }
    }
}

/// Options that a DELETE may carry in its body: there they stand instead of those in the query.
pub(crate) fn merge_delete_options(options: &mut Options, body: &Value) {
    if let Some(seconds) = body["gracePeriodSeconds"].as_i64() {
        options.grace_period_seconds = Some(seconds);
    }
    if let Some(policy) = body["propagationPolicy"].as_str() {
        policy.clone_into(&mut options.propagation_policy);
    }
    if body["dryRun"].as_array().is_some_and(|values| values.iter().any(|value| value == "All")) {
        options.dry_run = true;
    }
}

/// The manager of fields that a client names by its User-Agent: what stands before the first
/// slash, printable, 128 characters at most (apiserver `prefixFromUserAgent`).
pub(crate) fn user_agent_manager(headers: &HeaderMap) -> String {
    headers
        .get(http::header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .and_then(|agent| agent.split('/').next())
        .unwrap_or_default()
        .chars()
        .filter(|char| !char.is_control())
        .take(128)
        .collect()
}

fn object(Decoded { value, warnings }: Decoded) -> Option<Written> {
    Some(Written { value, warnings, strict: Vec::new() })
}

fn plain(value: Value) -> Option<Written> {
    object(Decoded { value, warnings: Vec::new() })
}

fn content_type(headers: &HeaderMap) -> Result<ContentType, Failure> {
    match media_type(headers).as_str() {
        "" | "application/json" => Ok(ContentType::Json),
        "application/yaml" => Ok(ContentType::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(ContentType::Protobuf),
        _ => Err(status::unsupported_media_type(&ACCEPTED)),
    }
}

fn media_type(headers: &HeaderMap) -> String {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        .unwrap_or_default()
}

const CUSTOM_PATCHES: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
const ACCEPTED: [&str; 3] =
    ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// Bytes; the real server's limit.
const LARGEST: usize = 3 * 1024 * 1024;
/// Bytes after which even reading without keeping ends.
const LARGEST_DRAINED: usize = 4 * LARGEST;
/// Bytes set aside before a client has sent any.
const FIRST_BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn with_type(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))])
    }

    #[test]
    fn parameters_of_the_content_type_are_ignored_and_none_is_json() {
        let of = |text| content_type(&with_type(text));
        assert_eq!(of("application/json; charset=utf-8"), Ok(ContentType::Json));
        assert_eq!(of("application/yaml"), Ok(ContentType::Yaml));
        assert_eq!(content_type(&HeaderMap::new()), Ok(ContentType::Json));
        assert_eq!(of("text/plain").unwrap_err().code, 415);
    }

    #[test]
    fn a_patch_must_name_its_type() {
        assert_eq!(patch_type(&with_type("application/merge-patch+json")), Ok(PatchType::Merge));
        assert_eq!(patch_type(&with_type("application/json")).unwrap_err().code, 415);
    }

    #[test]
    fn the_manager_is_the_agent_up_to_its_slash() {
        let agent = HeaderValue::from_static("kubectl/v1.37.1 (linux/amd64)");
        let headers = HeaderMap::from_iter([(http::header::USER_AGENT, agent)]);
        assert_eq!(user_agent_manager(&headers), "kubectl");
        assert_eq!(user_agent_manager(&HeaderMap::new()), "");
    }

    #[test]
    fn options_in_the_body_of_a_delete_count() {
        let mut options = Options::default();
        let body = json!({
            "gracePeriodSeconds": 0, "propagationPolicy": "Orphan", "dryRun": ["All"],
        });
        merge_delete_options(&mut options, &body);
        assert_eq!((options.grace_period_seconds, options.dry_run), (Some(0), true));
        assert_eq!(options.propagation_policy, "Orphan");
    }
}
