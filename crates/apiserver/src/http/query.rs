//! The query of a request, with the errors of the real server.

use std::str::FromStr;
use std::time::Duration;

use wire::decode::FieldValidation;
use wire::status::{self, CauseReason, Failure, FieldError};

use super::duration;
use crate::api::{Options, PatchType, Verb};
use crate::percent::percent_decode;

/// Names and values in the order sent.
#[derive(Clone, Default, Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c=d`. A pair that cannot be decoded is left out, as Go's `ParseQuery` does.
    pub(crate) fn parse(text: &str) -> Self {
        let decode = |part: &str| percent_decode(&part.replace('+', " "));
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            decode(name).zip(decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a name.
    pub(crate) fn all<'a, 'n: 'a>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch: absent, `false` and `0` are off, all else is on
    /// (apimachinery `Convert_Slice_string_To_bool`).
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| !(value.eq_ignore_ascii_case("false") || value == "0"))
    }

    /// A whole number.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Failure> {
        self.get(name).filter(|value| !value.is_empty()).map(parse_int).transpose()
    }

    /// How long the client will wait: `timeout`, or the server's own limit where that is less or
    /// the client does not care (apiserver `WithRequestDeadline`).
    pub(crate) fn timeout(&self, limit: Duration) -> Result<Duration, Failure> {
        let Some(text) = self.get("timeout").filter(|text| !text.is_empty()) else {
            return Ok(limit);
        };
        let asked = duration::parse(text).map_err(|why| {
            status::bad_request(format!("invalid timeout specified in the request URL - {why}"))
        })?;
        Ok(if asked.is_zero() { limit } else { asked.min(limit) })
    }

    /// The options of a request.
    pub(crate) fn options(&self) -> Result<Options, Failure> {
        let text = |name: &str| self.get(name).unwrap_or_default().to_owned();
        // A negative limit or timeout means none, as in the real server.
        let count = |name: &str| {
            self.integer(name).map(|number| number.and_then(|number| u64::try_from(number).ok()))
        };
        Ok(Options {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            limit: count("limit")?.filter(|limit| *limit > 0),
            continue_token: text("continue"),
            timeout_seconds: count("timeoutSeconds")?.filter(|seconds| *seconds > 0),
            allow_bookmarks: self.switch("allowWatchBookmarks").unwrap_or(false),
            send_initial_events: self.switch("sendInitialEvents"),
            dry_run: self.all("dryRun").any(|value| value == "All"),
            field_manager: text("fieldManager"),
            field_validation: text("fieldValidation"),
            force: self.switch("force").unwrap_or(false),
            grace_period_seconds: self.integer("gracePeriodSeconds")?,
            propagation_policy: text("propagationPolicy"),
        })
    }

    /// Refuses options of a write that cannot be (apimachinery `ValidateCreateOptions` and its
    /// neighbours).
    pub(crate) fn check_write(&self, verb: Verb) -> Result<FieldValidation, Failure> {
        let mut errors = Vec::new();
        let dry_run: Vec<&str> = self.all("dryRun").filter(|value| !value.is_empty()).collect();
        if dry_run.iter().any(|value| *value != "All") {
            let sent = serde_json::Value::from(dry_run);
            errors.push(not_supported("dryRun", &sent.to_string(), "\"All\""));
        }
        let sent = self.get("fieldValidation").unwrap_or_default();
        let validation = FieldValidation::parse(sent);
        if validation.is_none() {
            let known = "\"\", \"Ignore\", \"Strict\", \"Warn\"";
            errors.push(not_supported("fieldValidation", &status::quote(sent), known));
        }
        if matches!(verb, Verb::Patch(kind) if kind != PatchType::Apply)
            && self.switch("force").is_some()
        {
            errors.push(FieldError {
                field: "force".to_owned(),
                reason: CauseReason::Forbidden,
                message: "Forbidden: may not be specified for non-apply patch".to_owned(),
            });
        }
        if matches!(verb, Verb::Create | Verb::Update | Verb::Patch(_)) {
            let manager = self.get("fieldManager").unwrap_or_default();
            errors.extend(check_manager(manager, verb == Verb::Patch(PatchType::Apply)));
        }
        match validation {
            Some(validation) if errors.is_empty() => Ok(validation),
            _ => Err(status::invalid("meta.k8s.io", options_kind(verb), "", &errors)),
        }
    }
}

/// Errors of `fieldManager`; an apply must name one (apimachinery `ValidateFieldManager`).
fn check_manager(manager: &str, is_apply: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut refuse = |reason, message: String| {
        errors.push(FieldError { field: "fieldManager".to_owned(), reason, message });
    };
    if is_apply && manager.is_empty() {
        refuse(CauseReason::Required, "Required value: is required for apply patch".to_owned());
    }
    if manager.len() > LONGEST_MANAGER {
        let text = format!("Too long: may not be more than {LONGEST_MANAGER} bytes");
        refuse(CauseReason::TooLong, text);
    }
    for (position, char) in manager.char_indices() {
        if char.is_control() || (char.is_whitespace() && char != ' ') {
            let text = format!(
                "Invalid value: {}: invalid character U+{:04X} (at position {position})",
                status::quote(manager),
                u32::from(char)
            );
            refuse(CauseReason::Invalid, text);
        }
    }
    errors
}

fn options_kind(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch(_) => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        Verb::Get => "GetOptions",
        Verb::List | Verb::Watch => "ListOptions",
    }
}

fn not_supported(field: &str, sent: &str, known: &str) -> FieldError {
    FieldError {
        field: field.to_owned(),
        reason: CauseReason::NotSupported,
        message: format!("Unsupported value: {sent}: supported values: {known}"),
    }
}

/// Go's `strconv.ParseInt(text, 10, 64)` with its error texts.
fn parse_int(text: &str) -> Result<i64, Failure> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    i64::from_str(text).map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", status::quote(text)))
    })
}

/// Bytes.
const LONGEST_MANAGER: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse("labelSelector=tier%20in+%28a%2Cb%29&watch&command=a&command=b");
        assert_eq!(query.get("labelSelector"), Some("tier in (a,b)"));
        assert_eq!(query.switch("watch"), Some(true));
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn switches_are_off_only_for_false_and_zero() {
        let query = Query::parse("a=false&b=0&c=False&d=no&e=1");
        let on = |name: &str| query.switch(name);
        assert_eq!((on("a"), on("b"), on("c")), (Some(false), Some(false), Some(false)));
        assert_eq!((on("d"), on("e"), on("f")), (Some(true), Some(true), None));
    }

    #[test]
    fn numbers_fail_with_the_words_of_go() {
        let failure = Query::parse("limit=x").options().unwrap_err();
        assert_eq!(failure.message, "strconv.ParseInt: parsing \"x\": invalid syntax");
        let failure = Query::parse("limit=99999999999999999999").options().unwrap_err();
        assert!(failure.message.ends_with("value out of range"));
    }

    #[test]
    fn an_unknown_field_validation_names_the_options_kind() {
        let failure = Query::parse("fieldValidation=Maybe").check_write(Verb::Create).unwrap_err();
        assert_eq!(
            failure.message,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \
             \"Maybe\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        );
        assert_eq!((failure.code, failure.details["kind"].as_str()), (422, Some("CreateOptions")));
    }

    #[test]
    fn a_field_manager_is_short_and_printable_and_named_by_who_applies() {
        let refused = |query: &str, verb| Query::parse(query).check_write(verb).unwrap_err();
        let apply = Verb::Patch(PatchType::Apply);
        assert_eq!(refused("", apply).details["causes"][0]["reason"], "FieldValueRequired");
        let long = format!("fieldManager={}", "m".repeat(129));
        assert_eq!(
            refused(&long, Verb::Create).details["causes"][0]["reason"],
            "FieldValueTooLong"
        );
        let failure = refused("fieldManager=a%0Ab", Verb::Update);
        assert!(failure.message.ends_with("invalid character U+000A (at position 1)"));
        assert!(Query::parse("fieldManager=a b").check_write(apply).is_ok());
        assert!(Query::parse(&long).check_write(Verb::Delete).is_ok());
    }

    #[test]
    fn a_timeout_is_at_most_the_server_s() {
        let limit = Duration::from_secs(60);
        for (query, seconds) in
            [("", 60), ("timeout=5s", 5), ("timeout=2m", 60), ("timeout=0s", 60)]
        {
            let expected = Duration::from_secs(seconds);
            assert_eq!(Query::parse(query).timeout(limit), Ok(expected), "{query}");
        }
        let failure = Query::parse("timeout=soon").timeout(limit).unwrap_err();
        assert_eq!(
            failure.message,
            "invalid timeout specified in the request URL - time: invalid duration \"soon\""
        );
    }

    #[test]
    fn dry_run_is_all_or_refused() {
        assert!(Query::parse("dryRun=All").options().unwrap().dry_run);
        let failure = Query::parse("dryRun=Some").check_write(Verb::Update).unwrap_err();
        assert_eq!(failure.details["causes"][0]["field"], "dryRun");
    }
}
