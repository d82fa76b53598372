//! Defaulting and validation, one file per kind.
