//! Bytes to objects: JSON and YAML with field validation.
