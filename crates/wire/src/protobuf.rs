//! Protobuf bodies of the served kinds.
