//! Starting a process in its namespaces and its own view of the file system.
//!
//! The supervisor has threads, and a process with threads cannot enter a user or mount namespace.
//! So a process is started in two steps: this program again, as `lab-launch`, with a single
//! thread, which enters, mounts, and then becomes the program.
//!
//! ```text
//!  supervisor ─ Launch (JSON) ─▶ lab-launch: setns, mounts, chdir ─ exec ─▶ program
//!             ◀─ socket: its namespaces; then error text, or closed by exec: it runs
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::fcntl::{FcntlArg, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chdir, dup, dup2_raw, pivot_root, sethostname, setsid};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use crate::passing;
use crate::sandbox::this_program;

/// The hidden name under which this program launches another.
pub(crate) const NAME: &str = "lab-launch";
/// Where programs are looked for when the environment does not say.
pub(crate) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How to start a process.
#[derive(Debug, Default)]
pub(crate) struct Launch {
    /// Program and arguments. `portolan` is this very program.
    pub(crate) program: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(String, String)>,
    /// Namespaces to enter, open: network, or those of a running container.
    pub(crate) enter: Vec<OwnedFd>,
    /// Listeners to hand over as systemd does: descriptors from 3 on, `LISTEN_FDS`, `LISTEN_PID`.
    pub(crate) listeners: Vec<OwnedFd>,
    /// A file system of its own, with these laid over the host's; `None` keeps the current one.
    pub(crate) root: Option<Root>,
    /// Working directory.
    pub(crate) directory: Option<String>,
    /// Stdin is a terminal that shall be the process's own.
    pub(crate) terminal: bool,
}

/// A view of the host's file system with files and folders laid over it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Root {
    /// An empty folder to build it in.
    pub(crate) base: PathBuf,
    /// The host name to show.
    pub(crate) hostname: String,
    /// What is laid over, in this order.
    pub(crate) mounts: Vec<Mount>,
}

/// A file or folder shown at another place.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// What to show.
    pub(crate) source: PathBuf,
    /// Where: an absolute path.
    pub(crate) target: PathBuf,
    /// Without permission to write.
    pub(crate) read_only: bool,
    /// May be left out when the target does not exist and cannot be made.
    pub(crate) optional: bool,
}

/// Tells whether the program could be started.
#[derive(Debug)]
pub(crate) struct Started(UnixStream);

impl Started {
    /// Waits until the program runs. Gives its mount, host name and network namespaces: they were
    /// sent before the program began, so they are known even if it has ended already.
    ///
    /// # Errors
    /// What `lab-launch` could not do, in words.
    pub(crate) async fn wait(self) -> Result<Vec<OwnedFd>, String> {
        let (mut text, mut passed) = (Vec::new(), Vec::new());
        loop {
            match passing::receive_async(&self.0, &mut text, &mut passed).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        // One byte comes with the namespaces.
        let error = if passed.is_empty() { &text[..] } else { text.get(1..).unwrap_or_default() };
        match (error, passed.is_empty()) {
            ([], false) => Ok(passed),
            ([], true) => Err("the launcher was killed".to_owned()),
            (error, _) => Err(String::from_utf8_lossy(error).into_owned()),
        }
    }
}

impl Launch {
    /// The command to spawn, with stdin, stdout and stderr still to be set, and the descriptors
    /// that must stay open until it is spawned.
    ///
    /// # Errors
    /// Out of descriptors.
    pub(crate) fn prepare(self) -> io::Result<(Command, Vec<OwnedFd>, Started)> {
        let (ready, told) = std::os::unix::net::UnixStream::pair()?;
        ready.set_nonblocking(true)?;
        // dup(2) clears close-on-exec: these copies are what the child inherits. No other thread
        // spawns processes, so nobody else inherits them.
        let told = dup(&told)?;
        let enter = self.enter.iter().map(|fd| dup(fd.as_fd())).collect::<Result<Vec<_>, _>>()?;
        let listeners =
            self.listeners.iter().map(|fd| dup(fd.as_fd())).collect::<Result<Vec<_>, _>>()?;
        let plan = Plan {
            program: self.program,
            listeners: listeners.iter().map(AsRawFd::as_raw_fd).collect(),
            enter: enter.iter().map(AsRawFd::as_raw_fd).collect(),
            root: self.root,
            directory: self.directory,
            terminal: self.terminal,
            told: told.as_raw_fd(),
        };
        let mut command = this_program(NAME);
        command.arg(serde_json::to_string(&plan)?).env_clear().envs(self.env);
        let mut keep = enter;
        keep.extend(listeners);
        keep.push(told);
        Ok((command, keep, Started(UnixStream::from_std(ready)?)))
    }
}

/// What `lab-launch` is told, as its only argument.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    program: Vec<String>,
    enter: Vec<RawFd>,
    listeners: Vec<RawFd>,
    root: Option<Root>,
    directory: Option<String>,
    terminal: bool,
    told: RawFd,
}

/// `lab-launch`: becomes the program, or tells why not and exits with 127.
pub(crate) fn main(argument: &str) -> ExitCode {
    let Ok(plan) = serde_json::from_str::<Plan>(argument) else {
        return ExitCode::from(126);
    };
    let told = adopt(plan.told);
    // Out of the way of the descriptors that a program may be handed, and closed by exec.
    let Ok(high) = fcntl(&told, FcntlArg::F_DUPFD_CLOEXEC(FIRST_HIGH_FD)) else {
        return ExitCode::from(126);
    };
    drop(told);
    let mut told = adopt(high);
    let error = become_program(plan, &told);
    // Nobody is left to tell when this fails; the exit code says it too.
    let _ = told.write_all(error.as_bytes());
    ExitCode::from(127)
}

/// Returns only when it fails, with the reason.
fn become_program(plan: Plan, told: &File) -> String {
    for fd in plan.enter.iter().copied().map(adopt) {
        if let Err(error) = setns(fd, CloneFlags::empty()) {
            return format!("could not enter a namespace: {error}");
        }
    }
    if let Some(root) = &plan.root
        && let Err(error) = build_root(root)
    {
        return error;
    }
    if let Err(error) = send_namespaces(told) {
        return format!("could not tell the namespaces: {error}");
    }
    if let Some(directory) = &plan.directory
        && let Err(error) = chdir(directory.as_str())
    {
        return format!("could not change to the working directory {directory:?}: {error}");
    }
    // Its own session: signals of a terminal or to a process group reach it alone.
    let session = setsid();
    if plan.terminal
        && let Err(error) = session.and_then(|_| crate::terminal::take_stdin())
    {
        return format!("could not take the terminal: {error}");
    }
    let Some((name, arguments)) = plan.program.split_first() else {
        return "no command was given".to_owned();
    };
    if let Err(error) = hand_over(&plan.listeners) {
        return format!("could not hand over the listeners: {error}");
    }
    let file = if name == "portolan" { "/proc/self/exe" } else { name };
    let mut command = Command::new(file);
    command.arg0(name).args(arguments);
    if !plan.listeners.is_empty() {
        command.env("LISTEN_FDS", plan.listeners.len().to_string());
        command.env("LISTEN_PID", std::process::id().to_string());
    }
    let error = command.exec();
    format!("could not start {name:?}: {error}")
}

fn send_namespaces(told: &File) -> io::Result<()> {
    let open = |kind: &str| File::open(format!("/proc/self/ns/{kind}"));
    let namespaces = [open("mnt")?, open("uts")?, open("net")?];
    passing::send(told, b"n", &namespaces.each_ref().map(AsFd::as_fd)).map(drop)
}

/// Puts the listeners where sd_listen_fds(3) wants them.
fn hand_over(listeners: &[RawFd]) -> nix::Result<()> {
    let high = listeners
        .iter()
        .map(|fd| fcntl(adopt(*fd), FcntlArg::F_DUPFD_CLOEXEC(FIRST_HIGH_FD)).map(adopt))
        .collect::<nix::Result<Vec<_>>>()?;
    for (fd, place) in high.iter().zip(FIRST_LISTENER..) {
        // A copy made by dup2(2) stays open through exec; dropping the owner would close it.
        std::mem::forget(duplicate_to(fd, place)?);
    }
    Ok(())
}

/// Builds the root: a small tmpfs into which the host's top-level folders are bound, with /run
/// empty and its own, and changes into it.
fn build_root(root: &Root) -> Result<(), String> {
    let said = |what: &str| {
        let what = what.to_owned();
        move |error: nix::errno::Errno| format!("could not {what}: {error}")
    };
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .map_err(said("make a mount namespace"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(said("make mounts private"))?;
    sethostname(&root.hostname).map_err(said("set the host name"))?;
    mount(Some("tmpfs"), &root.base, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755"))
        .map_err(said("mount a file system for the root"))?;
    bind_host(&root.base).map_err(|error| format!("could not bind the host's folders: {error}"))?;
    for entry in &root.mounts {
        if let Err(error) = lay_over(&root.base, entry)
            && !entry.optional
        {
            return Err(format!(
                "could not mount {} at {}: {error} (a path that the host does not have can only be \
                 made below /run or at the top level)",
                entry.source.display(),
                entry.target.display()
            ));
        }
    }
    chdir(&root.base).map_err(said("enter the root"))?;
    pivot_root(".", ".").map_err(said("change the root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(said("leave the host's root"))?;
    chdir("/").map_err(said("enter the root"))
}

fn bind_host(base: &Path) -> io::Result<()> {
    for entry in fs::read_dir("/")? {
        let entry = entry?;
        let inside = base.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path())?, inside)?;
        } else if entry.file_name() == "run" {
            fs::create_dir(inside)?;
        } else if kind.is_dir() {
            fs::create_dir(&inside)?;
            bind(&entry.path(), &inside)?;
        }
    }
    Ok(())
}

fn lay_over(base: &Path, entry: &Mount) -> io::Result<()> {
    let target = inside(base, &entry.target);
    if entry.source.is_dir() {
        fs::create_dir_all(&target)?;
    } else if !target.exists() {
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        File::create(&target)?;
    }
    bind(&entry.source, &target)?;
    if entry.read_only {
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        let none: Option<&str> = None;
        mount(none, &target, none, flags, none)?;
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let none: Option<&str> = None;
    Ok(mount(Some(source), target, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?)
}

/// Where a path of the new root lies now, symbolic links of its parts followed inside the root.
fn inside(base: &Path, path: &Path) -> PathBuf {
    let mut todo: Vec<_> =
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
    let mut at = PathBuf::from("/");
    let mut hops = 0;
    while let Some(part) = todo.pop() {
        match part.to_str() {
            Some("/" | ".") => continue,
            Some("..") => {
                at.pop();
                continue;
            }
            _ => {}
        }
        let next = at.join(&part);
        let real = base.join(next.strip_prefix("/").unwrap_or(&next));
        match fs::read_link(real) {
            Ok(link) if hops < 40 => {
                hops += 1;
                if link.is_absolute() {
                    at = PathBuf::from("/");
                }
                todo.extend(link.components().rev().map(|part| part.as_os_str().to_owned()));
            }
            _ => at = next,
        }
    }
    base.join(at.strip_prefix("/").unwrap_or(&at))
}

#[expect(unsafe_code, reason = "a descriptor gets a number of our choice")]
fn duplicate_to(fd: &File, place: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: this single-threaded process is about to become another program and uses none of
    // the numbers from 3 on: what it needs stands at FIRST_HIGH_FD and above.
    unsafe { dup2_raw(fd, place) }
}

/// Takes over a descriptor that the supervisor left open for us.
#[expect(unsafe_code, reason = "a number from our parent has to become a descriptor")]
fn adopt(fd: RawFd) -> File {
    // SAFETY: the parent duplicated it for this process alone and told its number; nothing else
    // in this single-threaded process knows it.
    unsafe { File::from_raw_fd(fd) }
}

/// `SD_LISTEN_FDS_START`.
const FIRST_LISTENER: RawFd = 3;
/// Above every descriptor that a program may be handed.
const FIRST_HIGH_FD: RawFd = 100;
