//! The state folder: what lies where, who holds it, and which version wrote it.
