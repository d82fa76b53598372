//! Columns of the tables that `kubectl get` shows (`pkg/printers/internalversion`).

use super::Column;

pub(super) const NAME_AGE: &[Column<'static>] = &[NAME, AGE];

pub(super) const CONFIG_MAP: &[Column<'static>] =
    &[NAME, column("Data", "Number of keys in data and binaryData."), AGE];

pub(super) const ENDPOINTS: &[Column<'static>] =
    &[NAME, column("Endpoints", "Ready addresses with their ports."), AGE];

pub(super) const EVENT: &[Column<'static>] = &[
    column("Last Seen", "How long ago the event last happened."),
    column("Type", "Normal or Warning."),
    column("Reason", "Why, in one word."),
    column("Object", "What the event is about."),
    wide("Subobject", "The part of the object that the event is about."),
    wide("Source", "The component that reports."),
    column("Message", "For people."),
    wide("First Seen", "How long ago the event first happened."),
    wide("Count", "How often the event has happened."),
    Column { priority: 1, ..NAME },
];

pub(super) const NAMESPACE: &[Column<'static>] =
    &[NAME, column("Status", "Active, or Terminating while its content is deleted."), AGE];

pub(super) const NODE: &[Column<'static>] = &[
    NAME,
    column("Status", "Condition Ready, and whether pods may be scheduled."),
    column("Roles", "Labels node-role.kubernetes.io/<role>."),
    AGE,
    column("Version", "Version of the kubelet."),
    wide("Internal-IP", "First address of type InternalIP."),
    wide("External-IP", "First address of type ExternalIP."),
    wide("OS-Image", "As the node reports it."),
    wide("Kernel-Version", "As the node reports it."),
    wide("Container-Runtime", "As the node reports it."),
];

pub(super) const POD: &[Column<'static>] = &[
    NAME,
    column("Ready", "Ready containers of all containers."),
    column("Status", "Phase, or why it is not running."),
    column("Restarts", "How often containers were restarted, and when last."),
    AGE,
    wide("IP", "First address of the pod."),
    wide("Node", "The node it runs on."),
    wide("Nominated Node", "The node on which room is being made for it."),
    wide("Readiness Gates", "True extra conditions of all extra conditions."),
];

pub(super) const SECRET: &[Column<'static>] = &[
    NAME,
    column("Type", "What the data is for."),
    column("Data", "Number of keys in data."),
    AGE,
];

pub(super) const SERVICE_ACCOUNT: &[Column<'static>] =
    &[NAME, column("Secrets", "Number of secrets listed."), AGE];

pub(super) const SERVICE: &[Column<'static>] = &[
    NAME,
    column("Type", "How the Service is exposed."),
    column("Cluster-IP", "Primary cluster IP."),
    column("External-IP", "Load balancer addresses and external IPs."),
    column("Port(s)", "Port, node port and protocol of each port."),
    AGE,
    wide("Selector", "Labels of the pods behind the Service."),
];

pub(super) const DEPLOYMENT: &[Column<'static>] = &[
    NAME,
    column("Ready", "Ready replicas of wanted replicas."),
    column("Up-to-date", "Replicas made from the present template."),
    column("Available", "Replicas ready for at least minReadySeconds."),
    AGE,
    wide("Containers", "Names of the template's containers."),
    wide("Images", "Images of the template's containers."),
    wide("Selector", "Labels of the pods."),
];

pub(super) const REPLICA_SET: &[Column<'static>] = &[
    NAME,
    count("Desired", "Wanted replicas."),
    count("Current", "Replicas that exist."),
    count("Ready", "Replicas that are ready."),
    AGE,
    wide("Containers", "Names of the template's containers."),
    wide("Images", "Images of the template's containers."),
    wide("Selector", "Labels of the pods."),
];

pub(super) const LEASE: &[Column<'static>] = &[NAME, column("Holder", "Who holds the lease."), AGE];

pub(super) const ENDPOINT_SLICE: &[Column<'static>] = &[
    NAME,
    column("AddressType", "IPv4, IPv6 or FQDN."),
    column("Ports", "Port numbers."),
    column("Endpoints", "Addresses."),
    AGE,
];

/// Two columns for three cells, as upstream (semantics 9).
pub(super) const IP_ADDRESS: &[Column<'static>] =
    &[NAME, column("ParentRef", "The object that the address belongs to.")];

pub(super) const SERVICE_CIDR: &[Column<'static>] =
    &[NAME, column("CIDRs", "Ranges from which cluster IPs are taken."), AGE];

pub(super) const ROLE: &[Column<'static>] =
    &[NAME, column("Created At", "When the role was created.")];

pub(super) const ROLE_BINDING: &[Column<'static>] = &[
    NAME,
    column("Role", "Kind and name of the role."),
    AGE,
    wide("Users", "Users that have the role."),
    wide("Groups", "Groups that have the role."),
    wide("ServiceAccounts", "ServiceAccounts that have the role."),
];

pub(crate) const NAME: Column<'static> = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Unique within the Namespace, or in the cluster for cluster-scoped kinds.",
    priority: 0,
};

const AGE: Column<'static> = column("Age", "Time since the object was created.");

const fn column(name: &'static str, description: &'static str) -> Column<'static> {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

const fn count(name: &'static str, description: &'static str) -> Column<'static> {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

const fn wide(name: &'static str, description: &'static str) -> Column<'static> {
    Column { name, kind: "string", format: "", description, priority: 1 }
}
