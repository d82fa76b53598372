//! OpenAPI v3 documents of the served kinds.
