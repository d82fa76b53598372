//! Sockets of the kernel, as tokio waits for them.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::unix::AsyncFd;

/// A socket to be waited for in the current runtime.
///
/// # Errors
/// When tokio cannot wait for it.
#[expect(unsafe_code, reason = "tokio cannot check that a descriptor stays the same")]
pub(crate) fn register<T: Owned>(socket: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: see `Owned`: the descriptor is open and the same until the socket is dropped, and
    // nobody takes the socket out of the returned value.
    unsafe { AsyncFd::register(socket) }.map_err(Into::into)
}

/// What owns one descriptor for as long as it lives.
pub(crate) trait Owned: AsRawFd {}

impl Owned for std::os::fd::OwnedFd {}
impl Owned for nft::Watch {}
impl Owned for nft::RuleWatch {}
