//! The start of a lab, step by step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use apiserver::tls::{Pki, kubeconfig};
use nix::mount::{MsFlags, mount};
use tokio::sync::Notify;

use super::component::{Component, Running};
use super::{Lab, manifests, nodes, status, urls};
use crate::config::{AddressPlan, LabConfig};
use crate::error::{LabError, chain};
use crate::files;
use crate::net::Topology;
use crate::process::Children;
use crate::progress::{Progress, tell};
use crate::state::{StateDir, failed, write_private};
use crate::view::View;

/// How long everything together may take to answer before the start counts as failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds the network and starts API server, controller, agents and kubelets.
pub(super) async fn boot(
    config: LabConfig,
    state: StateDir,
    began: Instant,
) -> Result<Lab, LabError> {
    mount_run(&state)?;
    let children = Children::start()
        .map_err(|source| LabError::System { action: "wait for children", source })?;
    let host = listen_on_host(&config, &state)?;
    let port = host
        .local_addr()
        .map_err(|source| LabError::System { action: "name a listener", source })?
        .port();
    let topology = Topology::build(config.nodes).map_err(|error| start_error(&error))?;
    let inside = SocketAddr::from((AddressPlan::fabric()[0], AddressPlan::API_PORT));
    let fabric = topology
        .fabric
        .listen(inside)
        .map_err(|source| LabError::System { action: "listen in the fabric", source })?;

    let pki = Pki::open(state.apiserver().join("pki")).map_err(|error| start_error(&error))?;
    let api_url = format!("https://127.0.0.1:{port}");
    write_kubeconfigs(&config, &state, &pki, &api_url, inside)?;
    let apiserver = apiserver(&config, &topology, &state).run(
        children.clone(),
        &state,
        vec![host.into(), fabric.into()],
    )?;
    let controller =
        controller(&config, &topology, &state).run(children.clone(), &state, Vec::new())?;
    let client = connect(&state.kubeconfig()).await?;
    let mut kubelets = Vec::new();
    for index in 0..config.nodes {
        let user = format!("kubelet-{}", AddressPlan::node_name(index));
        kubelets.push(connect(&kubeconfig_of(&state, &user)).await?);
    }
    let (client_root, node_roots) = roots(&config, &state)?;
    let lab = Lab {
        view: View::start(&client),
        urls: urls::Urls::default(),
        topology: RefCell::new(topology),
        nodes: RefCell::new(BTreeMap::new()),
        components: RefCell::new(vec![apiserver, controller]),
        end: Notify::new(),
        config,
        state,
        began,
        children,
        client_root,
        node_roots,
        client,
        kubelets,
        pki,
        api_url,
    };
    for index in 0..lab.config.nodes {
        let node = nodes::Node::start(&lab, index)?;
        lab.nodes.borrow_mut().insert(index, node);
    }
    lab.step(format!("network of {} nodes built, processes started", lab.config.nodes));
    Ok(lab)
}

/// Applies the manifests and waits until every Service answers.
pub(super) async fn finish(lab: Rc<Lab>) -> Result<(), LabError> {
    let started = async {
        lab.view.listed().await;
        lab.step("API server answers");
        manifests::apply(&lab.client, &manifests::dns()).await?;
        manifests::apply(&lab.client, &lab.config.manifests).await?;
        lab.step(format!("{} objects applied", lab.config.manifests.len()));
        tokio::task::spawn_local(urls::keep(lab.clone()));
        status::wait_until_served(&lab).await;
        lab.step("everything answers");
        Ok(())
    };
    match tokio::time::timeout(PATIENCE, started).await {
        Ok(result) => result?,
        Err(_elapsed) => tell(&Progress::Warning {
            text: format!(
                "not everything answers after {} s: {}",
                PATIENCE.as_secs(),
                status::missing(&lab).join("; ")
            ),
        }),
    }
    let status = Box::new(status::status(&lab));
    tell(&Progress::Ready { status });
    Ok(())
}

/// The agent of a node.
pub(super) fn agent(lab: &Lab, index: u16) -> Result<Running, LabError> {
    let name = AddressPlan::node_name(index);
    let namespace = lab.node_namespace(index)?;
    let arguments = vec![
        "agent".to_owned(),
        format!("--kubeconfig={}", kubeconfig_of(&lab.state, &format!("agent-{name}")).display()),
        format!("--hostname-override={name}"),
        format!("--announce-interface={}", crate::net::UPLINK),
    ];
    let root = lab.node_roots.get(usize::from(index)).cloned();
    Component { name: format!("agent-{name}"), arguments, namespace, root }.run(
        lab.children.clone(),
        &lab.state,
        Vec::new(),
    )
}

fn apiserver(config: &LabConfig, topology: &Topology, state: &StateDir) -> Component {
    let mut component = Component {
        name: "apiserver".to_owned(),
        arguments: vec![
            "apiserver".to_owned(),
            format!("--state={}", state.apiserver().display()),
            "--bind-address=none".to_owned(),
            format!("--advertise-address={}", AddressPlan::fabric()[0]),
            format!("--service-cluster-ip-range={}", list(&AddressPlan::services())),
            format!("--service-node-port-range={}", AddressPlan::NODE_PORTS),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--anonymous-auth=false".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=ServiceAccount".to_owned(),
            // The others run in a process of their own, see `controller`.
            "--controllers=root-ca-certificate-publisher-controller".to_owned(),
        ],
        namespace: topology.fabric.clone(),
        root: None,
    };
    if let Some(policy) = &config.audit_policy_file {
        let log = state.logs().join("audit.log");
        component.arguments.push(format!("--audit-log-path={}", log.display()));
        component.arguments.push(format!("--audit-policy-file={}", policy.display()));
    }
    component
}

fn controller(config: &LabConfig, topology: &Topology, state: &StateDir) -> Component {
    Component {
        name: "controller".to_owned(),
        arguments: vec![
            "controller".to_owned(),
            format!("--kubeconfig={}", kubeconfig_of(state, "controller").display()),
            format!("--pool={}", list(&config.pool)),
        ],
        namespace: topology.fabric.clone(),
        root: None,
    }
}

/// What is below `run/` exists only in the lab's memory: secrets never reach the disk, and
/// nothing has to be removed.
fn mount_run(state: &StateDir) -> Result<(), LabError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &state.run(), Some("tmpfs"), flags, Some("mode=0700"))
        .map_err(|errno| failed("mount a file system at", &state.run(), errno.into()))
}

/// The API server's listener on the host: at the wanted port, or where it was last time, or
/// anywhere.
fn listen_on_host(config: &LabConfig, state: &StateDir) -> Result<TcpListener, LabError> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let remembered = state.path.join("api-port");
    let listener = match config.api_port {
        Some(port) => bind(port).map_err(|source| LabError::PortTaken { port, source })?,
        None => {
            let last =
                std::fs::read_to_string(&remembered).ok().and_then(|text| text.trim().parse().ok());
            last.map_or_else(|| bind(0), |port| bind(port).or_else(|_| bind(0)))
                .map_err(|source| LabError::PortTaken { port: 0, source })?
        }
    };
    let port = listener
        .local_addr()
        .map_err(|source| LabError::System { action: "name a listener", source })?
        .port();
    write_private(&remembered, port.to_string().as_bytes())?;
    Ok(listener)
}

fn write_kubeconfigs(
    config: &LabConfig,
    state: &StateDir,
    pki: &Pki,
    api_url: &str,
    inside: SocketAddr,
) -> Result<(), LabError> {
    let inside = format!("https://{inside}");
    let admin = pki.admin().map_err(|error| start_error(&error))?;
    write_private(&state.kubeconfig(), kubeconfig(api_url, pki.ca_pem(), &admin).as_bytes())?;
    // The controller's and the agents' rights are those of deploy/rbac, the kubelets' those of
    // the Node authorizer.
    let mut users =
        vec![("controller".to_owned(), "portolan:controller".to_owned(), None, inside.as_str())];
    for index in 0..config.nodes {
        let node = AddressPlan::node_name(index);
        let agent = format!("portolan:agent:{node}");
        users.push((format!("agent-{node}"), agent, Some("portolan:agents"), &inside));
        let kubelet = format!("system:node:{node}");
        // Kubelets work in the supervisor, which lives in the host's network namespace.
        users.push((format!("kubelet-{node}"), kubelet, Some("system:nodes"), api_url));
    }
    for (file, user, group, server) in users {
        let own = pki.client(&user, group.as_slice()).map_err(|error| start_error(&error))?;
        write_private(
            &kubeconfig_of(state, &file),
            kubeconfig(server, pki.ca_pem(), &own).as_bytes(),
        )?;
    }
    Ok(())
}

fn roots(
    config: &LabConfig,
    state: &StateDir,
) -> Result<(crate::launch::Root, Vec<crate::launch::Root>), LabError> {
    let hosts = files::hosts(config.nodes);
    let make = |name: &str, resolv_conf: &str| {
        let folder = state.run().join(name);
        files::root(&folder, name, &hosts, resolv_conf)
            .map_err(|source| failed("write files below", &folder, source))
    };
    // Nodes ask the cluster's DNS; the client is outside and knows the nodes only.
    let nodes = (0..config.nodes)
        .map(|index| {
            make(&AddressPlan::node_name(index), &files::Resolver::cluster(None).to_string())
        })
        .collect::<Result<_, _>>()?;
    Ok((make("client", "")?, nodes))
}

async fn connect(kubeconfig: &std::path::Path) -> Result<cluster::Client, LabError> {
    cluster::Client::from_kubeconfig(kubeconfig).await.map_err(|error| start_error(&error))
}

fn kubeconfig_of(state: &StateDir, user: &str) -> std::path::PathBuf {
    state.run().join(format!("{user}.kubeconfig"))
}

/// Comma-separated.
fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

pub(super) fn start_error(error: &dyn std::error::Error) -> LabError {
    LabError::Start { message: chain(error) }
}
