//! The redb file: the only part of the store that touches the disk.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;

use super::memory::{Loaded, Unclaimed};
use super::{Key, Record, Spec, StoreError};

/// `resource/path` -> version (8 bytes, big endian) and JSON text.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
/// Resource -> version of its last change, deletions included.
const CHANGED: TableDefinition<'_, &str, u64> = TableDefinition::new("changed");
/// [`FORMAT_KEY`] and [`VERSION_KEY`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

const FORMAT_KEY: &str = "format";
const VERSION_KEY: &str = "version";
/// Format of the file; a release that changes the meaning of the tables counts it up.
pub(super) const FORMAT: u64 = 1;

const FILE_NAME: &str = "state.redb";
/// All is read once, at the start, so redb's own cache need only hold the inner pages.
const CACHE_BYTES: usize = 4 << 20;
const VERSION_BYTES: usize = size_of::<u64>();

/// The open file.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// `None` after a failed write until it could be opened again: redb refuses to go on with a
    /// handle that has seen an I/O error.
    database: Option<Database>,
}

/// What one commit writes.
#[derive(Default)]
pub(super) struct Batch {
    /// Key and record of what is put.
    pub(super) puts: Vec<(String, Arc<Record>)>,
    /// Keys of what is deleted.
    pub(super) deletes: Vec<String>,
    /// Resource and version of its last change.
    pub(super) changed: Vec<(String, u64)>,
    /// The newest version.
    pub(super) version: u64,
}

impl File {
    /// Opens or creates the file of a state directory and reads all of it.
    pub(super) fn open(
        directory: &Path,
        specs: &[Arc<Spec>],
    ) -> Result<(Self, Loaded), StoreError> {
        let path = directory.join(FILE_NAME);
        let open_error = |source| StoreError::Open { path: path.clone(), source };
        // Secrets are in it: nobody else may look.
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(open_error)?;
        let is_new = !path.exists();
        let database = open_database(&path)?;
        if is_new {
            let handle = std::fs::File::open(directory).map_err(open_error)?;
            handle.sync_all().map_err(open_error)?;
        }
        let file = Self { path: path.clone(), database: Some(database) };
        file.check_format()?;
        let loaded = file.load(specs)?;
        Ok((file, loaded))
    }

    /// Writes a batch; when it returns the batch is durable.
    pub(super) fn commit(&mut self, batch: &Batch) -> Result<(), redb::Error> {
        let result = self.database()?.begin_write().map_err(Into::into).and_then(|transaction| {
            write(&transaction, batch)?;
            Ok(transaction.commit()?)
        });
        if result.is_err() {
            self.database = None;
        }
        result
    }

    /// The newest version on disk.
    pub(super) fn version(&mut self) -> Result<u64, redb::Error> {
        let transaction = self.database()?.begin_read()?;
        let meta = transaction.open_table(META)?;
        Ok(meta.get(VERSION_KEY)?.map_or(0, |version| version.value()))
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        if self.database.is_none() {
            self.database = Some(database(&self.path)?);
        }
        self.database.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let found = self.read_or_init_format().map_err(|source| self.read_error(source))?;
        if found == FORMAT {
            return Ok(());
        }
        Err(StoreError::Format { path: self.path.clone(), found, supported: FORMAT })
    }

    fn read_or_init_format(&self) -> Result<u64, redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let transaction = database.begin_write()?;
        let found = {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|format| format.value());
            if found.is_none() {
                meta.insert(FORMAT_KEY, FORMAT)?;
            }
            found
        };
        if let Some(found) = found {
            transaction.abort()?;
            return Ok(found);
        }
        transaction.open_table(OBJECTS)?;
        transaction.open_table(CHANGED)?;
        transaction.commit()?;
        Ok(FORMAT)
    }

    fn load(&self, specs: &[Arc<Spec>]) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded {
            version: 0,
            changed: vec![0; specs.len()],
            objects: Vec::new(),
            unclaimed: BTreeMap::new(),
        };
        for (key, value) in self.read_all(specs, &mut loaded).map_err(|e| self.read_error(e))? {
            let (version, object) = parse(&value).map_err(|source| StoreError::Object {
                path: self.path.clone(),
                key: key.clone(),
                source,
            })?;
            let Some((resource, path)) = key.split_once('/') else { continue };
            match specs.iter().position(|spec| spec.name == resource) {
                Some(resource) => {
                    let record = Record::loaded(&specs[resource], object, version);
                    loaded.objects.push((Key { resource, path: path.into() }, record));
                }
                None => {
                    let found = loaded.unclaimed.entry(resource.to_owned()).or_default();
                    found.objects.push((path.into(), version, object));
                }
            }
        }
        Ok(loaded)
    }

    fn read_all(
        &self,
        specs: &[Arc<Spec>],
        loaded: &mut Loaded,
    ) -> Result<Vec<(String, Vec<u8>)>, redb::Error> {
        let database = self.database.as_ref().ok_or(redb::Error::DatabaseClosed)?;
        let transaction = database.begin_read()?;
        let meta = transaction.open_table(META)?;
        loaded.version = meta.get(VERSION_KEY)?.map_or(0, |version| version.value());
        let changed = transaction.open_table(CHANGED)?;
        for entry in changed.iter()? {
            let (name, version) = entry?;
            let (name, version) = (name.value(), version.value());
            match specs.iter().position(|spec| spec.name == name) {
                Some(resource) => loaded.changed[resource] = version,
                None => {
                    let unclaimed = Unclaimed { changed: version, objects: Vec::new() };
                    loaded.unclaimed.insert(name.to_owned(), unclaimed);
                }
            }
        }
        let mut objects = Vec::new();
        for entry in transaction.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            objects.push((key.value().to_owned(), value.value().to_owned()));
        }
        Ok(objects)
    }

    fn read_error(&self, source: redb::Error) -> StoreError {
        StoreError::Read { path: self.path.clone(), source: Box::new(source) }
    }
}

/// The key on disk.
pub(super) fn disk_key(spec: &Spec, key: &Key) -> String {
    format!("{}/{}", spec.name, key.path)
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    database(path).map_err(|source| match source {
        redb::Error::DatabaseAlreadyOpen => StoreError::InUse { path: path.to_owned() },
        redb::Error::UpgradeRequired(found) => {
            StoreError::Format { path: path.to_owned(), found: found.into(), supported: FORMAT }
        }
        redb::Error::Io(source) if source.kind() != std::io::ErrorKind::InvalidData => {
            StoreError::Open { path: path.to_owned(), source }
        }
        source => StoreError::Read { path: path.to_owned(), source: Box::new(source) },
    })
}

fn database(path: &Path) -> Result<Database, redb::Error> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let backend = FileBackend::new(file)?;
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend)?)
}

fn write(transaction: &redb::WriteTransaction, batch: &Batch) -> Result<(), redb::Error> {
    let mut objects = transaction.open_table(OBJECTS)?;
    let mut value = Vec::new();
    for (key, record) in &batch.puts {
        value.clear();
        value.extend_from_slice(&record.version.to_be_bytes());
        value.extend_from_slice(&record.json);
        objects.insert(&**key, &*value)?;
    }
    for key in &batch.deletes {
        objects.remove(&**key)?;
    }
    let mut changed = transaction.open_table(CHANGED)?;
    for (resource, version) in &batch.changed {
        changed.insert(&**resource, version)?;
    }
    transaction.open_table(META)?.insert(VERSION_KEY, batch.version)?;
    Ok(())
}

/// Version and object.
fn parse(value: &[u8]) -> Result<(u64, Value), serde_json::Error> {
    let (version, json) = value.split_at(VERSION_BYTES.min(value.len()));
    let version = version.try_into().map_or(0, u64::from_be_bytes);
    Ok((version, serde_json::from_slice(json)?))
}

/// Changes the format number of a closed state, as another release would have written it.
#[cfg(test)]
pub(super) fn set_format(directory: &Path, format: u64) {
    let database = database(&directory.join(FILE_NAME)).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(FORMAT_KEY, format).unwrap();
    transaction.commit().unwrap();
}
