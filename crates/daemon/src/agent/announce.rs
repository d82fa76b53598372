//! Which load balancer addresses this node answers for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use announce::{Alive, Announcer, Settings, Timing};
use model::{Cluster, NodeName};
use tokio::sync::watch;

/// The announcer of this node, or nothing when it does not announce.
pub(crate) struct Announce {
    node: NodeName,
    running: Option<(Announcer, watch::Receiver<Alive>)>,
}

impl Announce {
    /// Starts announcing on an interface; `None` announces nothing.
    pub(crate) fn start(
        node: NodeName,
        interface: Option<String>,
    ) -> Result<Self, announce::Error> {
        let running = match interface {
            Some(interface) => {
                let timing = Timing::default();
                let settings = Settings { node: node.clone(), interface, timing };
                let announcer = Announcer::start(settings)?;
                let alive = announcer.alive();
                Some((announcer, alive))
            }
            None => None,
        };
        Ok(Self { node, running })
    }

    /// Waits until a node comes or goes.
    pub(crate) async fn changed(&mut self) {
        if let Some((_, alive)) = &mut self.running
            && alive.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// Answers for the addresses that are this node's by plan, and for no others.
    pub(crate) fn update(&mut self, cluster: &Cluster) {
        let Some((announcer, alive)) = &mut self.running else { return };
        announcer.set_expected(cluster.nodes.keys().cloned().collect());
        let alive = alive.borrow_and_update().clone();
        let owned: BTreeSet<IpAddr> = if alive.settled {
            plan::adverts(cluster, &alive.nodes)
                .into_iter()
                .filter(|(_, advert)| advert.owner.as_ref() == Ok(&self.node))
                .map(|(address, _)| address)
                .collect()
        } else {
            BTreeSet::new()
        };
        announcer.set_owned(owned, alive.epoch);
    }

    /// Lets other nodes take over at once.
    pub(crate) async fn stop(self) {
        if let Some((announcer, _)) = self.running {
            announcer.stop().await;
        }
    }
}
