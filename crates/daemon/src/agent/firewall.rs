//! Chains of the host's firewall in which Services pass (D40): each holds one rule of ours, and gets
//! it again whenever the firewall is loaded anew.
//!
//! ```text
//!  rule events ─┐
//!  syncs ───────┴─▶ is the rule there? ─▶ put it first ─▶ what is missing, for people
//! ```
//!
//! It runs beside the loop: the program `iptables` takes its time.

mod iptables;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use nft::{Firewall, FirewallChain, FirewallChainError, Opened, RuleTables, RuleWatch};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::iptables::IptablesChain;
use super::descriptor::register;

/// A chain in which Services pass.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PassChain(Whose);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Whose {
    /// Of nftables, such as `inet/filter/forward`.
    Nft(FirewallChain),
    /// Of iptables, such as `iptables/FORWARD`.
    Iptables(IptablesChain),
}

impl FromStr for PassChain {
    type Err = FirewallChainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match IptablesChain::parse(text) {
            Some(chain) => Whose::Iptables(chain),
            None => Whose::Nft(text.parse()?),
        }))
    }
}

impl fmt::Display for PassChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Whose::Nft(chain) => write!(f, "{chain}"),
            Whose::Iptables(chain) => write!(f, "{chain}"),
        }
    }
}

impl PassChain {
    /// The nf_tables table that it is part of, also when iptables made it.
    fn table(&self) -> (u8, String) {
        match &self.0 {
            Whose::Nft(chain) => chain.table(),
            Whose::Iptables(chain) => chain.table(),
        }
    }

    fn let_services_pass(&self) -> anyhow::Result<Opened> {
        match &self.0 {
            Whose::Nft(chain) => Ok(Firewall::open()?.let_services_pass(chain)?),
            Whose::Iptables(chain) => chain.let_services_pass(),
        }
    }

    fn take_back(&self) -> anyhow::Result<()> {
        match &self.0 {
            Whose::Nft(chain) => Firewall::open()?.take_back(chain).map(drop).map_err(Into::into),
            Whose::Iptables(chain) => chain.take_back(),
        }
    }
}

/// The firewall and the task that looks after it.
pub(crate) struct HostFirewall {
    look: Arc<Notify>,
    problems: watch::Receiver<Vec<String>>,
    _task: JoinSet<()>,
}

impl HostFirewall {
    /// Starts looking after these chains. Rules of ours in others, from a process with other
    /// settings, are taken back.
    ///
    /// # Errors
    /// When tokio cannot wait for the socket.
    pub(crate) fn start(
        chains: Vec<PassChain>,
        dataplane: &nft::Dataplane,
    ) -> anyhow::Result<Self> {
        let (told, problems) = watch::channel(Vec::new());
        let look = Arc::new(Notify::new());
        let events = if chains.is_empty() {
            None
        } else {
            let tables: RuleTables = chains.iter().map(PassChain::table).collect();
            Some(register(dataplane.rule_events(tables)?)?)
        };
        let mut task = JoinSet::new();
        task.spawn(keep(chains, events, Arc::clone(&look), told));
        Ok(Self { look, problems, _task: task })
    }

    /// Something may have happened to the chains unheard.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// One line for each chain in which Services do not pass.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }
}

/// Takes our rules out of every chain that has one.
///
/// # Errors
/// When the kernel or the program that is needed refuses.
pub(crate) fn take_back_all() -> anyhow::Result<()> {
    find()?.iter().try_for_each(PassChain::take_back)
}

fn find() -> anyhow::Result<BTreeSet<PassChain>> {
    let native = Firewall::open()?.find()?.into_iter().map(Whose::Nft);
    let all = native.chain(iptables::find().into_iter().map(Whose::Iptables));
    Ok(all.map(PassChain).collect())
}

async fn keep(
    chains: Vec<PassChain>,
    mut events: Option<AsyncFd<RuleWatch>>,
    look: Arc<Notify>,
    told: watch::Sender<Vec<String>>,
) {
    let wanted: BTreeSet<PassChain> = chains.into_iter().collect();
    let others = wanted.clone();
    blocking(move || take_back_others(&others)).await;
    while !wanted.is_empty() {
        let chains = wanted.clone();
        let problems = blocking(move || let_pass(&chains)).await.unwrap_or_default();
        told.send_if_modified(|before| {
            for problem in problems.iter().filter(|problem| !before.contains(problem)) {
                tracing::warn!("{problem}");
            }
            let changed = *before != problems;
            *before = problems;
            changed
        });
        tokio::select! {
            () = look.notified() => {}
            heard = changed(&mut events) => if let Err(error) = heard {
                tracing::error!(%error, "changes of the host's firewall will go unnoticed");
                events = None;
            },
        }
    }
}

/// What a process with other settings has left.
fn take_back_others(wanted: &BTreeSet<PassChain>) {
    let found = find().unwrap_or_else(|error| {
        tracing::warn!("cannot look for our rules in the host's firewall: {error:#}");
        BTreeSet::new()
    });
    for chain in found.difference(wanted) {
        match chain.take_back() {
            Ok(()) => tracing::info!("{chain} no longer lets Services pass by a rule of ours"),
            Err(error) => tracing::warn!("cannot take our rule out of {chain}: {error:#}"),
        }
    }
}

fn let_pass(chains: &BTreeSet<PassChain>) -> Vec<String> {
    let problem = |chain: &PassChain| match chain.let_services_pass() {
        Ok(Opened::Already) => None,
        Ok(Opened::Now) => {
            tracing::info!("{chain} lets Services pass");
            None
        }
        Ok(Opened::Missing) => {
            Some(format!("the host's firewall has no chain {chain} to let Services pass"))
        }
        Err(error) => Some(format!("Services may not pass the firewall's {chain}: {error:#}")),
    };
    chains.iter().filter_map(problem).collect()
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(act).await;
    done.inspect_err(|error| tracing::error!(%error, "work on the host's firewall broke off")).ok()
}

async fn changed(events: &mut Option<AsyncFd<RuleWatch>>) -> anyhow::Result<()> {
    let Some(events) = events else { return std::future::pending().await };
    loop {
        let mut ready = events.readable_mut().await?;
        ready.clear_ready();
        if ready.get_inner_mut().drain()? {
            return Ok(());
        }
    }
}
