//! What the agent calls: one value that keeps the kernel equal to the plan.

use std::collections::{BTreeMap, BTreeSet};

use model::{Family, NodeView, ServiceName};

use crate::counters::Retired;
use crate::damage::{Damage, Mended, Scope};
use crate::diff::{creation, diff};
use crate::error::Error;
use crate::firewall::{RuleTables, RuleWatch};
use crate::kernel::Kernel;
use crate::layout::{Layout, Spot, cleaned_spots};
use crate::ruleset::{Op, Ruleset};
use crate::stale::Stale;
use crate::watch::Watch;

/// Settings that do not come from the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Packet mark bit for "masquerade this" (D11); `0x4000` as in kube-proxy.
    pub masquerade_mark: u32,
    /// Drop packets that conntrack calls INVALID instead of forwarding them (D39).
    ///
    /// A late segment of an endpoint that lies outside the window is INVALID, hence not translated
    /// back: the client would see an address that it never spoke to, answer with a reset and kill
    /// the connection. Set it to false where `net.netfilter.nf_conntrack_tcp_be_liberal` is on
    /// (nothing is out of window then, see [`crate::sysctl::is_liberal`]), or where packets of one
    /// connection take different ways and this node sees only some of them.
    pub drop_invalid: bool,
    /// Node ports answer on 127.0.0.0/8 as well, to processes of this node only (D31). It needs
    /// [`crate::sysctl::route_localnet`] too. Nothing like it exists for ::1.
    pub localhost_node_ports: bool,
    /// Count connections, packets and bytes, for a [`crate::Meter`]. Without it nothing is
    /// counted and nothing costs; with it each packet of a connection to a Service costs two lookups,
    /// four through a node port.
    pub counters: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            masquerade_mark: 0x4000,
            drop_invalid: true,
            localhost_node_ports: false,
            counters: false,
        }
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
    /// Whether the kernel held tables of ours that were not as expected: foreign changes, or at
    /// the first sync what an earlier process left. Sets that were only replaced because they could
    /// not be compared do not count.
    pub repaired: bool,
    /// Stale conntrack entries deleted (D35, D36).
    pub forgotten: usize,
    /// Somebody else may have changed tables meanwhile, unnoticed by [`crate::RuleWatch`].
    pub disturbed: bool,
}

/// What a transaction cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Messages, without batch begin and end.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Somebody else may have changed the tables at the same time, unnoticed by [`Watch`].
    pub disturbed: bool,
}

/// Service ports, as the affinity map names them, and how many milliseconds they remember a client.
pub type Affinity = BTreeMap<Box<[u8]>, u64>;

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

    /// Reads back what is needed to make our tables equal to `want`: elements of sets that hold too
    /// many of them to be worth comparing may be left out ([`crate::ruleset::Set::unread`]).
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_for(&mut self, want: &Ruleset) -> Result<Ruleset, Error> {
        let _ = want;
        self.read()
    }

    /// Whether our table of a family is there.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn has_table(&mut self, family: Family) -> Result<bool, Error> {
        Ok(self.read()?.contains_key(&family))
    }

    /// Reads back what may be damaged, to compare it with `want`, which holds the same parts. As
    /// with [`Self::read_for`], elements may be left out.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn read_damaged(&mut self, damage: &Damage, want: &Ruleset) -> Result<Ruleset, Error> {
        let mut whole = self.read_for(want)?;
        let parts = damage.families().filter_map(|(family, scope)| {
            let table = whole.remove(&family)?;
            let part = match scope {
                Scope::Whole => table,
                Scope::Parts(parts) => parts.of(&table),
            };
            Some((family, part))
        });
        Ok(parts.collect())
    }

    /// Deletes tracked connections that are stale and returns how many.
    ///
    /// # Errors
    /// When the kernel cannot be reached or refuses.
    fn forget(&mut self, stale: &Stale) -> Result<usize, Error>;

    /// Changes how long clients of some Service ports are remembered (D18). A kernel that never
    /// forgets has nothing to do.
    ///
    /// # Errors
    /// When the kernel refuses or cannot be reached.
    fn retime(&mut self, family: Family, affinity: &Affinity) -> Result<(), Error> {
        let (_, _) = (family, affinity);
        Ok(())
    }
}

/// Keeps nf_tables equal to the latest [`NodeView`].
#[derive(Debug)]
pub struct Dataplane<N = Kernel> {
    pub(crate) netfilter: N,
    settings: Settings,
    /// What the kernel holds, as far as we know; `None` before the first sync and after a failed
    /// one. Only an optimisation: the kernel can always be read back.
    pub(crate) layout: Option<Layout>,
    /// Frontends whose connections have not been checked since they changed ([`Stale`]).
    pub(crate) unchecked: BTreeSet<Spot>,
    /// Something of ours was missing in the kernel for a while.
    pub(crate) rules_were_missing: bool,
    /// The tables have to be read back because a change may have gone unnoticed.
    pub(crate) disturbed: bool,
    /// Whether the tables of an earlier process have been taken over.
    adopted: bool,
    /// What has been put right since somebody asked.
    pub(crate) mended: Mended,
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
    /// [`Self::verify`]. Open it in the same network namespace.
    ///
    /// # Errors
    /// When the event socket cannot be opened.
    pub fn events(&self) -> Result<Watch, Error> {
        self.netfilter.watch()
    }

    /// A source of events that tells when rules of other programs' tables change.
    ///
    /// # Errors
    /// As [`Self::events`].
    pub fn rule_events(&self, tables: RuleTables) -> Result<RuleWatch, Error> {
        self.netfilter.watch_rules(tables)
    }
}

impl<N: Netfilter> Dataplane<N> {
    /// Over any kernel.
    pub fn new(netfilter: N, settings: Settings) -> Self {
        Self {
            netfilter,
            settings,
            layout: None,
            unchecked: BTreeSet::new(),
            rules_were_missing: false,
            disturbed: false,
            adopted: false,
            mended: Mended::default(),
        }
    }

    /// Makes the kernel do what the view says, in one transaction (D45).
    ///
    /// The first call, and the first after a failed one, reads the tables back and changes only
    /// what differs, so that a restart interrupts nobody. Later calls cost as much as the
    /// Services that changed (told by [`std::sync::Arc`] pointer). When a later call finds that
    /// the kernel does not hold what we left there, it repairs that as well.
    ///
    /// # Errors
    /// When the kernel refuses; it still does what it did before. Or when only the clean-up of
    /// connections failed. Either way call again to retry.
    pub fn sync(&mut self, view: &NodeView) -> Result<Synced, Error> {
        self.sync_any(view, None)
    }

    /// As [`Self::sync`], when the caller knows which Services may differ from the view of the last
    /// call, whether that succeeded or not (what `plan::Planner::update` has returned since then).
    /// The cost does not grow with the number of the others.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn sync_services(
        &mut self,
        view: &NodeView,
        names: &BTreeSet<ServiceName>,
    ) -> Result<Synced, Error> {
        self.sync_any(view, Some(names))
    }

    fn sync_any(
        &mut self,
        view: &NodeView,
        names: Option<&BTreeSet<ServiceName>>,
    ) -> Result<Synced, Error> {
        let mut synced = match self.layout.take() {
            None => self.adopt(view)?,
            Some(mut layout) => {
                let update = layout.update(view, names);
                self.unchecked.extend(update.cleaned);
                match self.commit(&update.operations) {
                    Ok(synced) => {
                        self.layout = Some(layout);
                        self.retime(&update.retimed);
                        synced
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "reading tables back"
                        );
                        self.adopt(view)?
                    }
                }
            }
        };
        self.settle(&mut synced)?;
        synced.forgotten = self.forget()?;
        Ok(synced)
    }

    /// Deletes counters that nobody needs any more, as a [`crate::Meter`] has found.
    ///
    /// # Errors
    /// When the kernel cannot be reached or refuses; elements may have gone by themselves.
    pub fn retire(&mut self, retired: &Retired) -> Result<(), Error> {
        self.commit(&retired.operations).map(drop)
    }

    /// Deletes our tables. New connections find no Service any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cleanup(&mut self) -> Result<(), Error> {
        self.layout = None;
        let nothing = Ruleset::new();
        let have = self.netfilter.read_for(&nothing)?;
        self.netfilter.commit(&diff(&have, &nothing)).map(drop)
    }

    /// The kernel behind it.
    pub fn netfilter(&self) -> &N {
        &self.netfilter
    }

    /// The kernel behind it, for tests that make it fail.
    pub fn netfilter_mut(&mut self) -> &mut N {
        &mut self.netfilter
    }

    fn adopt(&mut self, view: &NodeView) -> Result<Synced, Error> {
        let layout = Layout::new(view, &self.settings);
        let want = layout.ruleset();
        let have = self.netfilter.read_for(&want)?;
        self.unchecked.extend(cleaned_spots(&have));
        self.unchecked.extend(layout.cleaned_spots());
        let (operations, mended) = if have.is_empty() {
            let operations = creation(want);
            let mended = Mended::by_operations(&operations, &have, &Ruleset::new());
            (operations, mended)
        } else {
            let operations = diff(&have, &want);
            let mended = Mended::by_operations(&operations, &have, &want);
            (operations, mended)
        };
        let mut synced = self.commit(&operations)?;
        self.rules_were_missing |= !operations.is_empty();
        synced.repaired = !have.is_empty() && !mended.is_none();
        if std::mem::replace(&mut self.adopted, true) {
            self.mended.extend(mended);
        }
        self.layout = Some(layout);
        Ok(synced)
    }

    pub(crate) fn commit(&mut self, operations: &[Op]) -> Result<Synced, Error> {
        if operations.is_empty() {
            return Ok(Synced::default());
        }
        let sent = self.netfilter.commit(operations)?;
        let (mut added, mut removed) = (0, 0);
        for operation in operations {
            match operation {
                Op::AddElements(_, _, elements) => added += elements.len(),
                Op::DeleteElements(_, _, keys) => removed += keys.len(),
                _ => {}
            }
        }
        let Sent { messages, bytes, disturbed } = sent;
        self.disturbed |= disturbed;
        Ok(Synced { messages, bytes, added, removed, disturbed, ..Synced::default() })
    }

    /// Not worth failing for: it ends with the old timeout.
    fn retime(&mut self, changed: &BTreeMap<Family, Affinity>) {
        for (family, affinity) in changed {
            if let Err(error) = self.netfilter.retime(*family, affinity) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "clients are remembered for as long as before");
            }
        }
    }

    pub(crate) fn forget(&mut self) -> Result<usize, Error> {
        let needed = !self.unchecked.is_empty() || self.rules_were_missing;
        let Some(layout) = self.layout.as_ref().filter(|_| needed) else { return Ok(0) };
        let stale = layout.stale(&self.unchecked, self.rules_were_missing);
        let forgotten = self.netfilter.forget(&stale)?;
        self.unchecked.clear();
        self.rules_were_missing = false;
        Ok(forgotten)
    }
}
