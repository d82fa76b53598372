//! Listeners made by the parent, passed as systemd's socket activation does (`sd_listen_fds(3)`):
//! `LISTEN_FDS` of them from descriptor 3 on, meant for process `LISTEN_PID`.

use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{getsockopt, sockopt};
use thiserror::Error;

/// Why the inherited descriptors cannot be used.
#[derive(Debug, Error)]
pub enum InheritError {
    /// The environment variable is no number.
    #[error("{name}={value:?} is not a number; unset it unless the parent passes listeners")]
    Number {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A descriptor is not open.
    #[error("descriptor {fd}, promised by LISTEN_FDS, is not open")]
    Closed {
        /// The descriptor.
        fd: RawFd,
        /// Why.
        source: io::Error,
    },
    /// A descriptor is something else.
    #[error("descriptor {fd}, promised by LISTEN_FDS, is not a listening socket")]
    NotListening {
        /// The descriptor.
        fd: RawFd,
    },
}

/// Takes the listeners that the environment promises; none when it promises none, or promises
/// them to another process. `LISTEN_PID` may be absent, for parents that cannot know it.
///
/// Call it once, before anything else opens or closes descriptors.
pub fn inherited_listeners() -> Result<Vec<TcpListener>, InheritError> {
    let variable = |name| std::env::var(name).ok();
    let count = promised(
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_PID").as_deref(),
        std::process::id(),
    )?;
    (FIRST..FIRST.saturating_add(count)).map(take).collect()
}

fn promised(fds: Option<&str>, pid: Option<&str>, own: u32) -> Result<RawFd, InheritError> {
    let bad = |name, value: &str| InheritError::Number { name, value: value.to_owned() };
    let Some(fds) = fds else { return Ok(0) };
    if let Some(pid) = pid
        && pid.parse::<u32>().map_err(|_| bad("LISTEN_PID", pid))? != own
    {
        return Ok(0);
    }
    fds.parse::<u16>().map(RawFd::from).map_err(|_| bad("LISTEN_FDS", fds))
}

#[expect(unsafe_code, reason = "a descriptor comes as a number from the parent process")]
fn take(fd: RawFd) -> Result<TcpListener, InheritError> {
    // SAFETY: the borrow ends before anything could close the descriptor; whether it is open is
    // what the next call finds out.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    // Children of this process must not inherit it again.
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
        .map_err(|error| InheritError::Closed { fd, source: error.into() })?;
    if !getsockopt(&borrowed, sockopt::AcceptConn).unwrap_or(false) {
        return Err(InheritError::NotListening { fd });
    }
    // SAFETY: it is open, as just seen, and the protocol of LISTEN_FDS gives it to this process
    // alone: nothing else here owns a descriptor that was there before the program began.
    Ok(TcpListener::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// `SD_LISTEN_FDS_START`.
const FIRST: RawFd = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_promised_to_one_process() {
        assert_eq!(promised(None, None, 7).unwrap(), 0);
        assert_eq!(promised(Some("2"), Some("7"), 7).unwrap(), 2);
        assert_eq!(promised(Some("2"), Some("8"), 7).unwrap(), 0);
        assert_eq!(promised(Some("2"), None, 7).unwrap(), 2);
    }

    #[test]
    fn nonsense_in_the_environment_is_named() {
        let text = promised(Some("x"), None, 7).unwrap_err().to_string();
        assert!(text.starts_with("LISTEN_FDS=\"x\""), "{text}");
        assert!(promised(Some("1"), Some("-"), 7).is_err());
    }

    #[test]
    fn what_is_closed_or_no_listener_is_refused() {
        use std::os::fd::AsRawFd;
        assert!(matches!(take(1_000_000), Err(InheritError::Closed { .. })));
        let file = tempfile::tempfile().unwrap();
        let fd = file.as_raw_fd();
        assert!(matches!(take(fd), Err(InheritError::NotListening { .. })));
    }
}
