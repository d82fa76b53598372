//! Cluster DNS: a pure zone over the model and a hickory server around it.
