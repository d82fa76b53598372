//! Putting right what somebody else has changed, in proportion to the damage (D50).

use std::collections::BTreeSet;

use model::Family;

use crate::damage::{Change, Damage, Mended, Part, Scope};
use crate::dataplane::{Dataplane, Netfilter, Synced};
use crate::diff::{changeable, diff};
use crate::error::Error;
use crate::ruleset::Ruleset;

impl<N: Netfilter> Dataplane<N> {
    /// Reads everything back, compares it with the last synced view and puts right what differs. Does
    /// nothing before the first sync and after a failed one.
    ///
    /// # Errors
    /// As [`Self::sync`].
    pub fn verify(&mut self) -> Result<Synced, Error> {
        self.repair(&Damage::everything())
    }

    /// As [`Self::verify`], for those parts of our tables only that may be damaged. Only what really
    /// differs is written; what it was, [`Self::take_mended`] tells.
    ///
    /// A table that is missing comes back in several transactions of some Services each.
    ///
    /// # Errors
    /// As [`Self::sync`]. Everything is then verified with the next sync.
    pub fn repair(&mut self, damage: &Damage) -> Result<Synced, Error> {
        self.disturbed &= !damage.is_everything();
        let mut synced = self.mend(damage).inspect_err(|_| self.disturbed = true)?;
        self.settle(&mut synced)?;
        synced.forgotten = self.forget()?;
        Ok(synced)
    }

    /// What has been put right since the last call, in repairs and syncs.
    pub fn take_mended(&mut self) -> Option<Mended> {
        let mended = std::mem::take(&mut self.mended);
        (!mended.is_none()).then_some(mended)
    }

    /// Verifies everything if a change may have gone unnoticed.
    pub(crate) fn settle(&mut self, synced: &mut Synced) -> Result<(), Error> {
        for _ in 0..SETTLE_TRIES {
            if !std::mem::take(&mut self.disturbed) {
                return Ok(());
            }
            let more = self.mend(&Damage::everything());
            synced.add(more.inspect_err(|_| self.disturbed = true)?);
        }
        Ok(())
    }

    fn mend(&mut self, damage: &Damage) -> Result<Synced, Error> {
        if self.layout.is_none() {
            return Ok(Synced::default());
        }
        let missing = self.missing(damage)?;
        let mut synced = self.create(&missing, damage)?;
        let rest = missing.into_iter().fold(damage.clone(), Damage::without);
        match self.mend_parts(&rest) {
            Ok(more) => synced.add(more),
            Err(error) if !damage.is_everything() => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(error, "reading everything back");
                synced.add(self.mend_parts(&damage.widened())?);
            }
            Err(error) => return Err(error),
        }
        Ok(synced)
    }

    /// Families whose table is gone.
    fn missing(&mut self, damage: &Damage) -> Result<BTreeSet<Family>, Error> {
        let mut missing = BTreeSet::new();
        for (family, scope) in damage.families() {
            if *scope == Scope::Whole && !self.netfilter.has_table(family)? {
                missing.insert(family);
            }
        }
        Ok(missing)
    }

    fn create(&mut self, families: &BTreeSet<Family>, damage: &Damage) -> Result<Synced, Error> {
        let mut synced = Synced::default();
        if families.is_empty() {
            return Ok(synced);
        }
        let Some(layout) = self.layout.take() else { return Ok(synced) };
        let created = layout.creation(families.clone()).try_for_each(|operations| {
            synced.add(self.commit(&operations)?);
            Ok(())
        });
        // While our rules were missing, clients may have opened connections that bypass them.
        self.unchecked.extend(layout.cleaned_spots());
        self.rules_were_missing = true;
        self.layout = Some(layout);
        created?;
        synced.repaired = true;
        let parts = families.iter().map(|family| (Part::Table(*family), Change::default()));
        self.mended.extend(Mended { parts: parts.collect(), by: damage.by.clone() });
        Ok(synced)
    }

    fn mend_parts(&mut self, damage: &Damage) -> Result<Synced, Error> {
        let Some(layout) = self.layout.as_ref().filter(|_| !damage.is_none()) else {
            return Ok(Synced::default());
        };
        let want = layout.part(damage);
        let have = self.netfilter.read_damaged(damage, &want)?;
        if !damage.is_everything() && !in_parts(&have, &want) {
            return self.mend_parts(&damage.widened());
        }
        let operations = diff(&have, &want);
        let mut mended = Mended::by_operations(&operations, &have, &want);
        if !mended.is_none() {
            self.unchecked.extend(layout.astray(damage));
            self.rules_were_missing = true;
        }
        let mut synced = self.commit(&operations)?;
        synced.repaired = !mended.is_none();
        if synced.repaired {
            mended.by.extend(damage.by.iter().cloned());
            self.mended.extend(mended);
        }
        Ok(synced)
    }
}

/// Whether tables can be put right part by part: they are there, and have sets and chains of the
/// right types.
fn in_parts(have: &Ruleset, want: &Ruleset) -> bool {
    want.iter().all(|(family, want)| have.get(family).is_some_and(|have| changeable(have, want)))
}

impl Synced {
    /// Adds what another step of the same sync did.
    fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.added += other.added;
        self.removed += other.removed;
        self.repaired |= other.repaired;
        self.forgotten += other.forgotten;
        self.disturbed |= other.disturbed;
    }
}

/// Verifications in a row, each of which was disturbed.
const SETTLE_TRIES: usize = 3;
