//! Terminals: the few ioctls that the standard library does not know.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::pty::{OpenptyResult, Winsize, openpty};

nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, Winsize);
nix::ioctl_read_bad!(tiocgwinsz, libc::TIOCGWINSZ, Winsize);

/// Width and height of a terminal, in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Size {
    pub(crate) columns: u16,
    pub(crate) rows: u16,
}

/// A new terminal: our end, and the end for a process.
pub(crate) fn open() -> io::Result<(OwnedFd, OwnedFd)> {
    let OpenptyResult { master, slave } = openpty(None, None)?;
    for fd in [&master, &slave] {
        nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    Ok((master, slave))
}

/// Makes stdin the controlling terminal of this session.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn take_stdin() -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer and touches no memory of ours.
    unsafe { tiocsctty(0, 0) }.map(drop)
}

/// Tells a terminal its size; the processes in it get SIGWINCH.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one struct winsize, which lives until the call returns.
    unsafe { tiocswinsz(terminal.as_fd().as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// The size of a terminal.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn size(terminal: impl AsFd) -> io::Result<Size> {
    let mut size = Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize, which lives until the call returns.
    unsafe { tiocgwinsz(terminal.as_fd().as_raw_fd(), &raw mut size) }?;
    Ok(Size { columns: size.ws_col, rows: size.ws_row })
}
