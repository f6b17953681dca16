//! The embedded store: one redb file, one fsync for a batch, intact after a crash at any instant.
//!
//! Layout (schema 1): a table for each kind of object. Keys are ids; an instance's key is its service's id,
//! a zero octet and its own id, so that a service's instances lie together. Values are postcard rows, and instances as they are packed in memory.
//! A file of another schema, a damaged file or one that another process holds is refused and left as it is.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable, TableDefinition};

use crate::model::{Instance, ServiceId};
use crate::registry::{Change, Group, Store, StoreError, Verdict};

/// The file in the data directory.
const FILE_NAME: &str = "cloudmap.redb";
/// The layout of tables and rows that this version reads and writes.
const SCHEMA: u64 = 1;
/// Memory that the file's pages may take.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const NAMESPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("namespaces");
const SERVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("services");
const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");
const INSTANCES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("instances");
const OPERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("operations");

/// The key of [`META`] that holds [`SCHEMA`].
const META_SCHEMA: &str = "schema";
/// The key of [`META`] that holds the last number given.
const META_SEQUENCE: &str = "sequence";

/// A file that keeps the registry.
pub struct EmbeddedStore {
    database: Database,
    path: PathBuf,
}

impl EmbeddedStore {
    /// Opens the store in a directory, and makes directory and file when they are not there.
    pub fn open(directory: &Path) -> Result<EmbeddedStore, StoreError> {
        fs::create_dir_all(directory).map_err(|error| {
            StoreError::new(format!("cannot make the data directory {}", directory.display()), error)
        })?;
        let path = directory.join(FILE_NAME);
        let is_new = !path.exists();
        let opened = guarded(|| EmbeddedStore::open_file(directory, path.clone(), is_new));
        opened.ok_or_else(|| damaged(&path, "it cannot be read"))?
    }

    fn open_file(directory: &Path, path: PathBuf, is_new: bool) -> Result<EmbeddedStore, StoreError> {
        if !is_new {
            check_untouched(&path)?;
        }
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        let database = database.map_err(|error| refusal(&path, error))?;
        let store = EmbeddedStore { database, path };
        if is_new {
            store.create_tables()?;
            // The file's name is durable only when its directory is.
            let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|error| store.failed("cannot make the file durable", error))?;
        }
        store.check_schema()?;
        Ok(store)
    }

    fn create_tables(&self) -> Result<(), StoreError> {
        let create = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(META)?.insert(META_SCHEMA, SCHEMA)?;
            transaction.open_table(NAMESPACES)?;
            transaction.open_table(SERVICES)?;
            transaction.open_table(REVISIONS)?;
            transaction.open_table(INSTANCES)?;
            transaction.open_table(OPERATIONS)?;
            transaction.commit()?;
            Ok(())
        };
        create().map_err(|error| self.failed("cannot make the tables", error))
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        match schema_of(&self.database)
            .map_err(|error| self.failed("cannot read the schema's version", error))?
        {
            Some(SCHEMA) => Ok(()),
            // The process ended between making the file and its tables: nothing was ever stored.
            None if self.is_empty()? => self.create_tables(),
            schema => Err(wrong_schema(&self.path, schema)),
        }
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        let count =
            || -> Result<usize, redb::Error> { Ok(self.database.begin_read()?.list_tables()?.count()) };
        Ok(count().map_err(|error| self.failed("cannot list the tables", error))? == 0)
    }

    fn failed(&self, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::new(format!("the store {}: {what}", self.path.display()), error)
    }

    fn read_all(&self, sink: &mut dyn FnMut(Change)) -> Result<(), ReadError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        for row in transaction.open_table(NAMESPACES).map_err(redb::Error::from)?.iter()? {
            let (key, value) = row?;
            let namespace =
                postcard::from_bytes(value.value()).map_err(|_| ReadError::row("namespaces", key.value()))?;
            sink(Change::PutNamespace(Arc::new(namespace)));
        }
        for row in transaction.open_table(SERVICES).map_err(redb::Error::from)?.iter()? {
            let (key, value) = row?;
            let service =
                postcard::from_bytes(value.value()).map_err(|_| ReadError::row("services", key.value()))?;
            sink(Change::PutService(Arc::new(service)));
        }
        for row in transaction.open_table(REVISIONS).map_err(redb::Error::from)?.iter()? {
            let (key, value) = row?;
            sink(Change::PutRevision(ServiceId::from(key.value()), value.value()));
        }
        let mut service: Option<ServiceId> = None;
        for row in transaction.open_table(INSTANCES).map_err(redb::Error::from)?.iter()? {
            let (key, value) = row?;
            let bad = || ReadError::row("instances", &String::from_utf8_lossy(key.value()));
            let owner = key.value().split(|octet| *octet == 0).next().unwrap_or_default();
            let owner = std::str::from_utf8(owner).map_err(|_| bad())?;
            // One id for all the instances of a service.
            let id = match service.take().filter(|service| service.as_str() == owner) {
                Some(id) => id,
                None => ServiceId::from(owner),
            };
            let instance = Instance::from_octets(value.value()).ok_or_else(bad)?;
            sink(Change::PutInstance(id.clone(), instance));
            service = Some(id);
        }
        for row in transaction.open_table(OPERATIONS).map_err(redb::Error::from)?.iter()? {
            let (key, value) = row?;
            let bad = |_| ReadError::row("operations", &key.value().to_string());
            sink(Change::PutOperation(Arc::new(postcard::from_bytes(value.value()).map_err(bad)?)));
        }
        if let Some(sequence) = transaction.open_table(META).map_err(redb::Error::from)?.get(META_SEQUENCE)? {
            sink(Change::PutSequence(sequence.value()));
        }
        Ok(())
    }

    fn write_all(&self, batch: &[Group]) -> Result<(), WriteError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        {
            let mut meta = transaction.open_table(META).map_err(redb::Error::from)?;
            let mut namespaces = transaction.open_table(NAMESPACES).map_err(redb::Error::from)?;
            let mut services = transaction.open_table(SERVICES).map_err(redb::Error::from)?;
            let mut revisions = transaction.open_table(REVISIONS).map_err(redb::Error::from)?;
            let mut instances = transaction.open_table(INSTANCES).map_err(redb::Error::from)?;
            let mut operations = transaction.open_table(OPERATIONS).map_err(redb::Error::from)?;
            let mut sequence = None;
            let mut row = Vec::new();
            for change in batch.iter().flatten() {
                row.clear();
                match change {
                    Change::PutNamespace(namespace) => {
                        row = postcard::to_extend(&**namespace, row)?;
                        namespaces.insert(namespace.id.as_str(), &row[..])?;
                    }
                    Change::DeleteNamespace(id) => drop(namespaces.remove(id.as_str())?),
                    Change::PutService(service) => {
                        row = postcard::to_extend(&**service, row)?;
                        services.insert(service.id.as_str(), &row[..])?;
                    }
                    Change::DeleteService(id) => {
                        services.remove(id.as_str())?;
                        revisions.remove(id.as_str())?;
                    }
                    Change::PutInstance(service, instance) => {
                        instances.insert(&instance_key(service, instance.id())[..], instance.as_octets())?;
                    }
                    Change::DeleteInstance(service, id) => {
                        instances.remove(&instance_key(service, id)[..])?;
                    }
                    Change::PutRevision(service, revision) => {
                        revisions.insert(service.as_str(), revision)?;
                    }
                    Change::PutOperation(operation) => {
                        row = postcard::to_extend(&**operation, row)?;
                        operations.insert(operation.number, &row[..])?;
                    }
                    Change::DropOperation(number) => drop(operations.remove(number)?),
                    Change::PutSequence(number) => sequence = sequence.max(Some(*number)),
                }
            }
            if let Some(sequence) = sequence {
                meta.insert(META_SEQUENCE, sequence)?;
            }
        }
        transaction.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}

impl Store for EmbeddedStore {
    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        let read = guarded(|| self.read_all(sink));
        match read.ok_or_else(|| damaged(&self.path, "it cannot be read"))? {
            Ok(()) => Ok(()),
            Err(ReadError::Row { table, key }) => {
                Err(damaged(&self.path, &format!("the row {key} of the table {table} cannot be read")))
            }
            Err(ReadError::Redb(error)) => Err(self.failed("cannot be read", error)),
        }
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        match self.write_all(batch) {
            Ok(()) => Ok(vec![Verdict::Accepted; batch.len()]),
            Err(error) => Err(self.failed("cannot be written", error)),
        }
    }
}

/// Why rows could not be read.
enum ReadError {
    Row { table: &'static str, key: String },
    Redb(redb::Error),
}

impl ReadError {
    fn row(table: &'static str, key: &str) -> ReadError {
        ReadError::Row { table, key: key.replace('\0', "/") }
    }
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> ReadError {
        ReadError::Redb(error.into())
    }
}

/// Why a batch could not be written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Redb(#[from] redb::Error),
    #[error(transparent)]
    Storage(#[from] redb::StorageError),
    #[error(transparent)]
    Row(#[from] postcard::Error),
}

/// Runs what may panic on a file that is damaged in a way that the library did not expect: that ends in a message of
/// ours, not in a backtrace. Only at the start, when no other thread can panic at the same time.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(read));
    std::panic::set_hook(hook);
    result.ok()
}

fn instance_key(service: &ServiceId, instance: &str) -> Vec<u8> {
    [service.as_str().as_bytes(), &[0], instance.as_bytes()].concat()
}

/// Refuses a store of another schema before it is opened for writing, which changes the file. A file that was not
/// closed can't be read yet; its schema is checked when it is open.
fn check_untouched(path: &Path) -> Result<(), StoreError> {
    let Ok(database) = ReadOnlyDatabase::open(path) else { return Ok(()) };
    match schema_of(&database) {
        Ok(Some(schema)) if schema != SCHEMA => Err(wrong_schema(path, Some(schema))),
        _ => Ok(()),
    }
}

fn schema_of(database: &impl ReadableDatabase) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table.get(META_SCHEMA)?.map(|schema| schema.value()))
}

fn wrong_schema(path: &Path, schema: Option<u64>) -> StoreError {
    match schema {
        None => damaged(path, "it has no schema version; it is not a store of cloudmap-dns"),
        Some(schema) => StoreError {
            what: format!(
                "the store {} has schema {schema}, this version of cloudmap-dns knows schema {SCHEMA}; use the version \
                 that wrote it, or choose another --data-dir (the file was not touched)",
                path.display()
            ),
            source: None,
        },
    }
}

/// Why the file could not be opened, with what to do about it.
fn refusal(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.display();
    let what = match &error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("the store {path} is in use by another process; stop it, or choose another --data-dir")
        }
        DatabaseError::UpgradeRequired(_) => {
            format!("the store {path} was written by an older file format; use the version that wrote it")
        }
        DatabaseError::Storage(redb::StorageError::Io(io))
            if io.kind() != std::io::ErrorKind::InvalidData =>
        {
            format!("the store {path} cannot be opened")
        }
        _ => format!(
            "the store {path} is damaged, or not a store of cloudmap-dns; restore it from a copy, or choose another \
             --data-dir (the file was not touched)"
        ),
    };
    StoreError::new(what, error)
}

fn damaged(path: &Path, why: &str) -> StoreError {
    StoreError {
        what: format!(
            "the store {} is damaged: {why}; restore it from a copy, or choose another --data-dir (the file was not touched)",
            path.display()
        ),
        source: None,
    }
}
