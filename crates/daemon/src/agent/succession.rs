//! Taking over from a kube-proxy: its leftovers are told, and removed once ours do their work.

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::config::Leftovers;
use super::leftovers::{self, Leftover};

/// The search and the removal, beside the loop: programs and large tables take their time.
pub(crate) struct Succession {
    /// Whether our own rules do their work.
    synced: watch::Sender<bool>,
    /// What is still there, for people.
    left: watch::Receiver<Vec<String>>,
    _task: JoinSet<()>,
}

impl Succession {
    /// Starts looking.
    pub(crate) fn start(policy: Leftovers) -> Self {
        let (synced, is_synced) = watch::channel(false);
        let (told, left) = watch::channel(Vec::new());
        let mut task = JoinSet::new();
        task.spawn(succeed(policy, is_synced, told));
        Self { synced, left, _task: task }
    }

    /// Our own rules do their work from now on.
    pub(crate) fn synced(&self) {
        self.synced.send_replace(true);
    }

    /// One line for each thing of kube-proxy's that is still there.
    pub(crate) fn left(&self) -> Vec<String> {
        self.left.borrow().clone()
    }
}

async fn succeed(
    policy: Leftovers,
    mut synced: watch::Receiver<bool>,
    told: watch::Sender<Vec<String>>,
) {
    let found = find().await;
    tell(&found, &told);
    if found.is_empty() {
        return;
    }
    if policy == Leftovers::Report {
        for leftover in &found {
            tracing::warn!(
                "a kube-proxy has left {leftover}: they go stale; --replace-kube-proxy removes them"
            );
        }
        return;
    }
    if synced.wait_for(|synced| *synced).await.is_err() {
        return;
    }
    for leftover in found {
        let name = leftover.to_string();
        match tokio::task::spawn_blocking(move || leftover.remove()).await {
            Ok(Ok(())) => tracing::info!("removed a kube-proxy's {name}"),
            Ok(Err(error)) => tracing::error!("could not remove a kube-proxy's {name}: {error:#}"),
            Err(error) => tracing::error!(%error, "the removal of {name} broke off"),
        }
    }
    let left = find().await;
    for leftover in &left {
        tracing::warn!("{leftover} are still there: does a kube-proxy run on this node?");
    }
    tell(&left, &told);
}

async fn find() -> Vec<Leftover> {
    let found = tokio::task::spawn_blocking(leftovers::find).await;
    found.unwrap_or_else(|error| {
        tracing::error!(%error, "the search for a kube-proxy's leftovers broke off");
        Vec::new()
    })
}

fn tell(left: &[Leftover], told: &watch::Sender<Vec<String>>) {
    let line = |leftover: &Leftover| format!("a kube-proxy has left {leftover}");
    told.send_replace(left.iter().map(line).collect());
}
