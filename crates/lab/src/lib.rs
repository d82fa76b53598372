//! Network namespaces as nodes, pods and clients, and the kubelet that runs processes in them.
