//! `agent`: the node agent, and questions to one that runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use daemon::agent::report::{AgentReport, Filter};
use daemon::agent::{AgentConfig, Leftovers};
use model::NodeName;

use super::servers::{host_name, start_log, until_signal};
use crate::args::{Agent, AgentCommand, AgentStatus, Output};
use crate::kube_proxy::{Configuration, Flags, Settings, changes};
use crate::{agent_table, fetch, report};

/// `agent`.
pub(crate) fn run(arguments: Agent) -> anyhow::Result<()> {
    if let Some(AgentCommand::Status(status)) = &arguments.command {
        return show_status(status);
    }
    if arguments.cleanup {
        daemon::agent::cleanup()?;
        report::progress("The kernel holds no table of Portolan's any more.");
        return Ok(());
    }
    let mut settings = Settings::read(arguments.config.as_deref(), &arguments.kube_proxy)?;
    if let Some(path) = &arguments.write_config_to {
        return write_configuration(&settings, path);
    }
    start_log(level(settings.verbosity()));
    let (dry_run, init_only) = (arguments.dry_run, arguments.init_only);
    let (file, flags) = (arguments.config.clone(), arguments.kube_proxy.clone());
    let config = config(arguments, &mut settings)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    if dry_run {
        return show_difference(&config);
    }
    if init_only {
        initialize(&config);
        return Ok(());
    }
    if let Some(score) = settings.oom_score_adj() {
        set_oom_score(score);
    }
    match file {
        None => until_signal(async |shutdown| daemon::agent::run(config, shutdown).await),
        Some(file) => until_changed(&file, flags, settings.configuration, config),
    }
}

/// Runs the agent until it is told to end, or until the configuration file says something else. The
/// latter is an error, so that every service manager starts it again.
fn until_changed(
    file: &Path,
    flags: Flags,
    was: Configuration,
    config: AgentConfig,
) -> anyhow::Result<()> {
    let (path, node) = (file.to_owned(), config.node.clone());
    let read = move || {
        let mut settings = Settings::read(Some(&path), &flags)?;
        settings.agent(node.clone(), true)?;
        Ok(settings.configuration)
    };
    let changed = match changes::watch(file.to_owned(), was, read) {
        Ok(changed) => changed,
        Err(error) => {
            tracing::warn!("changes of {} are not noticed: {error:#}", file.display());
            return until_signal(async |shutdown| daemon::agent::run(config, shutdown).await);
        }
    };
    let mut has_changed = false;
    until_signal(async |shutdown| {
        let end = async {
            let changed = async {
                if changed.await.is_err() {
                    std::future::pending().await
                }
            };
            tokio::select! {
                () = shutdown => {}
                () = changed => has_changed = true,
            }
        };
        daemon::agent::run(config, end).await
    })?;
    if has_changed {
        bail!("{} has changed: start the agent again to follow it", file.display());
    }
    Ok(())
}

/// `agent --init-only`.
fn initialize(config: &AgentConfig) {
    let failures = daemon::agent::initialize(config);
    for failure in &failures {
        tracing::warn!("{failure}");
    }
    // No error: Services work without these settings, and an init container that fails would keep the
    // agent from starting.
    if failures.is_empty() {
        tracing::info!("the kernel is set up; the agent itself needs CAP_NET_ADMIN alone");
    }
}

fn config(arguments: Agent, settings: &mut Settings) -> anyhow::Result<AgentConfig> {
    let node = match settings.node_name()? {
        Some(name) => name,
        None => NodeName::from(host_name()?),
    };
    let mut config = settings.agent(node, arguments.config.is_some())?;
    config.flags = given(&arguments);
    config.server = arguments.master;
    config.node_ips.splice(0..0, arguments.node_ip);
    config.health_bind = with_port(config.health_bind, arguments.healthz_port);
    config.metrics_bind = with_port(config.metrics_bind, arguments.metrics_port);
    config.announce_interface = arguments.announce_interface;
    config.counters = arguments.counters;
    config.pass_chains = arguments.accept_in_firewall;
    if arguments.replace_kube_proxy {
        config.leftovers = Leftovers::Remove;
    }
    Ok(config)
}

/// kube-proxy's deprecated flags of ports: 0 turns a server off.
fn with_port(bind: Option<SocketAddr>, port: Option<u16>) -> Option<SocketAddr> {
    match port {
        None => bind,
        Some(0) => None,
        Some(port) => bind.map(|bind| SocketAddr::new(bind.ip(), port)),
    }
}

/// The flags of the command line, for `/flagz`.
fn given(arguments: &Agent) -> BTreeMap<String, String> {
    let mut flags: BTreeMap<String, String> = arguments
        .kube_proxy
        .given
        .iter()
        .map(|(flag, value)| ((*flag).to_owned(), value.clone()))
        .collect();
    let config = arguments.config.as_ref().map(|path| path.display().to_string());
    for (flag, value) in [
        ("config", config),
        ("master", arguments.master.clone()),
        ("announce-interface", arguments.announce_interface.clone()),
    ] {
        flags.extend(value.map(|value| (flag.to_owned(), value)));
    }
    flags
}

/// kube-proxy's verbosity in our levels.
fn level(verbosity: i64) -> &'static str {
    match verbosity {
        ..4 => "info",
        4 | 5 => "debug",
        6.. => "trace",
    }
}

fn write_configuration(settings: &Settings, path: &Path) -> anyhow::Result<()> {
    let text = serde_saphyr::to_string(&settings.configuration.to_json())
        .context("write the configuration as YAML")?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The kernel asks for CAP_SYS_RESOURCE to lower it; without, everything else works.
fn set_oom_score(score: i64) {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", score.to_string()) {
        tracing::warn!(%error, "could not set oomScoreAdj to {score}: needs CAP_SYS_RESOURCE");
    }
}

/// `agent --dry-run`.
fn show_difference(config: &AgentConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let difference = runtime.block_on(daemon::agent::dry_run::dry_run(config))?;
    report::results(&agent_table::difference(&difference));
    Ok(())
}

/// `agent status`.
fn show_status(arguments: &AgentStatus) -> anyhow::Result<()> {
    let filter = Filter { namespace: arguments.namespace.clone(), name: arguments.name.clone() };
    let path = format!("/services?{}", filter.to_query());
    let text = fetch::get(arguments.agent, &path).with_context(|| {
        format!("ask the agent on {}: is it running here, or elsewhere (--agent)?", arguments.agent)
    })?;
    if arguments.output == Output::Json {
        report::results(&format!("{text}\n"));
        return Ok(());
    }
    let answer: AgentReport =
        serde_json::from_str(&text).context("understand the agent's answer")?;
    report::results(&agent_table::status(&answer));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deprecated_ports_move_or_end_a_server() {
        let bind: SocketAddr = "127.0.0.1:10249".parse().unwrap();
        assert_eq!(with_port(Some(bind), None), Some(bind));
        assert_eq!(with_port(Some(bind), Some(0)), None);
        assert_eq!(with_port(Some(bind), Some(9)), Some("127.0.0.1:9".parse().unwrap()));
    }
}
