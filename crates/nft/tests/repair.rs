//! Damage to the tables of a fake kernel, and its repair (D50).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use model::{Family, Protocol};
use portolan_nft::expr::{Expr, Verdict};
use portolan_nft::ruleset::{Data, Key, Op, Ruleset};
use portolan_nft::{
    Damage, Dataplane, Error, Fake, Netfilter, Parts, Scope, Sent, Settings, Stale, Synced,
};
use proptest::prelude::*;

#[path = "support/view.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod view;

use view::{balance, cluster_ip, frontend, ip, load_balancer, node_port, reject, service, view};

/// Somebody changes more than the events have told, while a transaction runs unheard.
#[derive(Debug)]
struct Interfering {
    fake: Fake,
    /// What is done after the next transaction.
    next: Option<fn(&mut Ruleset)>,
}

impl Netfilter for Interfering {
    fn commit(&mut self, operations: &[Op]) -> Result<Sent, Error> {
        let sent = self.fake.commit(operations)?;
        let disturbed = self.next.is_some();
        self.next.take().into_iter().for_each(|change| self.fake.tamper(change));
        Ok(Sent { disturbed, ..sent })
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        self.fake.read()
    }

    fn forget(&mut self, stale: &Stale) -> Result<usize, Error> {
        self.fake.forget(stale)
    }
}

#[test]
fn interference_with_an_unheard_transaction_is_found() {
    let services = |port| view([service("web", [cluster_ip("10.96.0.10", port, balance(&BOTH))])]);
    let fake = Fake::new([ip("172.30.0.11")].into());
    let mut dataplane = Dataplane::new(Interfering { fake, next: None }, Settings::default());
    dataplane.sync(&services(80)).unwrap();
    dataplane.take_mended();
    dataplane.netfilter_mut().next = Some(|tables| {
        tables.get_mut(&Family::V4).unwrap().sets.get_mut("cluster-ips").unwrap().elements.clear();
    });
    assert!(dataplane.sync(&services(81)).unwrap().repaired);
    let mended = dataplane.take_mended().unwrap();
    assert_eq!(mended.to_string(), "set ip portolan cluster-ips (elements added: 1)");

    // Also while damage is being repaired.
    let clear: fn(&mut Ruleset) = |tables| tables.clear();
    dataplane.netfilter_mut().fake.tamper(clear);
    dataplane.netfilter_mut().next = Some(clear);
    assert!(dataplane.verify().unwrap().repaired);
    assert_eq!(dataplane.verify().unwrap(), Synced::default());
}

#[test]
fn a_repair_that_fails_is_made_up_for_by_the_next_sync() {
    let services = view([service("web", [cluster_ip("10.96.0.10", 80, balance(&BOTH))])]);
    let mut dataplane = loaded(&services);
    let held = dataplane.netfilter_mut().read().unwrap();
    dataplane.netfilter_mut().tamper(|tables| {
        tables.get_mut(&Family::V4).unwrap().chains.get_mut("services").unwrap().rules.clear();
    });
    dataplane.netfilter_mut().fail_nth(1);
    dataplane.verify().unwrap_err();
    assert!(dataplane.sync(&services).unwrap().repaired);
    assert_eq!(dataplane.netfilter_mut().read().unwrap(), held);
}

const BOTH: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];

/// Fills nearly every set.
fn loaded(view: &model::NodeView) -> Dataplane<Fake> {
    let fake = Fake::new([ip("172.30.0.11")].into());
    let mut dataplane = Dataplane::new(fake, Settings::default());
    dataplane.sync(view).unwrap();
    dataplane
}

fn everything() -> model::NodeView {
    let mut sticky = cluster_ip("10.96.0.12", 80, balance(&BOTH));
    sticky.affinity = Some(model::Affinity { timeout_seconds: 60 });
    let mut restricted = load_balancer("172.30.0.192", 80, balance(&BOTH));
    restricted.source_ranges = Some(vec!["172.30.0.0/24".parse().unwrap()]);
    let dns = model::FrontendKind::ClusterIp(ip("fd00:10:96::a"));
    view([
        service("a", [cluster_ip("10.96.0.10", 80, balance(&BOTH)), restricted]),
        service("b", [node_port(Family::V4, 30007, balance(&BOTH[..1]))]),
        service("c", [cluster_ip("10.96.0.11", 80, reject()), sticky]),
        service("d", [frontend(dns, Protocol::Udp, 53, balance(&["[fd00:10:244::2]:53"]))]),
    ])
}

/// What somebody does: to the table, chain or set at a place, and which of its elements.
fn crimes() -> impl Strategy<Value = Vec<(bool, u8, prop::sample::Index, prop::sample::Index)>> {
    let one = (any::<bool>(), 0_u8..7, any::<prop::sample::Index>(), any::<prop::sample::Index>());
    prop::collection::vec(one, 1..5)
}

/// Does it, and returns what an event would tell of it.
fn commit_crime(
    tables: &mut Ruleset,
    (is_v6, kind, place, element): (bool, u8, prop::sample::Index, prop::sample::Index),
) -> Damage {
    let family = if is_v6 { Family::V6 } else { Family::V4 };
    let mut parts = Parts::default();
    let Some(table) = tables.get_mut(&family) else { return Damage::default() };
    if kind == 0 {
        tables.remove(&family);
        return Damage::of([(family, Scope::Whole)]);
    }
    if kind < 3 {
        let name = place.get(&table.chains.keys().collect::<Vec<_>>()).to_owned().clone();
        let rules = &mut table.chains.get_mut(&name).unwrap().rules;
        match kind {
            1 => rules.clear(),
            _ => rules.insert(0, vec![Expr::Verdict(Verdict::Accept)]),
        }
        parts.chains.insert(name);
        return Damage::of([(family, Scope::Parts(parts))]);
    }
    let static_sets = table.sets.iter().filter(|(_, set)| !set.spec.is_filled_by_packets());
    let filled = static_sets.filter(|(_, set)| kind == 3 || !set.elements.is_empty());
    let filled: Vec<_> = filled.map(|(name, _)| name.clone()).collect();
    let name = place.get(&filled).clone();
    let set = table.sets.get_mut(&name).unwrap();
    let key = match kind {
        3 => Key::new(&vec![9; set.spec.key.iter().map(|field| field.padded() as usize).sum()]),
        4 => {
            set.elements.clear();
            parts.sets.insert(name);
            return Damage::of([(family, Scope::Parts(parts))]);
        }
        _ => element.get(&set.elements.keys().collect::<Vec<_>>()).to_owned().clone(),
    };
    match kind {
        3 => drop(set.elements.insert(key.clone(), Data::None)),
        5 => drop(set.elements.remove(&key)),
        _ => drop(set.elements.insert(key.clone(), Data::Value([9; 8].into()))),
    }
    parts.elements.entry(name).or_default().insert(key);
    Damage::of([(family, Scope::Parts(parts))])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was damaged: repairing what events tell of is enough, and nothing else is written.
    #[test]
    fn what_was_touched_is_repaired_and_nothing_else(crimes in crimes()) {
        let mut dataplane = loaded(&everything());
        let held = dataplane.netfilter_mut().read().unwrap();
        let mut damage = Damage::default();
        for crime in crimes {
            dataplane.netfilter_mut().tamper(|tables| damage.extend(commit_crime(tables, crime)));
        }
        let synced = dataplane.repair(&damage).unwrap();
        prop_assert_eq!(&dataplane.netfilter_mut().read().unwrap(), &held);
        prop_assert_eq!(dataplane.verify().unwrap(), Synced::default());
        let mended = dataplane.take_mended();
        prop_assert_eq!(mended.is_some(), synced.repaired);
        for part in mended.into_iter().flat_map(|mended| mended.parts.into_keys()) {
            prop_assert!(names(&damage, &part), "{} was not damaged: {:?}", part, damage);
        }
    }
}

/// Whether a part is among the damage.
fn names(damage: &Damage, part: &portolan_nft::Part) -> bool {
    use portolan_nft::Part;
    let of = |family: &Family| damage.families().find(|(other, _)| other == family);
    match part {
        Part::Table(family) => matches!(of(family), Some((_, Scope::Whole))),
        Part::Chain(family, name) => match of(family) {
            Some((_, Scope::Parts(parts))) => parts.chains.contains(name),
            whole => whole.is_some(),
        },
        Part::Set(family, name) => match of(family) {
            Some((_, Scope::Parts(parts))) => {
                parts.sets.contains(name) || parts.elements.contains_key(name)
            }
            whole => whole.is_some(),
        },
    }
}
