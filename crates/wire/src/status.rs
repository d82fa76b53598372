//! `metav1.Status` and the field errors inside it.
//!
//! What it is: one constructor per failure that the API gives, with the texts of the real server
//! (apimachinery `api/errors`). What it is not: it decides nothing.

use serde_json::{Map, Value, json};

/// Why one field is wrong: one `Status.details.causes` entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldError {
    /// Path such as `spec.ports[0].port`.
    pub field: String,
    /// Machine-readable kind of the error.
    pub reason: CauseReason,
    /// The cause's message, without the field: `Invalid value: 0: must be between 1 and 65535`.
    pub message: String,
}

/// `Status.details.causes[].reason` (apimachinery field.ErrorType).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CauseReason {
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueTooLong`.
    TooLong,
    /// `FieldValueTooMany`.
    TooMany,
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
    /// `FieldValueNotFound`.
    NotFound,
    /// `InternalError`.
    Internal,
}

impl CauseReason {
    /// The API's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "FieldValueInvalid",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::Internal => "InternalError",
        }
    }
}

/// An answer that is a failure.
#[derive(Clone, PartialEq, Debug)]
pub struct Failure {
    /// HTTP status code.
    pub code: u16,
    /// `reason`, such as `NotFound`; empty when the real server leaves it out.
    pub reason: String,
    /// For people.
    pub message: String,
    /// `details`, `Null` when absent.
    pub details: Value,
    /// `metadata`, when there is any: how to go on with a list, for one.
    pub metadata: Option<Box<Value>>,
}

impl Failure {
    /// The `metav1.Status` object.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.as_str().into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        if let Some(metadata) = &self.metadata {
            status["metadata"] = (**metadata).clone();
        }
        status
    }

    /// The same failure with `details.retryAfterSeconds`.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        if self.details.is_null() {
            self.details = json!({});
        }
        self.details["retryAfterSeconds"] = seconds.into();
        self
    }

    fn new(code: u16, reason: &str, message: impl Into<String>, details: Value) -> Self {
        let (reason, message) = (reason.to_owned(), message.into());
        Self { code, reason, message, details, metadata: None }
    }
}

/// 404: there is no object of this name. `plural` names the resource, as in paths.
pub fn not_found(group: &str, plural: &str, name: &str) -> Failure {
    let message = format!("{} {} not found", qualified(group, plural), quote(name));
    Failure::new(404, "NotFound", message, details(group, plural, name))
}

/// 404: the path names no served resource.
pub fn path_not_found() -> Failure {
    Failure::new(404, "NotFound", "the server could not find the requested resource", json!({}))
}

/// 409: an object of this name exists.
pub fn already_exists(group: &str, plural: &str, name: &str) -> Failure {
    let message = format!("{} {} already exists", qualified(group, plural), quote(name));
    Failure::new(409, "AlreadyExists", message, details(group, plural, name))
}

/// 409 with a given cause: `Operation cannot be fulfilled on services "x": why`.
pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Failure {
    let target = qualified(group, plural);
    let message = format!("Operation cannot be fulfilled on {target} {}: {why}", quote(name));
    Failure::new(409, "Conflict", message, details(group, plural, name))
}

/// 409: the resourceVersion of the write is not that of the stored object.
pub fn modified(group: &str, plural: &str, name: &str) -> Failure {
    let why = "the object has been modified; please apply your changes to the latest version and \
               try again";
    conflict(group, plural, name, why)
}

/// 409: the uid of the write is not that of the stored object. `key` is the storage key.
pub fn uid_mismatch(
    (group, plural, name): (&str, &str, &str),
    key: &str,
    wanted: &str,
    actual: &str,
) -> Failure {
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, \
         AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object \
         meta: {actual}"
    );
    conflict(group, plural, name, &why)
}

/// 409 of an apply: other managers own what it wants to change. Each conflict is the other
/// manager's text, such as `conflict with "m1"`, and the field's path.
pub fn apply_conflict(message: String, conflicts: &[(String, String)]) -> Failure {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(message, field)| {
            json!({ "reason": "FieldManagerConflict", "message": message, "field": field })
        })
        .collect();
    Failure::new(409, "Conflict", message, json!({ "causes": causes }))
}

/// 422: the object breaks rules. `kind` is the Kind, such as `Service`.
pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Failure {
    let target = qualified(group, kind);
    let message = format!("{target} {} is invalid: {}", quote(name), aggregate(errors));
    let mut details = details(group, kind, name);
    details["causes"] = errors.iter().map(cause).collect();
    Failure::new(422, "Invalid", message, details)
}

/// 422 without details: a JSON patch that does not apply.
pub fn unprocessable_patch() -> Failure {
    let message = "the server rejected our request due to an error in our request";
    Failure::new(422, "Invalid", message, json!({}))
}

/// 400.
pub fn bad_request(message: impl Into<String>) -> Failure {
    Failure::new(400, "BadRequest", message, Value::Null)
}

/// 401.
pub fn unauthorized() -> Failure {
    Failure::new(401, "Unauthorized", "Unauthorized", Value::Null)
}

/// 403 for a resource. `name` may be empty (lists and creates).
pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Failure {
    let target = qualified(group, plural);
    let message = if name.is_empty() {
        format!("{target} is forbidden: {why}")
    } else {
        format!("{target} {} is forbidden: {why}", quote(name))
    };
    Failure::new(403, "Forbidden", message, details(group, plural, name))
}

/// 403 for a path that names no resource.
pub fn forbidden_path(why: &str) -> Failure {
    Failure::new(403, "Forbidden", format!("forbidden: {why}"), json!({}))
}

/// 403: nothing may be created in a Namespace that is being deleted.
pub fn namespace_terminating(group: &str, plural: &str, name: &str, namespace: &str) -> Failure {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut failure = forbidden(group, plural, name, &why);
    failure.details["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    failure
}

/// 405.
pub fn method_not_allowed() -> Failure {
    let message = "the server does not allow this method on the requested resource";
    Failure::new(405, "MethodNotAllowed", message, json!({}))
}

/// 405 for an operation that this resource does not have (`patch is not supported on resources
/// of kind "x"`).
pub fn method_not_supported(group: &str, plural: &str, action: &str) -> Failure {
    let kind = quote(&qualified(group, plural));
    let message = format!("{action} is not supported on resources of kind {kind}");
    Failure::new(405, "MethodNotAllowed", message, details(group, plural, ""))
}

/// 406: nothing of what the client accepts can be given.
pub fn not_acceptable(representations: &[&str]) -> Failure {
    let message =
        format!("406: Not Acceptable\n\nAvailable representations: {}", representations.join(", "));
    Failure::new(406, "NotAcceptable", message, json!({}))
}

/// 406 with a text of its own (a Table or PartialObjectMetadata of the wrong shape).
pub fn not_acceptable_because(message: impl Into<String>) -> Failure {
    Failure::new(406, "NotAcceptable", message, Value::Null)
}

/// 410: the resourceVersion of a watch or a continue token is too old.
pub fn expired(message: impl Into<String>) -> Failure {
    Failure::new(410, "Expired", message, Value::Null)
}

/// 410 of a page of a list whose version is no longer known. The token leads to the rest as it is
/// now.
pub fn continue_expired(token: &str) -> Failure {
    let mut failure = expired(
        "The provided continue parameter is too old to display a consistent list result. You can \
         start a new list without the continue parameter, or use the continue token in this \
         response to retrieve the remainder of the results. Continuing with the provided token \
         results in an inconsistent list - objects that were created, modified, or deleted between \
         the time the first chunk was returned and now may show up in the list.",
    );
    failure.metadata = Some(Box::new(json!({ "continue": token })));
    failure
}

/// 410 of a watch that starts before the oldest event that is still known.
pub fn too_old(wanted: u64, oldest: u64) -> Failure {
    expired(format!("too old resource version: {wanted} ({oldest})"))
}

/// 413.
pub fn too_large(limit: u64) -> Failure {
    let message = format!("Request entity too large: limit is {limit}");
    Failure::new(413, "RequestEntityTooLarge", message, Value::Null)
}

/// 415 of a body whose format is unknown.
pub fn unsupported_media_type(accepted: &[&str]) -> Failure {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    Failure::new(415, "UnsupportedMediaType", message, Value::Null)
}

/// 415 of a patch whose Content-Type is none of the patch types.
pub fn unsupported_patch_type() -> Failure {
    Failure::new(415, "UnsupportedMediaType", "415: Unsupported Media Type", json!({}))
}

/// 405: the definition of the kind is being deleted.
pub fn definition_terminating(verb: &str) -> Failure {
    let message = format!("{verb} not allowed while custom resource definition is terminating");
    Failure { message, ..method_not_allowed() }
}

/// 429: try again after some seconds.
pub fn too_many_requests(message: impl Into<String>, retry_after: u32) -> Failure {
    Failure::new(429, "TooManyRequests", message, json!({ "retryAfterSeconds": retry_after }))
}

/// 500 (`Internal error occurred: ...`).
pub fn internal(why: &str) -> Failure {
    let details = json!({ "causes": [{ "message": why }] });
    Failure::new(500, "InternalError", format!("Internal error occurred: {why}"), details)
}

/// 500 without a reason: an error that upstream never gave a type.
pub fn untyped(message: impl Into<String>) -> Failure {
    Failure::new(500, "", message, Value::Null)
}

/// 503.
pub fn service_unavailable(message: impl Into<String>) -> Failure {
    Failure::new(503, "ServiceUnavailable", message, Value::Null)
}

/// 504 of an operation that took too long; 0 tells no time to try again.
pub fn timeout(message: &str, retry_after: u32) -> Failure {
    let details = match retry_after {
        0 => json!({}),
        seconds => json!({ "retryAfterSeconds": seconds }),
    };
    Failure::new(504, "Timeout", format!("Timeout: {message}"), details)
}

/// 504: the resourceVersion lies in the future.
pub fn too_large_resource_version(wanted: u64, current: u64) -> Failure {
    let mut failure =
        timeout(&format!("Too large resource version: {wanted}, current: {current}"), 1);
    failure.details["causes"] = json!([{
        "reason": "ResourceVersionTooLarge", "message": "Too large resource version",
    }]);
    failure
}

/// The `Status` of a DELETE that does not answer with the object.
pub fn deleted(group: &str, plural: &str, name: &str, uid: &str) -> Value {
    let mut details = details(group, plural, name);
    details["uid"] = uid.into();
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details,
    })
}

/// Joins field errors as upstream's `ErrorList.ToAggregate` does: equal texts once, brackets
/// around several.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = format!("{}: {}", error.field, error.message);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// A text in quotes as Go's `%q` writes it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            char if (char as u32) < 0x20 || char as u32 == 0x7f => {
                quoted.push_str(&format!("\\x{:02x}", char as u32));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn details(group: &str, kind: &str, name: &str) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", group), ("kind", kind)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(details)
}

fn cause(error: &FieldError) -> Value {
    json!({ "reason": error.reason.as_str(), "message": error.message, "field": error.field })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(field: &str) -> FieldError {
        let message = "Required value".to_owned();
        FieldError { field: field.to_owned(), reason: CauseReason::Required, message }
    }

    #[test]
    fn one_error_stands_without_brackets() {
        let failure = invalid("", "Service", "s", &[error("spec.ports")]);
        assert_eq!(failure.message, "Service \"s\" is invalid: spec.ports: Required value");
        assert_eq!(failure.details["kind"], "Service");
        assert_eq!(failure.details["causes"][0]["reason"], "FieldValueRequired");
    }

    #[test]
    fn several_errors_are_bracketed_and_equal_texts_come_once() {
        let errors = [error("a"), error("b"), error("a")];
        let failure = invalid("discovery.k8s.io", "EndpointSlice", "e", &errors);
        let text = "EndpointSlice.discovery.k8s.io \"e\" is invalid: \
                    [a: Required value, b: Required value]";
        assert_eq!(failure.message, text);
        assert_eq!(failure.details["causes"].as_array().map(Vec::len), Some(3));
    }

    #[test]
    fn details_leave_empty_parts_out() {
        let failure = forbidden("", "services", "", "no");
        assert_eq!(failure.message, "services is forbidden: no");
        assert_eq!(failure.details, json!({ "kind": "services" }));
    }

    #[test]
    fn quotes_are_escaped_as_go_does() {
        assert_eq!(quote("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\x01é\"");
    }
}
