//! A way to the API server that can be cut.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on until it is cut; then it breaks them and refuses new ones.
pub(crate) struct Relay {
    /// Where it listens.
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    is_cut: bool,
    streams: Vec<TcpStream>,
}

impl Relay {
    pub(crate) fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("has an address").to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let (server, shared) = (server.to_owned(), Arc::clone(&state));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is away looks like one that hangs up.
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let mut state = shared.lock().expect("nobody panicked");
                if state.is_cut {
                    continue;
                }
                for stream in [&client, &upstream] {
                    state.streams.push(stream.try_clone().expect("can be cloned"));
                }
                drop(state);
                copy(&client, &upstream);
                copy(&upstream, &client);
            }
        });
        Self { address, state }
    }

    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panicked");
        state.is_cut = true;
        for stream in state.streams.drain(..) {
            // The other side may have ended it.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().expect("nobody panicked").is_cut = false;
    }
}

/// Copies until one end closes.
fn copy(from: &TcpStream, to: &TcpStream) {
    let mut from = from.try_clone().expect("can be cloned");
    let mut to = to.try_clone().expect("can be cloned");
    std::thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
}
