//! Model to objects: every [`model::Write`] as one call of the Kubernetes API, described as data.

use model::Write;
use serde_json::Value;

/// One call of the Kubernetes API.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// HTTP method.
    pub method: Method,
    /// Path, such as `/api/v1/namespaces/default/pods`.
    pub path: String,
    /// Content type of the body.
    pub content_type: &'static str,
    /// The body: an object, a patch, or DeleteOptions.
    pub body: Value,
    /// What to do when the object is missing (404): this call instead, if any.
    pub if_missing: Option<Box<Call>>,
}

/// HTTP method of a [`Call`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// The call that carries a write out.
pub fn call(write: &Write) -> Call {
    let _ = write;
    todo!()
}
