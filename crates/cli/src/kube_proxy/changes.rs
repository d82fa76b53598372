//! Tells when the configuration file says something else than at the start: kube-proxy ends then, to
//! be started with what it says now, and so does the agent.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::oneshot;

use super::Configuration;

/// Most links on the way to a file; as many as Linux follows.
const MOST_LINKS: usize = 40;

/// Looks at a file on a thread of its own, which ends with the process. The receiver is told when
/// `read` returns something else than `was`.
///
/// What cannot be read or makes no sense is logged and changes nothing: an agent that ends because of
/// it could not start again.
///
/// # Errors
/// When there can be no thread, or no inotify.
pub(crate) fn watch(
    path: PathBuf,
    was: Configuration,
    read: impl Fn() -> anyhow::Result<Configuration> + Send + 'static,
) -> anyhow::Result<oneshot::Receiver<()>> {
    let (changed, receiver) = oneshot::channel();
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)
        .context("watch files (inotify; see fs.inotify.max_user_instances)")?;
    let look = move || {
        let mut complaint = String::new();
        loop {
            // Before the file is read, so that no change between falls through.
            arm(&inotify, &path);
            match read() {
                Ok(now) if now != was => break,
                Ok(_) => complaint.clear(),
                Err(error) => {
                    let text = format!("{error:#}");
                    if text != complaint {
                        tracing::error!("kept the configuration of the start: {text}");
                    }
                    complaint = text;
                }
            }
            if let Err(error) = inotify.read_events() {
                let path = path.display();
                tracing::error!(%error, "changes of {path} are not noticed any more");
                return;
            }
        }
        // Nobody is there any more when the agent is about to end anyway.
        let _ = changed.send(());
    };
    std::thread::Builder::new()
        .name("configuration".to_owned())
        .spawn(look)
        .context("start a thread")?;
    Ok(receiver)
}

/// Watches the file and the folder of every link on the way to it. A ConfigMap's files are links
/// through `..data`, which the kubelet replaces.
fn arm(inotify: &Inotify, path: &Path) {
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    let mut way = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = match way.parent() {
            Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
            Some(folder) => folder.to_owned(),
            None => break,
        };
        // What is not there now comes with an event of its parent.
        let _ = inotify.add_watch(&folder, events);
        let Ok(target) = way.read_link() else { break };
        way = folder.join(target);
    }
    let _ = inotify.add_watch(path, events);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    /// Whether the change is noticed. What is not a change is followed by one, so that nothing has
    /// to be waited for in vain.
    fn noticed(prepare: impl Fn(&Path), change: impl Fn(&Path)) -> bool {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        let file = folder.path().join("config.conf");
        let read = {
            let file = file.clone();
            move || Configuration::read(&file)
        };
        let was = read().unwrap();
        let mut receiver = watch(file.clone(), was, read).unwrap();
        change(folder.path());
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::time::Instant::now() < deadline {
            match receiver.try_recv() {
                Ok(()) => return true,
                Err(oneshot::error::TryRecvError::Closed) => return false,
                Err(oneshot::error::TryRecvError::Empty) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        false
    }

    fn text(fields: &str) -> String {
        format!("apiVersion: {}\nkind: {}\n{fields}", super::super::API_VERSION, super::super::KIND)
    }

    fn write(path: PathBuf, fields: &str) {
        std::fs::write(path, text(fields)).unwrap();
    }

    #[test]
    fn a_file_that_is_written_or_replaced_is_noticed() {
        let prepare = |folder: &Path| write(folder.join("config.conf"), "");
        assert!(noticed(prepare, |folder| write(folder.join("config.conf"), "mode: nftables")));
        assert!(noticed(prepare, |folder| {
            write(folder.join("next"), "mode: nftables");
            std::fs::rename(folder.join("next"), folder.join("config.conf")).unwrap();
        }));
        assert!(noticed(prepare, |folder| {
            std::fs::remove_file(folder.join("config.conf")).unwrap();
            write(folder.join("config.conf"), "mode: nftables");
        }));
    }

    #[test]
    fn a_config_map_that_is_replaced_is_noticed() {
        let version = |folder: &Path, name: &str, fields: &str| {
            std::fs::create_dir(folder.join(name)).unwrap();
            write(folder.join(name).join("config.conf"), fields);
            symlink(name, folder.join("..data_tmp")).unwrap();
            std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        };
        let prepare = |folder: &Path| {
            version(folder, "..1", "");
            symlink("..data/config.conf", folder.join("config.conf")).unwrap();
        };
        assert!(noticed(prepare, |folder| {
            // The same content, then another.
            version(folder, "..2", "");
            version(folder, "..3", "mode: nftables");
        }));
    }
}
