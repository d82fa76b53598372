//! Somebody else changes our tables (D50).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};

use model::Family;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use portolan_nft::ruleset::{Data, Key, Op};
use portolan_nft::{Damage, Dataplane, Kernel, Netfilter, Synced, Watch};

use crate::Test;
use crate::lab::{Lab, Tried, greeting};
use crate::namespace::{Namespace, run};
use crate::tables::{BOTH, dns, open, web, woken};
use crate::view::view;

pub(crate) const TESTS: &[Test] = &[
    ("foreign_changes_are_noticed_and_only_the_damage_is_repaired", each_kind),
    ("a_change_that_changes_nothing_is_no_repair", nothing_changed),
    ("established_connections_survive_damage_and_repair", established),
    ("a_connection_that_began_without_rules_is_made_after_all", began_without),
    ("more_events_than_the_buffer_holds_are_damage_everywhere", overflow),
    ("a_table_that_comes_back_in_steps_is_whole", in_steps),
];

/// What somebody does, what is found damaged, and the most messages that its repair may take.
const CRIMES: [(&str, &str, usize); 15] = [
    ("flush chain ip portolan services", "chain ip portolan services", 5),
    ("flush chain ip6 portolan node-ports", "chain ip6 portolan node-ports", 4),
    ("add rule ip portolan forward drop", "chain ip portolan forward", 6),
    ("insert rule ip portolan services accept", "chain ip portolan services", 6),
    ("add chain ip portolan intruder", "chain ip portolan intruder", 1),
    ("add chain ip portolan forward { policy drop; }", "chain ip portolan forward", 1),
    ("flush map ip portolan endpoints", "set ip portolan endpoints (elements added: 4)", 1),
    ("add set ip portolan intruder { type ipv4_addr; }", "set ip portolan intruder", 1),
    (
        "delete element ip portolan cluster-ips { 10.96.0.10 }",
        "set ip portolan cluster-ips (elements added: 1)",
        1,
    ),
    (
        "add element ip portolan cluster-ips { 192.0.2.1 }",
        "set ip portolan cluster-ips (elements removed: 1)",
        1,
    ),
    (
        "delete element ip portolan node-addresses { 172.30.0.11 }",
        "set ip portolan node-addresses (elements added: 1)",
        1,
    ),
    (
        "delete element ip portolan node-ports-masquerade { tcp . 30007 }",
        "set ip portolan node-ports-masquerade (elements added: 1)",
        1,
    ),
    ("add table ip portolan { flags dormant; }", "table ip portolan", 1),
    ("delete table ip6 portolan", "table ip6 portolan", 400),
    ("flush ruleset", "table ip portolan, table ip6 portolan", 800),
];

fn each_kind() {
    if testkit::program("nft").is_none() {
        return testkit::skip("foreign_changes_are_noticed_and_…", "no nft program");
    }
    Namespace::new().run(|| {
        let mut dataplane = open();
        let mut watch = dataplane.events().unwrap();
        dataplane.sync(&view([web(&BOTH), dns(&BOTH)])).unwrap();
        for (crime, found, messages) in CRIMES {
            run(&format!("nft {crime}"));
            let start = std::time::Instant::now();
            assert!(woken(&watch), "{crime} was not noticed");
            let damage = watch.drain().unwrap();
            assert!(damage.by.iter().all(|by| by.starts_with("nft (process ")), "{damage:?}");
            let synced = dataplane.repair(&damage).unwrap();
            println!("{crime}: repaired after {:?}", start.elapsed());
            let mended = dataplane.take_mended().unwrap();
            assert_eq!(mended.to_string(), found, "{crime}");
            assert_eq!(mended.by, damage.by);
            assert!(synced.repaired && synced.messages <= messages, "{crime}: {synced:?}");
            assert_eq!(dataplane.verify().unwrap(), Synced::default(), "{crime}");
        }
        run("nft add table ip somebody-else");
        assert!(woken(&watch) && watch.drain().unwrap().is_none(), "that is not our table");
    });
}

/// A wrong endpoint is put right by one element out and one in.
fn nothing_changed() {
    Namespace::new().run(|| {
        let mut dataplane = open();
        let mut watch = dataplane.events().unwrap();
        dataplane.sync(&view([web(&BOTH)])).unwrap();
        let mut intruder = Kernel::open().unwrap();
        let held = intruder.read().unwrap();
        let set = "endpoints";
        let elements: Vec<(Key, Data)> =
            held[&Family::V4].sets[set].elements.clone().into_iter().collect();
        let delete = |key: &Key| Op::DeleteElements(Family::V4, set.into(), vec![key.clone()]);
        let add = |key: &Key, data: &Data| {
            Op::AddElements(Family::V4, set.into(), vec![(key.clone(), data.clone())])
        };
        let (key, data) = &elements[0];
        intruder.commit(&[delete(key), add(key, data)]).unwrap();
        let damage = watch.drain().unwrap();
        assert!(!damage.is_none());
        assert_eq!(dataplane.repair(&damage).unwrap(), Synced::default());
        assert_eq!(dataplane.take_mended(), None);

        let wrong = &elements[1].1;
        assert_ne!(data, wrong);
        intruder.commit(&[delete(key), add(key, wrong)]).unwrap();
        let synced = dataplane.repair(&watch.drain().unwrap()).unwrap();
        assert_eq!((synced.messages, synced.added, synced.removed), (2, 1, 1));
        assert_eq!(intruder.read().unwrap(), held);
    });
}

fn established() {
    // D35.
    if testkit::program("nft").is_none() {
        return testkit::skip(
            "established_connections_survive_damage_and_repair",
            "no nft program",
        );
    }
    let lab = Lab::new();
    let (mut dataplane, mut watch) = lab.node.run(watched);
    let mut stream = lab.client.run(|| TcpStream::connect("172.30.0.11:30007").unwrap());
    assert!(matches!(greeting(&mut stream), Tried::Answered(..)));
    for (crime, ..) in CRIMES {
        lab.node.run(move || run(&format!("nft {crime}")));
        assert!(dataplane.repair(&watch.drain().unwrap()).unwrap().repaired);
        stream.write_all(b"x").unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"x", "after {crime}");
    }
}

/// What the client repeats after a second has to be translated, though its first packet was not.
fn began_without() {
    if testkit::program("nft").is_none() {
        return testkit::skip("a_connection_that_began_without_rules_…", "no nft program");
    }
    let lab = Lab::new();
    let (mut dataplane, mut watch) = lab.node.run(watched);
    // Like many a host's firewall, it keeps conntrack going while our tables are gone.
    lab.node.run(|| {
        run("nft add table ip firewall");
        run("nft add chain ip firewall input { type filter hook prerouting priority 0; }");
        run("nft add rule ip firewall input ct state new accept");
    });
    lab.node.run(|| Kernel::open().unwrap().commit(&Family::ALL.map(Op::DeleteTable)).unwrap());
    let client = lab.client.run(|| {
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let client = socket(family, kind, SockFlag::SOCK_NONBLOCK, None).unwrap();
        let connected = connect(client.as_raw_fd(), &SockaddrIn::new(10, 96, 0, 10, 80));
        assert_eq!(connected, Err(Errno::EINPROGRESS));
        client
    });
    let synced = dataplane.repair(&watch.drain().unwrap()).unwrap();
    assert!(synced.repaired && synced.forgotten == 1, "{synced:?}");
    let mut fds = [PollFd::new(client.as_fd(), PollFlags::POLLOUT)];
    assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)).unwrap(), 1, "never connected");
    let mut stream = TcpStream::from(client);
    stream.set_nonblocking(false).unwrap();
    assert!(matches!(greeting(&mut stream), Tried::Answered(..)));
}

fn overflow() {
    Namespace::new().run(|| {
        let (mut dataplane, mut watch) = watched();
        let mut intruder = Kernel::open().unwrap();
        let element = |number: u32| {
            let key = Key::new(&(0xc000_0200 + number).to_be_bytes());
            (key, Data::None)
        };
        let mut noticed = Damage::default();
        let mut added = 0;
        // The buffer is larger for the host's root.
        while !noticed.is_everything() {
            let elements = (added..added + 100_000).map(element).collect();
            intruder
                .commit(&[Op::AddElements(Family::V4, "cluster-ips".into(), elements)])
                .unwrap();
            added += 100_000;
            noticed = watch.drain().unwrap();
            assert!(added < 2_000_000, "that many events are no problem");
        }
        let synced = dataplane.repair(&noticed).unwrap();
        assert!(synced.repaired, "{synced:?}");
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    });
}

fn in_steps() {
    Namespace::new().run(|| {
        let mut dataplane = open();
        let services = (0..2500).map(crate::tables::many);
        dataplane.sync(&view(services)).unwrap();
        let mut intruder = Kernel::open().unwrap();
        let held = intruder.read().unwrap();
        intruder.commit(&Family::ALL.map(Op::DeleteTable)).unwrap();
        assert!(dataplane.verify().unwrap().repaired);
        assert!(intruder.read().unwrap() == held, "not all has come back");
        assert_eq!(dataplane.verify().unwrap(), Synced::default());
    });
}

fn watched() -> (Dataplane, Watch) {
    let mut dataplane = open();
    let watch = dataplane.events().unwrap();
    dataplane.sync(&view([web(&BOTH), dns(&BOTH)])).unwrap();
    (dataplane, watch)
}
