//! Who gets how many of the new connections (D10).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use portolan_nft::{Dataplane, Settings};

use crate::Test;
use crate::lab::Lab;
use crate::view::{balance, cluster_ip, service, view};

pub(crate) const TESTS: &[Test] = &[("new_connections_spread_evenly", evenly)];

/// Nine are drawn from sixteen numbers, of which some are drawn again; three are drawn directly.
const ENDPOINTS: [u8; 2] = [9, 3];
/// Connections per endpoint.
const EACH: u32 = 150;

fn evenly() {
    for count in ENDPOINTS {
        let counts = connect(count);
        let expected = f64::from(EACH);
        let squares = counts.iter().map(|seen| (f64::from(*seen) - expected).powi(2));
        let chi_square = squares.sum::<f64>() / expected;
        // Eight degrees of freedom at most: chance exceeds it in less than one of a million runs.
        assert!(chi_square < 45.0, "{chi_square}: {counts:?}");
    }
}

/// How many connections to a Service each of its endpoints got.
fn connect(count: u8) -> Vec<u32> {
    let lab = Lab::new();
    let port = |number: u8| 9000 + u16::from(number);
    lab.pods[0].run(move || {
        for number in 0..count {
            let listener = TcpListener::bind(("10.244.0.2", port(number))).unwrap();
            std::thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let _ = stream.write_all(&[number]);
                    let _ = stream.read(&mut [0]);
                }
            });
        }
    });
    let _dataplane = lab.node.run(move || {
        let endpoints: Vec<String> =
            (0..count).map(|number| format!("10.244.0.2:{}", port(number))).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let mut dataplane = Dataplane::open(Settings::default()).unwrap();
        let wide = service("wide", [cluster_ip("10.96.0.40", 80, balance(&endpoints))]);
        dataplane.sync(&view([wide])).unwrap();
        dataplane
    });
    lab.pods[1].run(move || {
        let mut counts = vec![0; count.into()];
        for _ in 0..EACH * u32::from(count) {
            let mut number = [0];
            TcpStream::connect("10.96.0.40:80").unwrap().read_exact(&mut number).unwrap();
            counts[usize::from(number[0])] += 1;
        }
        counts
    })
}
