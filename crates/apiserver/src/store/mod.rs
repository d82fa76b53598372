//! Objects on disk and in memory.
//!
//! What it is: one redb file that makes a write durable before it is acknowledged, and the same
//! objects in memory, where every read and every watch is answered. Versions of objects
//! (`resourceVersion`) are numbers of one counter that never goes back, also not over restarts.
//!
//! What it is not: it knows no rule of Kubernetes; whoever writes says what must hold (`Expect`).
//!
//! ```text
//!  Transaction ─▶ queue ─▶ writer thread: check ─▶ number ─▶ redb commit ─▶ memory ─▶ acknowledge
//!                          (all that wait become one commit)                  │
//!  get, list ◀──────────────────────────────────────────────── memory ◀──────┤
//!  watch     ◀──────────────────────────────────────────────── history ◀─────┘
//! ```

mod file;
mod history;
mod memory;
mod record;
mod writer;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard, mpsc};
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::{oneshot, watch};

pub(crate) use history::{Event, Expired};
pub(crate) use memory::{Listing, Page};
pub(crate) use record::{Record, encode};

use memory::Memory;

/// What the store has to know about a resource.
pub(crate) struct Spec {
    /// `plural` or `plural.group`, the same in every release: it is part of the keys on disk.
    pub(crate) name: String,
    /// Kind of its objects.
    pub(crate) kind: String,
    /// apiVersion of its objects.
    pub(crate) api_version: String,
    /// Fields that field selectors may name.
    pub(crate) fields: Fields,
    /// The form that objects have which are written from now on; 0 where it never changes.
    pub(crate) era: u32,
    /// Brings an object that an older release wrote up to date (semantics 1.3), and tells its era.
    pub(crate) on_load: Box<dyn Fn(&mut Value) -> u32 + Send + Sync>,
}

/// The selectable fields of an object, by name.
pub(crate) type Fields = Box<dyn Fn(&Value) -> Vec<(Cow<'static, str>, String)> + Send + Sync>;

/// Where an object is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    /// Position of the resource in the list given to [`Store::open`].
    pub(crate) resource: usize,
    /// `namespace/name`, or the name of a cluster-scoped object. Ordered as lists are.
    pub(crate) path: Arc<str>,
}

impl Key {
    /// From its parts; the namespace of cluster-scoped objects is empty.
    pub(crate) fn new(resource: usize, namespace: &str, name: &str) -> Self {
        let path =
            if namespace.is_empty() { name.into() } else { [namespace, "/", name].concat().into() };
        Self { resource, path }
    }
}

/// Writes that happen together or not at all.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// In this order they are numbered. No key may stand here twice.
    pub(crate) steps: Vec<Step>,
}

impl Transaction {
    /// Creates an object.
    pub(crate) fn create(&mut self, key: Key, object: Value) {
        self.steps.push(Step { key, expect: Expect::Absent, change: Change::Put(object) });
    }

    /// Replaces an object that has this version now.
    pub(crate) fn replace(&mut self, key: Key, version: u64, object: Value) {
        self.steps.push(Step {
            key,
            expect: Expect::Version(version),
            change: Change::Put(object),
        });
    }

    /// Deletes an object that has this version now. `last` is its last state for watches, when
    /// that is not the stored one.
    pub(crate) fn delete(&mut self, key: Key, version: u64, last: Option<Value>) {
        let change = Change::Delete(last);
        self.steps.push(Step { key, expect: Expect::Version(version), change });
    }

    /// Goes on only if the object has this version now.
    pub(crate) fn require(&mut self, key: Key, version: u64) {
        self.steps.push(Step { key, expect: Expect::Version(version), change: Change::Nothing });
    }
}

/// One object of a transaction.
#[derive(Debug)]
pub(crate) struct Step {
    key: Key,
    expect: Expect,
    change: Change,
}

/// What must hold for a step, else the whole transaction is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expect {
    Absent,
    Version(u64),
}

#[derive(Debug)]
enum Change {
    Put(Value),
    Delete(Option<Value>),
    Nothing,
}

/// Why a transaction was not done.
#[derive(thiserror::Error, Clone, Debug)]
pub(crate) enum CommitError {
    /// This step (its position) expected something else.
    #[error("step {0} of the transaction expected another version of its object")]
    Conflict(usize),
    /// The disk refused. Nothing was changed, and reads go on.
    #[error(
        "the state file {path} cannot be written: make room on its file system (reading goes on)"
    )]
    Disk {
        /// The file.
        path: PathBuf,
        /// What redb said.
        #[source]
        source: Arc<redb::Error>,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a state directory cannot be used.
#[derive(thiserror::Error, Debug)]
pub enum StoreError {
    /// The directory cannot be made or the file not be opened.
    #[error("cannot open the state file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error(
        "the state file {path} is in use by another portolan: stop that one, or choose another --state directory"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by a release with another format.
    #[error(
        "the state file {path} has format {found}, this portolan reads format {supported}: use the portolan that wrote it, or another --state directory"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u64,
        /// Format of this release.
        supported: u64,
    },
    /// The file exists and is not a state file, or is damaged.
    #[error(
        "cannot read the state file {path}: restore it from a copy, or choose another --state directory"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What redb said.
        #[source]
        source: Box<redb::Error>,
    },
    /// An object in the file is not JSON.
    #[error("object {key} in the state file {path} is not JSON")]
    Object {
        /// The file.
        path: PathBuf,
        /// Key of the object.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// The open store. Dropping it waits until what was queued is on disk.
pub(crate) struct Store {
    memory: Arc<RwLock<Memory>>,
    queue: Option<mpsc::Sender<writer::Job>>,
    writer: Option<JoinHandle<()>>,
}

impl Store {
    /// Opens or creates `state.redb` in a directory, which is created when missing.
    pub(crate) fn open(directory: &Path, specs: Vec<Arc<Spec>>) -> Result<Self, StoreError> {
        let (file, loaded) = file::File::open(directory, &specs)?;
        let memory = Arc::new(RwLock::new(Memory::new(specs, loaded)));
        let (queue, jobs) = mpsc::channel();
        let writer = writer::Writer::new(file, memory.clone());
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&jobs))
            .map_err(|source| StoreError::Open { path: directory.to_owned(), source })?;
        Ok(Self { memory, queue: Some(queue), writer: Some(writer) })
    }

    /// Adds a resource, with the objects of its name that the file holds, or gives a known one
    /// another form. The answer is its number, which stays.
    pub(crate) fn define(&self, spec: Spec) -> usize {
        self.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner).define(spec.into())
    }

    /// Names of the resources whose objects the file holds and nobody has defined.
    pub(crate) fn unclaimed(&self) -> Vec<String> {
        self.read().unclaimed()
    }

    /// What a resource is like now.
    pub(crate) fn spec(&self, resource: usize) -> Arc<Spec> {
        self.read().spec(resource)
    }

    /// Does a transaction. When this returns Ok the writes survive a crash and every watch has
    /// been told. The records are those of the steps, in their order; a deleted object's record
    /// has the version of its deletion.
    pub(crate) async fn commit(
        &self,
        transaction: Transaction,
    ) -> Result<Vec<Arc<Record>>, CommitError> {
        let (reply, answer) = oneshot::channel();
        let job = writer::Job { steps: transaction.steps, reply };
        let queue = self.queue.as_ref().ok_or(CommitError::Closed)?;
        queue.send(job).map_err(|_closed| CommitError::Closed)?;
        answer.await.map_err(|_closed| CommitError::Closed)?
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.read().get(key)
    }

    /// The newest version.
    pub(crate) fn version(&self) -> u64 {
        self.read().version()
    }

    /// The objects of a resource whose path starts with a prefix, as they are now.
    pub(crate) fn list(&self, resource: usize, prefix: &str) -> Listing {
        self.read().list(resource, prefix)
    }

    /// A part of the objects as they were at a version.
    pub(crate) fn page(&self, resource: usize, page: &Page<'_>) -> Result<Listing, Expired> {
        self.read().page(resource, page)
    }

    /// Up to `limit` events of a resource after a version, and the version up to which this
    /// answer is complete.
    pub(crate) fn events_after(
        &self,
        resource: usize,
        version: u64,
        limit: usize,
    ) -> Result<(Vec<Arc<Event>>, u64), Expired> {
        self.read().events_after(resource, version, limit)
    }

    /// Tells when the resource has changed: the value is the version of its last event.
    pub(crate) fn subscribe(&self, resource: usize) -> watch::Receiver<u64> {
        self.read().subscribe(resource)
    }

    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has already said so; there is nothing left to wait for.
            drop(writer.join());
        }
    }
}

#[cfg(test)]
mod tests;
