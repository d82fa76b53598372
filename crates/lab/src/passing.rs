//! Passing open descriptors over Unix sockets (`SCM_RIGHTS`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// The most descriptors that come with one message.
const MOST: usize = 3;

/// Sends bytes, with descriptors beside the first one. Returns how many bytes were taken.
pub(crate) fn send(to: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    let slices = [io::IoSlice::new(bytes)];
    let to = to.as_fd().as_raw_fd();
    Ok(sendmsg::<()>(to, &slices, control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives bytes and descriptors; 0 at the end. Safe to drop while it waits.
pub(crate) async fn receive_async(
    from: &UnixStream,
    bytes: &mut Vec<u8>,
    passed: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    from.async_io(Interest::READABLE, || receive(from, bytes, passed)).await
}

#[expect(unsafe_code, reason = "the kernel hands over descriptors as numbers")]
fn receive(from: impl AsFd, bytes: &mut Vec<u8>, passed: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut chunk = vec![0; 64 << 10];
    let mut space = nix::cmsg_space!([i32; MOST]);
    let length = {
        let mut slices = [io::IoSliceMut::new(&mut chunk)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let from = from.as_fd().as_raw_fd();
        let message = recvmsg::<UnixAddr>(from, &mut slices, Some(&mut space), flags)?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else
                // knows their numbers.
                passed.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        message.bytes
    };
    bytes.extend(&chunk[..length]);
    Ok(length)
}
