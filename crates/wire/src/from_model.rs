//! Model to objects.
