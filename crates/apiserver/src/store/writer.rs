//! The one thread that writes.
//!
//! It takes all transactions that wait, checks each against memory and against those before it
//! in the same batch, gives the changes their versions, commits all at once, publishes them to
//! memory and only then acknowledges (L5). After a failed commit it is unknown whether the file has
//! taken the batch; the batch is kept until the file could be opened again and has told (L6).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, mpsc};

use tokio::sync::oneshot;

use super::file::{Batch, File, disk_key};
use super::history::Event;
use super::memory::Memory;
use super::{Change, CommitError, Expect, Key, Record, Spec, Step};

type Answer = Result<Vec<Arc<Record>>, CommitError>;

/// A transaction and where its answer goes.
pub(super) struct Job {
    pub(super) steps: Vec<Step>,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// State of the writer thread.
pub(super) struct Writer {
    file: File,
    memory: Arc<RwLock<Memory>>,
    /// The newest version that was given, whether or not its commit succeeded.
    version: u64,
    /// A batch whose commit failed, until the file has told whether it holds it.
    unresolved: Option<Staged>,
}

/// Most transactions that share a commit.
const MOST_JOBS: usize = 256;

/// What a batch of transactions has become.
#[derive(Default)]
struct Staged {
    /// Objects as they will be; `None` is deleted.
    objects: HashMap<Key, Option<Arc<Record>>>,
    events: Vec<(usize, Arc<Event>)>,
    version: u64,
}

impl Writer {
    pub(super) fn new(file: File, memory: Arc<RwLock<Memory>>) -> Self {
        let version = memory.read().unwrap_or_else(PoisonError::into_inner).version();
        Self { file, memory, version, unresolved: None }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch = std::iter::once(first).chain(jobs.try_iter()).take(MOST_JOBS).collect();
            self.write(batch);
        }
    }

    fn write(&mut self, jobs: Vec<Job>) {
        if let Err(error) = self.resolve() {
            return refuse(jobs, &error);
        }
        let mut staged = Staged::default();
        let mut accepted = Vec::new();
        for job in jobs {
            match self.stage(job.steps, &mut staged) {
                Ok(records) => accepted.push((job.reply, records)),
                // The asker may have gone: then nobody waits for the answer.
                Err(error) => drop(job.reply.send(Err(error))),
            }
        }
        if !staged.events.is_empty() {
            staged.version = self.version;
            let result = self.file.commit(&self.batch(&staged));
            if let Err(source) = result {
                let error = self.disk_error(source);
                self.unresolved = Some(staged);
                for (reply, _) in accepted {
                    drop(reply.send(Err(error.clone())));
                }
                return;
            }
            self.publish(staged);
        }
        for (reply, records) in accepted {
            drop(reply.send(Ok(records)));
        }
    }

    /// After a failed commit: finds out what the file holds.
    fn resolve(&mut self) -> Result<(), CommitError> {
        let Some(staged) = &self.unresolved else { return Ok(()) };
        let on_disk = match self.file.version() {
            Ok(version) => version,
            Err(source) => return Err(self.disk_error(source)),
        };
        let is_on_disk = on_disk == staged.version;
        if let Some(staged) = self.unresolved.take_if(|_| is_on_disk) {
            self.publish(staged);
        }
        self.unresolved = None;
        Ok(())
    }

    /// Checks a transaction and gives it versions, on top of what is already staged.
    fn stage(
        &mut self,
        steps: Vec<Step>,
        staged: &mut Staged,
    ) -> Result<Vec<Arc<Record>>, CommitError> {
        let mut present = Vec::with_capacity(steps.len());
        for (position, step) in steps.iter().enumerate() {
            let now = self.now(&step.key, staged);
            let is_met = match step.expect {
                Expect::Absent => now.is_none(),
                Expect::Version(version) => now.as_ref().is_some_and(|now| now.version == version),
            };
            if !is_met {
                return Err(CommitError::Conflict(position));
            }
            present.push(now);
        }
        let mut records = Vec::with_capacity(steps.len());
        for (step, old) in steps.into_iter().zip(present) {
            records.extend(self.apply(step, old, staged));
        }
        Ok(records)
    }

    fn apply(
        &mut self,
        step: Step,
        old: Option<Arc<Record>>,
        staged: &mut Staged,
    ) -> Option<Arc<Record>> {
        if matches!(step.change, Change::Nothing) {
            return old;
        }
        let spec = &*self.spec(step.key.resource);
        let (record, deleted) = match (step.change, &old) {
            (Change::Nothing, _) => return old,
            (Change::Put(object), _) => {
                self.version += 1;
                (Record::new(spec, object, self.version), false)
            }
            (Change::Delete(last), Some(old)) => {
                self.version += 1;
                let last = last.unwrap_or_else(|| old.value());
                (Record::new(spec, last, self.version), true)
            }
            (Change::Delete(_), None) => return None,
        };
        let record = Arc::new(record);
        let path = step.key.path.clone();
        let event = Event::new(path, record.clone(), old, deleted);
        staged.events.push((step.key.resource, Arc::new(event)));
        staged.objects.insert(step.key, (!deleted).then(|| record.clone()));
        Some(record)
    }

    fn now(&self, key: &Key, staged: &Staged) -> Option<Arc<Record>> {
        match staged.objects.get(key) {
            Some(staged) => staged.clone(),
            None => self.memory.read().unwrap_or_else(PoisonError::into_inner).get(key),
        }
    }

    fn batch(&self, staged: &Staged) -> Batch {
        let mut batch = Batch { version: staged.version, ..Batch::default() };
        for (key, object) in &staged.objects {
            let disk_key = disk_key(&self.spec(key.resource), key);
            match object {
                Some(record) => batch.puts.push((disk_key, record.clone())),
                None => batch.deletes.push(disk_key),
            }
        }
        for (resource, event) in &staged.events {
            let name = self.spec(*resource).name.clone();
            batch.changed.push((name, event.object.version));
        }
        batch
    }

    fn spec(&self, resource: usize) -> Arc<Spec> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner).spec(resource)
    }

    fn publish(&self, staged: Staged) {
        let mut memory = self.memory.write().unwrap_or_else(PoisonError::into_inner);
        memory.publish(staged.version, staged.events);
    }

    fn disk_error(&self, source: redb::Error) -> CommitError {
        tracing::error!(path = %self.file.path.display(), error = %source, "state not written");
        CommitError::Disk { path: self.file.path.clone(), source: Arc::new(source) }
    }
}

fn refuse(jobs: Vec<Job>, error: &CommitError) {
    for job in jobs {
        drop(job.reply.send(Err(error.clone())));
    }
}
