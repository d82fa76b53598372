//! The two loops: the agent (Cluster to kernel) and the controller (Cluster to API).
