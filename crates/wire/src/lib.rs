//! Kubernetes objects to model and back.
//!
//! What it is: everything that knows how Kubernetes spells things. The schema of the
//! served kinds, decoding (JSON, YAML, protobuf), the four patch types, field
//! ownership, defaulting, validation, conversion to and from `model`, and the
//! `metav1.Status` texts of errors.
//!
//! What it is not: it stores nothing, allocates nothing, has no clock and does no I/O.
//!
//! ```text
//!  bytes ─ decode ─▶ Value ─ kinds[..].default, validate ─▶ Value ─ to_model ─▶ model::Object
//!                      ▲                                      │
//!                 patch, apply                          from_model ◀─ model::Write
//! ```
//!
//! An object is a `serde_json::Value` whose shape the schema has checked.

pub mod apply;
pub mod custom;
pub mod decode;
pub mod from_model;
mod jsonpath;
pub mod kinds;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod rules;
pub mod schema;
pub mod status;
pub mod structural;
pub mod to_model;
