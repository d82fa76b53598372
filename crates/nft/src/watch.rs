//! Events of nf_tables: somebody else changed our tables.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::damage::Damage;
use crate::error::Error;
use crate::netlink::Message;
use crate::netlink::abi::NFNLGRP_NFTABLES;
use crate::netlink::event::{Event, decode_event};
use crate::socket::Socket;

/// Tells when somebody else changed our tables.
///
/// Wait until its descriptor is readable (`tokio::io::unix::AsyncFd`), then call [`Self::drain`] and
/// hand what it returns to [`crate::Dataplane::repair`].
/// Our own transactions wake nobody.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
}

impl Watch {
    /// Reads all events that wait, without blocking: what of our tables somebody else has touched.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn drain(&mut self) -> Result<Damage, Error> {
        let mut damage = Damage::default();
        let mut transaction = Damage::default();
        loop {
            match self.socket.receive(false) {
                Ok(None) => {
                    damage.extend(transaction);
                    return Ok(damage);
                }
                Ok(Some(bytes)) => {
                    for message in Message::split(bytes) {
                        note(message, &mut transaction, &mut damage);
                    }
                }
                // More events than the buffer holds: anything may have been among them.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    damage.extend(Damage::everything());
                }
                Err(source) => {
                    return Err(Error::Io { doing: "read events of nf_tables", source });
                }
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

/// The watches of one kernel.
#[derive(Debug, Default)]
pub(crate) struct Watches(Mutex<Vec<Weak<OwnedFd>>>);

impl Watches {
    /// Opens one that does not see what the socket with netlink port `own` does.
    pub(crate) fn open(&self, own: u32) -> Result<Watch, Error> {
        let socket = Socket::open(1 << (NFNLGRP_NFTABLES - 1))?;
        ignore_events_of(&socket, own)
            .map_err(|source| Error::Io { doing: "filter events of nf_tables", source })?;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(socket.handle()));
        Ok(Watch { socket })
    }

    /// Opens a socket with all events, ours too, whose hearing stops with that of the others.
    pub(crate) fn open_unfiltered(&self) -> Result<Socket, Error> {
        let socket = Socket::open(1 << (NFNLGRP_NFTABLES - 1))?;
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(Arc::downgrade(socket.handle()));
        Ok(socket)
    }

    /// Stops events until the value returned is dropped; `None` if nobody watches.
    ///
    /// For large transactions: while anybody listens, the kernel makes one event per element,
    /// which takes three times as long as the elements themselves. Whoever mutes must find out
    /// by the generation whether somebody else changed something meanwhile.
    pub(crate) fn mute(&self) -> Option<Muted> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|watch| watch.strong_count() > 0);
        let muted: Vec<Arc<OwnedFd>> = open
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|watch| listen(watch, false).is_ok())
            .collect();
        (!muted.is_empty()).then_some(Muted(muted))
    }
}

/// Watches that hear nothing as long as this lives.
pub(crate) struct Muted(Vec<Arc<OwnedFd>>);

impl Drop for Muted {
    fn drop(&mut self) {
        for watch in &self.0 {
            if let Err(error) = listen(watch, true) {
                tracing::error!(%error, "foreign changes of nf_tables will go unnoticed");
            }
        }
    }
}

/// Adds an event to those of its transaction, and at the end of that all of them to the others. One
/// that cannot be read may have been about anything.
fn note(message: Message<'_>, transaction: &mut Damage, all: &mut Damage) {
    match decode_event(message) {
        None => transaction.extend(Damage::everything()),
        Some(Event::End(by)) => {
            let mut ended = std::mem::take(transaction);
            if !ended.is_none() {
                ended.by.extend(by);
                all.extend(ended);
            }
        }
        Some(event) => transaction.note(event),
    }
}

/// A filter in the kernel: what our own socket does makes no events for us.
fn ignore_events_of(watch: &Socket, port: u32) -> io::Result<()> {
    // Classic BPF loads words in network order; `nlmsg_pid` lies in host order at byte 12.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    let mut program = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 12),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, port),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    set_option(watch, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Joins or leaves the group of nf_tables events.
fn listen(watch: &impl AsFd, on: bool) -> io::Result<()> {
    let option = if on { libc::NETLINK_ADD_MEMBERSHIP } else { libc::NETLINK_DROP_MEMBERSHIP };
    set_option(watch, libc::SOL_NETLINK, option, &NFNLGRP_NFTABLES)
}

#[expect(unsafe_code, reason = "nix has neither of these socket options")]
fn set_option<T>(socket: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the descriptor is open, and `value` points to `len` readable bytes. The callers pass
    // the type that the option wants; a sock_fprog points to instructions that outlive the call,
    // and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
