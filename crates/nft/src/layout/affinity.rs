//! Session affinity (D15 to D19): back to the endpoint that the client used last, if that is usable.
//!
//! ```text
//!  register   0       w          2w+2   2w+3
//!             client  frontend   pad    endpoint         (w: words of an address)
//! ```
//!
//! A map's answer goes one register before the place where it is used, with its pad
//! ([`sets::PAD`]) there, for the sake of the `nft` program. For that program the registers behind
//! the pad hold what was loaded there first, which is something as long and alike: the frontend for
//! its Service port, and the endpoint of a translated connection, `ct reply saddr . ct reply
//! proto-src`, for the endpoint.

use model::Family;

use super::draw::Pick;
use super::packet::{address_words, answering_endpoint, frontend, load, rule, source, within};
use super::sets;
use crate::expr::{Expr, Name, Reg};
use crate::ruleset::Rule;

/// The client is the address that the node sees (D19), and its time begins anew with every new
/// connection (D16): back to the remembered endpoint if it is usable, else draw and remember, else
/// (the memory is full) just draw.
pub(super) fn rules(pick: Pick, family: Family) -> Vec<Rule> {
    let at = Places::of(pick, family);
    let recall = [at.prepared(), vec![load(sets::AFFINITY, at.client, at.pad)]].concat();
    let back = [at.identify(), recall, at.check(), at.identify(), at.remember()];
    let forget = Expr::Forget { map: sets::AFFINITY, key: at.client, data: at.pad };
    let mut rules =
        vec![rule(back, at.dnat()), rule([at.identify(), at.prepared(), vec![at.zero()]], forget)];
    let draws = || pick.moduli().map(|modulus| at.draw(modulus));
    rules.extend(draws().map(|draw| rule([draw, at.whose(), at.remember()], at.dnat())));
    rules.extend(draws().map(|draw| rule([draw], at.dnat())));
    rules
}

struct Places {
    pick: Pick,
    family: Family,
    client: Reg,
    frontend: Reg,
    pad: Reg,
    endpoint: Reg,
}

impl Places {
    fn of(pick: Pick, family: Family) -> Self {
        let client = Reg(0);
        let frontend = client.plus(address_words(family));
        let pad = frontend.plus(address_words(family) + 2);
        Self { pick, family, client, frontend, pad, endpoint: pad.plus(1) }
    }

    /// The key of the client's memory.
    fn identify(&self) -> Rule {
        [frontend(self.family, self.frontend), self.whose()].concat()
    }

    /// Replaces the frontend by its Service port, and puts the client in front.
    fn whose(&self) -> Rule {
        let node_port = self.pick.from.node_port;
        let ports = if node_port { sets::PORT_SERVICE_PORTS } else { sets::SERVICE_PORTS };
        vec![
            load(ports, self.key(self.frontend), Reg(self.frontend.0 - 1)),
            source(self.family, self.client),
        ]
    }

    /// What `nft` is to take the endpoint for that a map is about to give.
    fn prepared(&self) -> Rule {
        answering_endpoint(self.family, self.endpoint)
    }

    /// Whether the endpoint is one of the frontend's (D17).
    fn check(&self) -> Rule {
        let beside = self.frontend.plus(1);
        let usable: Name = self.pick.from.usable();
        [frontend(self.family, beside), vec![within(usable, self.key(beside))]].concat()
    }

    fn remember(&self) -> Rule {
        let timeout = u64::from(self.pick.affinity) * 1000;
        let (key, data) = (self.client, self.pad);
        vec![self.zero(), Expr::Remember { map: sets::AFFINITY, key, data, timeout }]
    }

    fn draw(&self, modulus: u32) -> Rule {
        let endpoints = self.pick.from.endpoints(true);
        let numbered = [
            Expr::Numgen { modulus, to: self.pad },
            load(endpoints, self.key(self.frontend), self.pad),
        ];
        [frontend(self.family, self.frontend), self.prepared(), numbered.into()].concat()
    }

    fn dnat(&self) -> Expr {
        let port = self.endpoint.plus(address_words(self.family));
        Expr::Dnat { family: self.family, address: self.endpoint, port }
    }

    fn zero(&self) -> Expr {
        Expr::Immediate { to: self.pad, value: vec![0; 4] }
    }

    /// Where the key of a frontend begins that was loaded to a place: node ports have no address.
    fn key(&self, frontend: Reg) -> Reg {
        let words = if self.pick.from.node_port { address_words(self.family) } else { 0 };
        frontend.plus(words)
    }
}
