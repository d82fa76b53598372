//! Failures on their way out.

use wire::kinds::Kind;
use wire::status::{self, CauseReason, Failure, FieldError};

use crate::store::CommitError;

/// A failure and the warnings that go with it.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    pub(crate) warnings: Vec<String>,
}

/// What a step of a request gives.
pub(crate) type Outcome<T> = Result<T, Refusal>;

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self { failure, warnings: Vec::new() }
    }
}

impl Refusal {
    /// Adds warnings in front of those it has.
    pub(crate) fn after(mut self, mut warnings: Vec<String>) -> Self {
        warnings.append(&mut self.warnings);
        self.warnings = warnings;
        self
    }
}

/// 404 for an object of this kind.
pub(crate) fn not_found(row: &Kind, name: &str) -> Refusal {
    status::not_found(row.group(), row.plural(), name).into()
}

/// 409: the object has another resourceVersion.
pub(crate) fn modified(row: &Kind, name: &str) -> Refusal {
    status::modified(row.group(), row.plural(), name).into()
}

/// 422 when there are errors. They are about the object as it is stored.
pub(crate) fn check(row: &Kind, name: &str, errors: &[FieldError]) -> Outcome<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let stored = row.stored();
    Err(status::invalid(stored.group(), stored.kind(), name, errors).into())
}

/// 422 about an option of the request, such as `PatchOptions`.
pub(crate) fn bad_option(
    options: &str,
    field: &str,
    reason: CauseReason,
    message: impl Into<String>,
) -> Refusal {
    let error = FieldError { field: field.to_owned(), reason, message: message.into() };
    status::invalid("meta.k8s.io", options, "", &[error]).into()
}

/// A write that failed for another reason than a conflict.
pub(crate) fn storage(error: &CommitError) -> Refusal {
    let text = match error {
        CommitError::Disk { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    };
    status::internal(&text).into()
}
