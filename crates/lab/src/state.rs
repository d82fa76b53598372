//! The state folder: what lies where, who holds it, and which version wrote it.
//!
//! ```text
//!  DIR/version        "1"                     DIR/control.sock   while a lab runs
//!  DIR/lock           held by the supervisor  DIR/kubeconfig     for kubectl
//!  DIR/apiserver/     the store and pki/      DIR/logs/          one file per process
//!  DIR/run/           mount point; what is in it exists only inside the lab
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::error::LabError;

/// What this program writes to `DIR/version`. Changes when an older store cannot be read.
const VERSION: &str = "1";

/// The paths below a state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateDir {
    /// The folder itself, absolute.
    pub(crate) path: PathBuf,
}

impl StateDir {
    /// Names the paths; touches nothing.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()) }
    }

    /// Makes what is missing, and refuses what another version wrote.
    pub(crate) fn prepare(&self) -> Result<(), LabError> {
        for folder in [self.path.clone(), self.logs(), self.run(), self.apiserver()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|source| failed("make the folder", &folder, source))?;
        }
        let file = self.path.join("version");
        match fs::read_to_string(&file) {
            Ok(found) if found.trim() == VERSION => Ok(()),
            Ok(found) => Err(LabError::StateVersion {
                path: self.path.clone(),
                found: found.trim().to_owned(),
                expected: VERSION,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_private(&file, VERSION.as_bytes())
            }
            Err(source) => Err(failed("read", &file, source)),
        }
    }

    /// Takes the folder for this process, until the lock is dropped or the process ends.
    ///
    /// # Errors
    /// [`LabError::Running`] when another process holds it.
    pub(crate) fn lock(&self) -> Result<Flock<File>, LabError> {
        let path = self.path.join("lock");
        Flock::lock(self.lock_file()?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
            match errno {
                Errno::EWOULDBLOCK => LabError::Running { path: self.path.clone() },
                errno => failed("lock", &path, errno.into()),
            }
        })
    }

    /// Like [`Self::lock`], but waits for the holder to end.
    pub(crate) fn wait_for_lock(&self) -> Result<Flock<File>, LabError> {
        Flock::lock(self.lock_file()?, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &self.path.join("lock"), errno.into()))
    }

    /// Removes what a lab that was killed could not remove. Call it with the lock held.
    pub(crate) fn clean(&self) -> Result<(), LabError> {
        let socket = self.control();
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &socket, error))
            }
            _ => Ok(()),
        }
    }

    fn lock_file(&self) -> Result<File, LabError> {
        let path = self.path.join("lock");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| failed("open", &path, source))
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    pub(crate) fn apiserver(&self) -> PathBuf {
        self.path.join("apiserver")
    }

    /// The log of a process, begun anew.
    pub(crate) fn new_log(&self, name: &str) -> Result<File, LabError> {
        let path = self.logs().join(format!("{name}.log"));
        File::create(&path).map_err(|source| failed("make the log", &path, source))
    }
}

/// Writes a file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<(), LabError> {
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(|source| failed("write", path, source))
}

/// An error about a file.
pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> LabError {
    LabError::State { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_another_version_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("version"), "0").unwrap();
        let error = StateDir::new(folder.path()).prepare().unwrap_err();
        assert!(
            matches!(error, LabError::StateVersion { ref found, .. } if found == "0"),
            "{error}"
        );
        assert_eq!(fs::read_to_string(folder.path().join("version")).unwrap(), "0");
    }

    #[test]
    fn a_locked_folder_is_a_running_lab() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(folder.path());
        state.prepare().unwrap();
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(LabError::Running { .. })));
        drop(held);
        state.lock().unwrap();
    }
}
