//! Entering the lab's own user, mount and pid namespaces, and the lessons when that is forbidden.
//!
//! ```text
//!  up ─ spawn ─▶ lab-supervisor: unshare(user, mount, pid) ─ spawn ─▶ lab-init: pid 1
//!       PDEATHSIG + stdin pipe                                 PDEATHSIG
//! ```
//!
//! Whoever of the first two dies, pid 1 is killed, and with pid 1 the kernel kills everything
//! else in the pid namespace. Mounts and network namespaces go with the processes.

use std::fs;
use std::io;
use std::process::Command;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::unistd::{Uid, getgid, getuid, setsid};

use crate::error::LabError;
use crate::net::Namespace;

/// Leaves the user's namespaces: a new user namespace in which we are root, a private copy of
/// the mounts, and a pid namespace for the next child. The network stays the host's.
///
/// # Errors
/// [`LabError::Forbidden`] names the setting of this machine that forbids it.
pub(crate) fn leave(outlive_parent: bool) -> Result<(), LabError> {
    enter(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    if outlive_parent {
        return Ok(());
    }
    // Only now: the kernel clears it when credentials change.
    set_pdeathsig(Signal::SIGKILL).map_err(LabError::system("ask to die with the parent"))
}

/// Leaves the user's network: a new user namespace in which we are root, and an empty network
/// namespace.
///
/// # Errors
/// As [`leave`].
pub(crate) fn leave_network() -> Result<(), LabError> {
    enter(CloneFlags::CLONE_NEWNET)
}

/// Enters new namespaces, owned by a new user namespace.
fn enter(inner: CloneFlags) -> Result<(), LabError> {
    let (uid, gid) = (getuid(), getgid());
    match unshare(CloneFlags::CLONE_NEWUSER | inner) {
        Ok(()) => {
            map("setgroups", "deny")?;
            map("uid_map", &format!("0 {uid} 1"))?;
            map("gid_map", &format!("0 {gid} 1"))
        }
        // Root can do without a user namespace where those are switched off.
        Err(_) if uid == Uid::from_raw(0) => unshare(inner).map_err(forbidden),
        Err(errno) => Err(forbidden(errno)),
    }
}

/// What pid 1 does first: dies with its parent, has mounts that nobody else sees, and a /proc of
/// its own pid namespace.
///
/// # Errors
/// [`LabError::Forbidden`] when /proc may not be mounted, as in most containers.
pub(crate) fn settle() -> Result<(), LabError> {
    set_pdeathsig(Signal::SIGKILL).map_err(LabError::system("ask to die with the parent"))?;
    setsid().map_err(LabError::system("leave the terminal"))?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(LabError::system("make the mounts private"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, none).map_err(|errno| LabError::Forbidden {
        what: "mounting /proc for the lab's processes",
        remedy: "in a container, /proc is masked: start it with \
                 `--security-opt systempaths=unconfined`, or run portolan outside"
            .to_owned(),
        source: errno.into(),
    })
}

/// Checks, inside the sandbox, that the kernel can do what agents need.
///
/// # Errors
/// [`LabError::Forbidden`] names the missing part.
pub(crate) fn check_kernel() -> Result<(), LabError> {
    let probe = Namespace::new().map_err(|source| LabError::Forbidden {
        what: "network namespaces",
        remedy: "raise it with `sysctl -w user.max_net_namespaces=1024`".to_owned(),
        source,
    })?;
    probe.run(ask_nf_tables).map_err(|source| LabError::Forbidden {
        what: "nf_tables",
        remedy: "the kernel lacks it or has not loaded it: `modprobe nf_tables nft_chain_nat` \
                 (CONFIG_NF_TABLES, CONFIG_NFT_NAT)"
            .to_owned(),
        source,
    })
}

/// A command that runs this program again under another of its hidden names.
pub(crate) fn this_program(name: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("portolan").arg(name);
    command
}

fn map(file: &str, content: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/self/{file}"), content)
        .map_err(|error| forbidden(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EPERM))))
}

/// Finds the setting that forbids user namespaces.
fn forbidden(errno: Errno) -> LabError {
    let source = io::Error::from(errno);
    LabError::Forbidden {
        what: "unprivileged user namespaces",
        remedy: remedy(read_sysctl),
        source,
    }
}

/// The setting to change, given the machine's sysctls.
fn remedy(read: impl Fn(&str) -> Option<u64>) -> String {
    if read("kernel/unprivileged_userns_clone") == Some(0) {
        return "allow them with `sudo sysctl -w kernel.unprivileged_userns_clone=1`".to_owned();
    }
    if read("user/max_user_namespaces") == Some(0) {
        return "allow them with `sudo sysctl -w user.max_user_namespaces=15000`".to_owned();
    }
    if read("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return "AppArmor forbids them (Ubuntu 23.10 and later): allow them with \
                `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give \
                portolan an AppArmor profile with `userns,`"
            .to_owned();
    }
    "kernel.unprivileged_userns_clone, user.max_user_namespaces and \
     kernel.apparmor_restrict_unprivileged_userns allow them, so something else forbids them: \
     seccomp, as in a container (`--security-opt seccomp=unconfined`), or a kernel without \
     CONFIG_USER_NS"
        .to_owned()
}

fn read_sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// Asks nf_tables for its generation (`NFT_MSG_GETGEN`); the kernel loads the module if it can.
fn ask_nf_tables() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8) | libc::NFT_MSG_GETGEN;
    let kind = u16::try_from(kind).map_err(io::Error::other)?.to_ne_bytes();
    let flags = u16::try_from(libc::NLM_F_REQUEST).map_err(io::Error::other)?.to_ne_bytes();
    // struct nlmsghdr, then struct nfgenmsg.
    let message = [&20_u32.to_ne_bytes()[..], &kind, &flags, &[0; 12]].concat();
    send(fd.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let is_error = length >= 20 && i32::from(answer[4]) == libc::NLMSG_ERROR && answer[5] == 0;
    match i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]) {
        errno if is_error && errno != 0 => Err(io::Error::from_raw_os_error(-errno)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_names_the_setting_that_forbids() {
        for (name, value, expected) in [
            ("kernel/unprivileged_userns_clone", 0, "kernel.unprivileged_userns_clone=1"),
            ("user/max_user_namespaces", 0, "user.max_user_namespaces=15000"),
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                1,
                "apparmor_restrict_unprivileged_userns=0",
            ),
        ] {
            let text = remedy(|asked| (asked == name).then_some(value));
            assert!(text.contains(expected), "{text}");
        }
        assert!(remedy(|_| None).contains("seccomp"));
    }
}
