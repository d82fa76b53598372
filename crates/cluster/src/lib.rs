//! A Kubernetes API as a source of changes and a sink of writes, over kube-rs.
