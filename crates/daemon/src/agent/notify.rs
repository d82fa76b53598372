//! Tells systemd how the agent is (sd_notify(3)): one datagram each, no library.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if one wants to know.
#[derive(Debug)]
pub(crate) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    ready: bool,
}

impl Notify {
    /// Finds the manager by `NOTIFY_SOCKET` and its watchdog by `WATCHDOG_USEC`.
    pub(crate) fn from_env() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            let address = match path.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&path),
            };
            let connected = address.and_then(|address| Ok((UnixDatagram::unbound()?, address)));
            connected.inspect_err(|error| tracing::warn!(%error, "cannot reach NOTIFY_SOCKET")).ok()
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| for_us && *usec > 0);
        Self { manager, watchdog: watchdog.map(Duration::from_micros), ready: false }
    }

    /// How often [`Self::alive`] has to be called: twice in the time that the manager allows.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// The agent does its work, and how.
    pub(crate) fn status(&mut self, status: &str) {
        let ready = if std::mem::replace(&mut self.ready, true) { "" } else { "READY=1\n" };
        self.send(&format!("{ready}STATUS={status}\n"));
    }

    /// The agent cannot do its work, and why.
    pub(crate) fn trouble(&self, status: &str) {
        self.send(&format!("STATUS={status}\n"));
    }

    /// The loop goes round.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// The agent is about to end.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    fn send(&self, text: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), manager) {
            tracing::warn!(%error, "could not tell the service manager");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(act: impl FnOnce(&mut Notify)) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let address = SocketAddr::from_pathname(&path).unwrap();
        let socket = UnixDatagram::unbound().unwrap();
        let mut notify = Notify { manager: Some((socket, address)), watchdog: None, ready: false };
        act(&mut notify);
        manager.set_nonblocking(true).unwrap();
        let mut text = String::new();
        let mut buffer = [0; 256];
        while let Ok(length) = manager.recv(&mut buffer) {
            text += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        text
    }

    #[test]
    fn ready_is_said_once() {
        let text = told(|notify| {
            notify.trouble("waits for the API server");
            notify.status("1 Service");
            notify.status("2 Services");
            notify.alive();
            notify.stopping();
        });
        let wanted = "STATUS=waits for the API server\nREADY=1\nSTATUS=1 Service\n\
                      STATUS=2 Services\nWATCHDOG=1\nSTOPPING=1\n";
        assert_eq!(text, wanted);
    }
}
