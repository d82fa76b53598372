//! The machine that answers for the owned addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::frame::{Frame, MacAddress, Query, announcement};

/// Answers questions for owned addresses and announces new ones.
///
/// A take-over is announced at once and again after 0.1, 0.5, 1 and 2 s: a switch or host
/// that lost the first frame learns it from the next, and then the link is quiet.
#[derive(Debug)]
pub struct Responder {
    mac: MacAddress,
    owned: BTreeMap<IpAddr, Announcing>,
}

/// How far the announcing of one address has come.
#[derive(Debug)]
struct Announcing {
    /// When the address was taken over.
    since: Duration,
    /// How many of [`REPEATS`] have been sent.
    sent: usize,
}

/// Times of the announcements after a take-over.
const REPEATS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

impl Responder {
    /// Owns nothing yet. `mac` is the external interface's.
    pub fn new(mac: MacAddress) -> Self {
        Self { mac, owned: BTreeMap::new() }
    }

    /// Replaces the set of owned addresses. New ones are announced by the next [`Self::tick`].
    pub fn set_owned(&mut self, owned: &BTreeSet<IpAddr>, now: Duration) {
        self.owned.retain(|address, _| owned.contains(address));
        for address in owned {
            self.owned.entry(*address).or_insert(Announcing { since: now, sent: 0 });
        }
    }

    /// Takes a received frame; the answer to send, if it asks for an owned address.
    pub fn receive(&self, frame: &[u8]) -> Option<Frame> {
        let query = Query::parse(frame)?;
        self.owned.contains_key(&query.target).then(|| query.answer(self.mac))
    }

    /// Announcements that are due.
    pub fn tick(&mut self, now: Duration) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (address, announcing) in &mut self.owned {
            let mut due = false;
            while REPEATS.get(announcing.sent).is_some_and(|after| announcing.since + *after <= now)
            {
                announcing.sent += 1;
                due = true;
            }
            if due {
                frames.push(announcement(self.mac, *address));
            }
        }
        frames
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_tick(&self) -> Option<Duration> {
        self.owned
            .values()
            .filter_map(|announcing| Some(announcing.since + *REPEATS.get(announcing.sent)?))
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(addresses: &[&str]) -> BTreeSet<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    #[test]
    fn a_new_address_is_announced_five_times_and_then_never() {
        let mut responder = Responder::new([2; 6]);
        responder.set_owned(&owned(&["172.30.0.200"]), Duration::ZERO);
        let mut count = 0;
        while let Some(next) = responder.next_tick() {
            count += responder.tick(next).len();
        }
        assert_eq!(count, REPEATS.len());
    }

    #[test]
    fn a_kept_address_is_not_announced_again() {
        let mut responder = Responder::new([2; 6]);
        responder.set_owned(&owned(&["172.30.0.200"]), Duration::ZERO);
        responder.tick(Duration::from_secs(9));
        responder.set_owned(&owned(&["172.30.0.200", "172.30.0.201"]), Duration::from_secs(10));
        assert_eq!(responder.tick(Duration::from_secs(10)).len(), 1);
    }

    #[test]
    fn a_released_address_is_not_answered() {
        let mut responder = Responder::new([2; 6]);
        let probe = {
            let mut other = Responder::new([4; 6]);
            other.set_owned(&owned(&["172.30.0.200"]), Duration::ZERO);
            let mut frame = other.tick(Duration::ZERO).remove(0);
            frame[28..32].copy_from_slice(&[172, 30, 0, 250]);
            frame
        };
        responder.set_owned(&owned(&["172.30.0.200"]), Duration::ZERO);
        assert!(responder.receive(&probe).is_some());
        responder.set_owned(&owned(&[]), Duration::ZERO);
        assert!(responder.receive(&probe).is_none());
    }
}
