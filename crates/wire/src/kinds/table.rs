//! The rows of the table.

use super::columns as col;
use super::{KindRow, Subresource, cells};
use crate::rules::{
    self, config_map, definition, deployment, endpoint_slice, endpoints, event, ip_address, lease,
    namespace, node, pod, rbac, replica_set, review, secret, service, service_account,
    service_cidr,
};

pub(super) static KINDS: &[KindRow] = &[
    CONFIG_MAPS,
    ENDPOINTS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    REPLICA_SETS,
    SELF_SUBJECT_REVIEWS,
    TOKEN_REVIEWS,
    LOCAL_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_ACCESS_REVIEWS,
    SELF_SUBJECT_RULES_REVIEWS,
    SUBJECT_ACCESS_REVIEWS,
    LEASES,
    ENDPOINT_SLICES,
    NEW_EVENTS,
    IP_ADDRESSES,
    SERVICE_CIDRS,
    CLUSTER_ROLE_BINDINGS,
    CLUSTER_ROLES,
    ROLE_BINDINGS,
    ROLES,
];

const ALL_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// What rows have in common; every row overrides what differs.
const PLAIN: KindRow = KindRow {
    group: "",
    version: "v1",
    plural: "",
    singular: "",
    kind: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    stored_as: None,
    to_stored: rules::keep,
    from_stored: rules::keep,
    create_on_update: false,
    unconditional_update: true,
    has_generation: false,
    delete_returns_object: false,
    grace_period: None,
    default: rules::nothing,
    default_on_read: rules::nothing,
    prepare_create: rules::nothing,
    prepare_update: rules::nothing_on_update,
    prepare_status: rules::keep_all_but_status,
    validate_create: rules::no_errors,
    validate_update: rules::no_errors_on_update,
    validate_status: rules::no_errors_on_update,
    warnings: rules::no_warnings,
    deprecation: "",
    selectable_fields: rules::no_fields,
    columns: col::NAME_AGE,
    cells: cells::name_age,
};

const CONFIG_MAPS: KindRow = KindRow {
    plural: "configmaps",
    singular: "configmap",
    kind: "ConfigMap",
    short_names: &["cm"],
    validate_create: config_map::validate_create,
    validate_update: config_map::validate_update,
    columns: col::CONFIG_MAP,
    cells: cells::config_map,
    ..PLAIN
};

const ENDPOINTS: KindRow = KindRow {
    plural: "endpoints",
    singular: "endpoints",
    kind: "Endpoints",
    short_names: &["ep"],
    create_on_update: true,
    default: endpoints::default,
    validate_create: endpoints::validate_create,
    validate_update: endpoints::validate_update,
    warnings: endpoints::warnings,
    deprecation: endpoints::DEPRECATION,
    columns: col::ENDPOINTS,
    cells: cells::endpoints,
    ..PLAIN
};

const EVENTS: KindRow = KindRow {
    plural: "events",
    singular: "event",
    kind: "Event",
    short_names: &["ev"],
    create_on_update: true,
    default: event::default,
    validate_create: event::validate_create,
    validate_update: event::validate_update,
    selectable_fields: event::selectable_fields,
    columns: col::EVENT,
    cells: cells::event,
    ..PLAIN
};

const NEW_EVENTS: KindRow = KindRow {
    group: "events.k8s.io",
    stored_as: Some(("", "events")),
    to_stored: event::to_core,
    from_stored: event::from_core,
    default: event::default_new,
    validate_create: event::validate_create_new,
    validate_update: event::validate_update_new,
    selectable_fields: event::selectable_fields_new,
    ..EVENTS
};

const NAMESPACES: KindRow = KindRow {
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    short_names: &["ns"],
    namespaced: false,
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        Subresource {
            name: "finalize",
            group: "",
            version: "",
            kind: "Namespace",
            verbs: &["update"],
        },
        status_of("Namespace"),
    ],
    default: namespace::default,
    prepare_create: namespace::prepare_create,
    prepare_update: namespace::prepare_update,
    validate_create: namespace::validate_create,
    validate_update: namespace::validate_update,
    validate_status: namespace::validate_status,
    selectable_fields: namespace::selectable_fields,
    columns: col::NAMESPACE,
    cells: cells::namespace,
    ..PLAIN
};

const NODES: KindRow = KindRow {
    plural: "nodes",
    singular: "node",
    kind: "Node",
    short_names: &["no"],
    namespaced: false,
    subresources: &[proxy("NodeProxyOptions"), status_of("Node")],
    default: node::default,
    prepare_create: node::prepare_create,
    prepare_update: node::prepare_update,
    validate_create: node::validate_create,
    validate_update: node::validate_update,
    validate_status: node::validate_status,
    selectable_fields: node::selectable_fields,
    columns: col::NODE,
    cells: cells::node,
    ..PLAIN
};

const PODS: KindRow = KindRow {
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        stream("attach", "PodAttachOptions"),
        Subresource {
            name: "binding",
            group: "",
            version: "",
            kind: "Binding",
            verbs: &["create"],
        },
        Subresource {
            name: "eviction",
            group: "policy",
            version: "v1",
            kind: "Eviction",
            verbs: &["create"],
        },
        stream("exec", "PodExecOptions"),
        Subresource { name: "log", group: "", version: "", kind: "Pod", verbs: &["get"] },
        stream("portforward", "PodPortForwardOptions"),
        status_of("Pod"),
    ],
    has_generation: true,
    delete_returns_object: true,
    grace_period: Some(pod::grace_period),
    default: pod::default,
    prepare_create: pod::prepare_create,
    prepare_update: pod::prepare_update,
    prepare_status: pod::prepare_status,
    validate_create: pod::validate_create,
    validate_update: pod::validate_update,
    validate_status: pod::validate_status,
    selectable_fields: pod::selectable_fields,
    columns: col::POD,
    cells: cells::pod,
    ..PLAIN
};

const SECRETS: KindRow = KindRow {
    plural: "secrets",
    singular: "secret",
    kind: "Secret",
    default: secret::default,
    validate_create: secret::validate_create,
    validate_update: secret::validate_update,
    selectable_fields: secret::selectable_fields,
    columns: col::SECRET,
    cells: cells::secret,
    ..PLAIN
};

const SERVICE_ACCOUNTS: KindRow = KindRow {
    plural: "serviceaccounts",
    singular: "serviceaccount",
    kind: "ServiceAccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
        verbs: &["create"],
    }],
    delete_returns_object: true,
    validate_create: service_account::validate_create,
    validate_update: service_account::validate_update,
    columns: col::SERVICE_ACCOUNT,
    cells: cells::service_account,
    ..PLAIN
};

const SERVICES: KindRow = KindRow {
    plural: "services",
    singular: "service",
    kind: "Service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[proxy("ServiceProxyOptions"), status_of("Service")],
    create_on_update: true,
    delete_returns_object: true,
    default: service::default,
    default_on_read: service::default_on_read,
    prepare_create: service::prepare_create,
    prepare_update: service::prepare_update,
    prepare_status: service::prepare_status,
    validate_create: service::validate_create,
    validate_update: service::validate_update,
    validate_status: service::validate_status,
    warnings: service::warnings,
    selectable_fields: service::selectable_fields,
    columns: col::SERVICE,
    cells: cells::service,
    ..PLAIN
};

const CUSTOM_RESOURCE_DEFINITIONS: KindRow = KindRow {
    group: "apiextensions.k8s.io",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    kind: "CustomResourceDefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[status_of("CustomResourceDefinition")],
    unconditional_update: false,
    has_generation: true,
    delete_returns_object: true,
    default: definition::default,
    prepare_create: definition::prepare_create,
    prepare_update: definition::prepare_update,
    prepare_status: definition::prepare_status,
    validate_create: definition::validate_create,
    validate_update: definition::validate_update,
    validate_status: definition::validate_status,
    warnings: definition::warnings,
    columns: col::ROLE,
    cells: cells::role,
    ..PLAIN
};

const DEPLOYMENTS: KindRow = KindRow {
    group: "apps",
    plural: "deployments",
    singular: "deployment",
    kind: "Deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[SCALE, status_of("Deployment")],
    has_generation: true,
    default: deployment::default,
    prepare_create: deployment::prepare_create,
    prepare_update: deployment::prepare_update,
    validate_create: deployment::validate_create,
    validate_update: deployment::validate_update,
    validate_status: deployment::validate_status,
    columns: col::DEPLOYMENT,
    cells: cells::deployment,
    ..PLAIN
};

const REPLICA_SETS: KindRow = KindRow {
    group: "apps",
    plural: "replicasets",
    singular: "replicaset",
    kind: "ReplicaSet",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[SCALE, status_of("ReplicaSet")],
    has_generation: true,
    default: replica_set::default,
    prepare_create: replica_set::prepare_create,
    prepare_update: replica_set::prepare_update,
    validate_create: replica_set::validate_create,
    validate_update: replica_set::validate_update,
    validate_status: replica_set::validate_status,
    selectable_fields: replica_set::selectable_fields,
    columns: col::REPLICA_SET,
    cells: cells::replica_set,
    ..PLAIN
};

const LEASES: KindRow = KindRow {
    group: "coordination.k8s.io",
    plural: "leases",
    singular: "lease",
    kind: "Lease",
    create_on_update: true,
    unconditional_update: false,
    default: lease::default,
    prepare_create: lease::prepare_create,
    prepare_update: lease::prepare_update,
    validate_create: lease::validate_create,
    validate_update: lease::validate_update,
    columns: col::LEASE,
    cells: cells::lease,
    ..PLAIN
};

const ENDPOINT_SLICES: KindRow = KindRow {
    group: "discovery.k8s.io",
    plural: "endpointslices",
    singular: "endpointslice",
    kind: "EndpointSlice",
    has_generation: true,
    default: endpoint_slice::default,
    prepare_create: endpoint_slice::prepare_create,
    prepare_update: endpoint_slice::prepare_update,
    validate_create: endpoint_slice::validate_create,
    validate_update: endpoint_slice::validate_update,
    warnings: endpoint_slice::warnings,
    default_on_read: endpoint_slice::default_on_read,
    columns: col::ENDPOINT_SLICE,
    cells: cells::endpoint_slice,
    ..PLAIN
};

const IP_ADDRESSES: KindRow = KindRow {
    group: "networking.k8s.io",
    plural: "ipaddresses",
    singular: "ipaddress",
    kind: "IPAddress",
    short_names: &["ip"],
    namespaced: false,
    validate_create: ip_address::validate_create,
    validate_update: ip_address::validate_update,
    columns: col::IP_ADDRESS,
    cells: cells::ip_address,
    ..PLAIN
};

const SERVICE_CIDRS: KindRow = KindRow {
    group: "networking.k8s.io",
    plural: "servicecidrs",
    singular: "servicecidr",
    kind: "ServiceCIDR",
    namespaced: false,
    subresources: &[status_of("ServiceCIDR")],
    prepare_create: service_cidr::prepare_create,
    prepare_update: service_cidr::prepare_update,
    validate_create: service_cidr::validate_create,
    validate_update: service_cidr::validate_update,
    validate_status: service_cidr::validate_status,
    columns: col::SERVICE_CIDR,
    cells: cells::service_cidr,
    ..PLAIN
};

/// What is asked and answered at once: nothing is kept.
const QUESTION: KindRow = KindRow { namespaced: false, verbs: &["create"], ..PLAIN };

const SELF_SUBJECT_REVIEWS: KindRow = KindRow {
    group: "authentication.k8s.io",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    kind: "SelfSubjectReview",
    ..QUESTION
};

const TOKEN_REVIEWS: KindRow = KindRow {
    group: "authentication.k8s.io",
    plural: "tokenreviews",
    singular: "tokenreview",
    kind: "TokenReview",
    validate_create: review::validate_token,
    ..QUESTION
};

const LOCAL_SUBJECT_ACCESS_REVIEWS: KindRow = KindRow {
    group: "authorization.k8s.io",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    kind: "LocalSubjectAccessReview",
    namespaced: true,
    validate_create: review::validate_local_subject_access,
    ..QUESTION
};

const SELF_SUBJECT_ACCESS_REVIEWS: KindRow = KindRow {
    group: "authorization.k8s.io",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    kind: "SelfSubjectAccessReview",
    validate_create: review::validate_self_subject_access,
    ..QUESTION
};

const SELF_SUBJECT_RULES_REVIEWS: KindRow = KindRow {
    group: "authorization.k8s.io",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    kind: "SelfSubjectRulesReview",
    validate_create: review::validate_self_subject_rules,
    ..QUESTION
};

const SUBJECT_ACCESS_REVIEWS: KindRow = KindRow {
    group: "authorization.k8s.io",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    kind: "SubjectAccessReview",
    validate_create: review::validate_subject_access,
    ..QUESTION
};

const CLUSTER_ROLES: KindRow = KindRow {
    group: "rbac.authorization.k8s.io",
    plural: "clusterroles",
    singular: "clusterrole",
    kind: "ClusterRole",
    namespaced: false,
    create_on_update: true,
    validate_create: rbac::validate_cluster_role,
    validate_update: rbac::validate_cluster_role_update,
    columns: col::ROLE,
    cells: cells::role,
    ..PLAIN
};

const ROLES: KindRow = KindRow {
    plural: "roles",
    singular: "role",
    kind: "Role",
    namespaced: true,
    validate_create: rbac::validate_role,
    validate_update: rbac::validate_role_update,
    ..CLUSTER_ROLES
};

const CLUSTER_ROLE_BINDINGS: KindRow = KindRow {
    group: "rbac.authorization.k8s.io",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    kind: "ClusterRoleBinding",
    namespaced: false,
    create_on_update: true,
    default: rbac::default_binding,
    validate_create: rbac::validate_cluster_binding,
    validate_update: rbac::validate_cluster_binding_update,
    columns: col::ROLE_BINDING,
    cells: cells::role_binding,
    ..PLAIN
};

const ROLE_BINDINGS: KindRow = KindRow {
    plural: "rolebindings",
    singular: "rolebinding",
    kind: "RoleBinding",
    namespaced: true,
    validate_create: rbac::validate_binding,
    validate_update: rbac::validate_binding_update,
    ..CLUSTER_ROLE_BINDINGS
};

const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: &["get", "patch", "update"],
};

const fn status_of(kind: &'static str) -> Subresource {
    let verbs = &["get", "patch", "update"];
    Subresource { name: "status", group: "", version: "", kind, verbs }
}

const fn proxy(kind: &'static str) -> Subresource {
    let verbs = &["create", "delete", "get", "patch", "update"];
    Subresource { name: "proxy", group: "", version: "", kind, verbs }
}

const fn stream(name: &'static str, kind: &'static str) -> Subresource {
    Subresource { name, group: "", version: "", kind, verbs: &["create", "get"] }
}
