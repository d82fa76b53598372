//! GET, LIST and WATCH.

use std::time::Duration;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use futures::StreamExt;
use serde_json::{Value, json};
use wire::kinds::Kind;
use wire::status::{self, CauseReason, FieldError};

use super::Registry;
use crate::api::{Answer, More, Options, Request};
use crate::refusal::{Outcome, Refusal, not_found};
use crate::resources::show;
use crate::store::{Expired, Listing, Page};
use crate::watch::{Selection, Start, Watch};

/// Encoding of continue tokens. As in Go, bits behind the last byte do not matter.
const TOKEN: GeneralPurpose =
    GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

const VERSION_TOO_OLD: &str = "The resourceVersion for the provided list is too old.";

/// Watches without `timeoutSeconds` last this long and up to as much again.
const WATCH_SECONDS: u64 = 1800;

impl Registry {
    /// GET of one object. Also of its `status`, which is the whole object.
    pub(super) fn read(&self, request: &Request) -> Outcome<Answer> {
        let name = request.name();
        let record =
            self.store.get(&self.key(request)).ok_or_else(|| not_found(&request.kind, name))?;
        let wanted = parse_version(&request.options.resource_version)
            .map_err(|text| status::untyped(format!("resourceVersion: {text}")))?;
        self.check_not_future(wanted)?;
        Ok(Answer::Object { code: 200, object: show(&request.kind, &record), warnings: Vec::new() })
    }

    /// LIST, whole or in pages.
    pub(super) fn list(&self, request: &Request) -> Outcome<Answer> {
        let selection = selection(request)?;
        let asked = ListOptions::parse(&request.options)?;
        self.check_not_future(asked.exact.or(asked.at_least).unwrap_or(0))?;
        let prefix = selection.prefix();
        let resource = self.resources.number(&request.kind);
        let Listing { mut objects, version } = match (&asked.token, asked.exact) {
            (None, None) => self.store.list(resource, &prefix),
            (None, Some(version)) => {
                let page = Page { prefix: &prefix, after: "", version };
                let expired = |_: Expired| status::expired(VERSION_TOO_OLD);
                self.store.page(resource, &page).map_err(expired)?
            }
            (Some(token), _) => {
                let version = token.version.unwrap_or_else(|| self.store.version());
                let page = Page { prefix: &prefix, after: &token.start, version };
                let expired = |_: Expired| {
                    let inconsistent = Token { version: None, start: token.start.clone() };
                    status::continue_expired(&inconsistent.encode())
                };
                self.store.page(resource, &page).map_err(expired)?
            }
        };
        if !selection.is_everything() {
            objects.retain(|(path, record)| selection.matches(path, record));
        }
        let more = asked.limit.filter(|limit| objects.len() > *limit).map(|limit| {
            let rest = objects.split_off(limit);
            let start = objects.last().map_or("", |(path, _)| path);
            More {
                token: Token { version: Some(version), start: start.to_owned() }.encode(),
                remaining: selection.is_everything().then_some(rest.len() as u64),
            }
        });
        let items = objects.iter().map(|(_, record)| show(&request.kind, record)).collect();
        Ok(Answer::List { items, resource_version: version, more })
    }

    /// WATCH.
    pub(super) fn watch(&self, request: &Request) -> Outcome<Answer> {
        let selection = selection(request)?;
        let options = &request.options;
        check_watch_options(options)?;
        let version = parse_version(&options.resource_version)
            .map_err(|text| status::untyped(format!("resourceVersion: {text}")))?;
        // A version from the future is no error here: the watch waits for what comes after it.
        let is_future = version > self.store.version();
        let start = match options.send_initial_events {
            Some(true) => Start::Objects { marked: options.allow_bookmarks && !is_future },
            Some(false) if version == 0 => Start::Now,
            None if version == 0 => Start::Objects { marked: false },
            _ => Start::After(version),
        };
        let seconds = options.timeout_seconds.filter(|seconds| *seconds > 0).unwrap_or_else(|| {
            WATCH_SECONDS + u64::from(u16::from_ne_bytes(crate::meta::random())) % WATCH_SECONDS
        });
        let watch = Watch {
            store: self.store.clone(),
            kind: request.kind.clone(),
            resource: self.resources.number(&request.kind),
            spec: self.store.spec(self.resources.number(&request.kind)),
            selection,
            start,
            bookmarks: options.allow_bookmarks,
            timeout: Duration::from_secs(seconds),
        };
        let stream = watch.stream();
        Ok(Answer::Watch(match request.kind {
            Kind::BuiltIn(_) => stream,
            // As upstream: clients look anew at what a definition has changed.
            Kind::Custom(_) => {
                stream.take_until(Box::pin(self.resources.ended(&request.kind))).boxed()
            }
        }))
    }

    /// 504 for a version that does not exist yet.
    fn check_not_future(&self, version: u64) -> Outcome<()> {
        let current = self.store.version();
        if version > current {
            return Err(status::too_large_resource_version(version, current).into());
        }
        Ok(())
    }
}

/// The selectors of a request.
pub(super) fn selection(request: &Request) -> Outcome<Selection> {
    let known = request.kind.selectable_names();
    let namespace = request.namespace.as_deref().unwrap_or("");
    let options = &request.options;
    Selection::parse(namespace, &options.label_selector, &options.field_selector, &known)
        .map_err(|text| status::bad_request(unknown_field(&known, text)).into())
}

/// A `resourceVersion`; 0 when there is none.
///
/// # Errors
///
/// What Go says about text that is no number.
pub(super) fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_not_a_number| {
        format!(
            "Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax",
            quoted = status::quote(text),
        )
    })
}

/// What the options of a list mean together.
struct ListOptions {
    limit: Option<usize>,
    token: Option<Token>,
    exact: Option<u64>,
    at_least: Option<u64>,
}

impl ListOptions {
    fn parse(options: &Options) -> Outcome<Self> {
        let version = parse_version(&options.resource_version)
            .map_err(|text| status::bad_request(format!("resourceVersion: {text}")))?;
        check_list_options(options)?;
        let matching = options.resource_version_match.as_str();
        let token = Some(&options.continue_token).filter(|token| !token.is_empty());
        if token.is_some() && version != 0 {
            let text = "specifying resource version is not allowed when using continue";
            return Err(status::bad_request(text).into());
        }
        let limit = options.limit.filter(|limit| *limit > 0);
        let is_exact = matching == "Exact";
        Ok(Self {
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            token: token.map(|token| Token::decode(token)).transpose()?,
            exact: (is_exact && version != 0).then_some(version),
            at_least: (!is_exact && version != 0).then_some(version),
        })
    }
}

/// Where a list in pages goes on: `metadata.continue`.
struct Token {
    /// Of the first page; `None` when the rest shall be as it is now.
    version: Option<u64>,
    /// Path of the last object of the page before.
    start: String,
}

impl Token {
    fn encode(&self) -> String {
        let version = self.version.map_or_else(|| json!(-1), |version| json!(version));
        let token = json!({ "v": "meta.k8s.io/v1", "rv": version, "start": self.start });
        TOKEN.encode(token.to_string())
    }

    fn decode(text: &str) -> Outcome<Self> {
        let invalid = |why: &str| {
            Refusal::from(status::bad_request(format!("invalid continue token: {why}")))
        };
        let no_key = |why: &str| invalid(&format!("continue key is not valid: {why}"));
        let bytes = TOKEN.decode(text).map_err(|error| no_key(&error.to_string()))?;
        let token: Value = serde_json::from_slice(&bytes).map_err(|error| {
            match bytes.first().filter(|first| !first.is_ascii_graphic()) {
                Some(first) => no_key(&format!(
                    "invalid character '\\u{first:04x}' looking for beginning of value"
                )),
                None => no_key(&error.to_string()),
            }
        })?;
        let known = token["v"].as_str().unwrap_or_default();
        if known != "meta.k8s.io/v1" {
            let known = status::quote(known);
            return Err(no_key(&format!("server does not recognize this encoded version {known}")));
        }
        let version = match token["rv"].as_i64() {
            None | Some(0) => {
                let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
                return Err(no_key(why));
            }
            Some(version) => u64::try_from(version).ok(),
        };
        match token["start"].as_str() {
            None | Some("") => Err(no_key("encoded start key empty (version meta.k8s.io/v1)")),
            Some(start) => Ok(Self { version, start: start.to_owned() }),
        }
    }
}

/// What the options of a list may not be (apimachinery `ValidateListOptions`).
pub(super) fn check_list_options(options: &Options) -> Outcome<()> {
    let matching = options.resource_version_match.as_str();
    let mut errors = Vec::new();
    if !matching.is_empty() {
        if options.resource_version.is_empty() {
            errors.push(forbidden_match("is forbidden unless resourceVersion is provided"));
        }
        if !options.continue_token.is_empty() {
            errors.push(forbidden_match("is forbidden when continue is provided"));
        }
        if !matches!(matching, "Exact" | "NotOlderThan") {
            errors.push(unknown_match(matching, "\"Exact\", \"NotOlderThan\", \"\""));
        }
        if matching == "Exact" && options.resource_version == "0" {
            errors.push(forbidden_match("\"Exact\" is forbidden for resourceVersion \"0\""));
        }
    }
    if options.send_initial_events.is_some() {
        let text = "Forbidden: sendInitialEvents is forbidden for list";
        errors.push(list_option("sendInitialEvents", CauseReason::Forbidden, text));
    }
    refuse_list_options(&errors)
}

/// What the options of a watch may not be.
fn check_watch_options(options: &Options) -> Outcome<()> {
    let matching = options.resource_version_match.as_str();
    let mut errors = Vec::new();
    if options.send_initial_events.is_some() && matching != "NotOlderThan" {
        let text =
            "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(list_option("resourceVersionMatch", CauseReason::Forbidden, text));
    }
    if !matching.is_empty() {
        if options.send_initial_events.is_none() {
            let why = "is forbidden for watch unless sendInitialEvents is provided";
            errors.push(forbidden_match(why));
        }
        if matching != "NotOlderThan" {
            errors.push(unknown_match(matching, "\"NotOlderThan\""));
        }
        if !options.continue_token.is_empty() {
            errors.push(forbidden_match("is forbidden when continue is provided"));
        }
    }
    refuse_list_options(&errors)
}

fn forbidden_match(why: &str) -> FieldError {
    let text = format!("Forbidden: resourceVersionMatch {why}");
    list_option("resourceVersionMatch", CauseReason::Forbidden, text)
}

fn unknown_match(matching: &str, known: &str) -> FieldError {
    let matching = status::quote(matching);
    let text = format!("Unsupported value: {matching}: supported values: {known}");
    list_option("resourceVersionMatch", CauseReason::NotSupported, text)
}

fn list_option(field: &str, reason: CauseReason, message: impl Into<String>) -> FieldError {
    FieldError { field: field.to_owned(), reason, message: message.into() }
}

fn refuse_list_options(errors: &[FieldError]) -> Outcome<()> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid("meta.k8s.io", "ListOptions", "", errors).into())
}

/// Kinds without selectable fields of their own have another text for unknown ones.
fn unknown_field(known: &[&str], text: String) -> String {
    match text.strip_prefix("field label not supported: ") {
        Some(field) if known.is_empty() => format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            status::quote(field)
        ),
        _ => text,
    }
}
