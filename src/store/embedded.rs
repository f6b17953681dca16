//! The embedded store: one redb file, one fsync for each batch, consistent after a crash at any instant.
//!
//! Layout (schema 1): one table for each kind of object. Keys are ids; the key of an instance is the id of its service, a
//! zero byte and its own id, so that the instances of a service are adjacent. Values are postcard rows, except for
//! instances, which are stored in their packed form from memory. A file with another schema, a damaged file and a file
//! that another process has open are rejected and not modified.
//!
//! # After an error
//!
//! redb refuses every write after one that failed until the file is opened again, and it cannot say whether the failed
//! commit is durable: the error may come from the last fsync or from the cleanup after it. Every commit therefore writes
//! its number (`META_COMMITS`). After an error, and before the callers get an answer, the file is opened again and its
//! commit number is read:
//!
//! - The previous number: nothing of the batch is in the file, and redb has made that state the durable one. The batch is
//!   refused.
//! - The number of the batch: all of it is durable. It is accepted, as if the error had come a moment later. Undoing it
//!   instead would need space on a disk that may be full, and a crash before the undo would expose a refused batch.
//! - The file cannot be opened: the batch is refused, and the previous values of its rows are kept in memory. The next
//!   commit opens the file again, and if it finds the batch there, it first writes those previous values back.
//!
//! One gap remains: if the process ends while its file cannot be opened, it does not learn the outcome of its last batch.
//! That batch was refused, but may be there, as a whole, after the next start. Two-phase commits would have the same gap,
//! because of their second fsync, and would double the cost of every commit.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::{Database, DatabaseError, ReadOnlyDatabase, ReadableDatabase, ReadableTable};

use crate::model::{Instance, ServiceId};
use crate::registry::{Change, Group, Store, StoreError, Verdict};

use tables::{
    INSTANCES, META, META_COMMITS, META_SCHEMA, META_SEQUENCE, NAMESPACES, OPERATIONS, REPORTS, REVISIONS,
    Row, SERVICES, WriteError,
};

mod tables;

const FILE_NAME: &str = "cloudmap.redb";
const SCHEMA: u64 = 1;
/// Limit of redb's page cache, in bytes; the registry keeps all objects in memory of its own.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A store in one redb file, for a single server. The database is `None` after an error, until the file can be opened
/// again. `commits` is the number of the last commit that counts, which was accepted or undid a refused batch. `unresolved`
/// has the previous values of the rows of a batch that was refused but may be in the file nonetheless.
pub struct EmbeddedStore {
    path: PathBuf,
    database: Option<Database>,
    commits: u64,
    unresolved: Option<Vec<Row>>,
}

impl EmbeddedStore {
    /// Opens the store in a directory, and creates the directory and the file if they do not exist. Fails if the file has
    /// another schema, is damaged, or is in use by another process.
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
        let database = database.map_err(|error| open_error(&path, error))?;
        if is_new {
            create_tables(&database, &path)?;
            // A new file is durable only after an fsync of its directory, which contains the name.
            let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|error| failed(&path, "cannot make the file durable", error))?;
        }
        check_schema(&database, &path)?;
        let commits = number_of(&database, META_COMMITS)
            .map_err(|error| failed(&path, "cannot read the number of its last commit", error))?
            // The version that wrote this file did not count its commits.
            .unwrap_or(0);
        Ok(EmbeddedStore { path, database: Some(database), commits, unresolved: None })
    }

    /// Takes the open file, which the caller puts back if no error occurred. After an error the file is opened again
    /// here, and a refused batch that is found in it is undone.
    fn take_database(&mut self) -> Result<Database, StoreError> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        let (database, found) = open_again(&self.path)?;
        match &self.unresolved {
            _ if found == self.commits => {}
            Some(before) if found == self.commits + 1 => {
                let undone = unwound(|| tables::undo(&database, self.commits + 2, before));
                if let Err(error) = undone {
                    close(database);
                    return Err(failed(&self.path, "cannot undo a batch that was refused", error));
                }
                self.commits += 2;
            }
            // An earlier attempt has undone the batch already, in a commit that also ended with an error.
            Some(_) if found == self.commits + 2 => self.commits = found,
            _ => {
                close(database);
                return Err(changed(&self.path, found, self.commits));
            }
        }
        self.unresolved = None;
        tracing::info!(path = %self.path.display(), "the store was opened again after an error");
        Ok(database)
    }

    /// Finds out whether a commit that ended with an error is durable, and returns true if it is. `before` has the
    /// previous values of its rows, in case the file cannot be opened now.
    fn recover(&mut self, failed: Database, before: Vec<Row>) -> bool {
        close(failed);
        match open_again(&self.path) {
            Ok((database, found)) if found == self.commits || found == self.commits + 1 => {
                let is_durable = found != self.commits;
                self.commits = found;
                self.database = Some(database);
                is_durable
            }
            Ok((database, _)) => {
                // The next commit reports the wrong number as an error.
                close(database);
                self.unresolved = Some(before);
                false
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again; the next write tries again");
                self.unresolved = Some(before);
                false
            }
        }
    }
}

impl Store for EmbeddedStore {
    fn load(&mut self, sink: &mut dyn FnMut(Change)) -> Result<(), StoreError> {
        let database = self.take_database()?;
        let read = guarded(|| read_all(&database, sink));
        self.database = Some(database);
        match read.ok_or_else(|| damaged(&self.path, "it cannot be read"))? {
            Ok(()) => Ok(()),
            Err(ReadError::Row { table, key }) => {
                Err(damaged(&self.path, &format!("the row {key} of the table {table} cannot be read")))
            }
            Err(ReadError::Redb(error)) => Err(failed(&self.path, "cannot be read", error)),
        }
    }

    fn commit(&mut self, batch: &[Group]) -> Result<Vec<Verdict>, StoreError> {
        let database = self.take_database()?;
        let number = self.commits + 1;
        let mut before = Vec::new();
        match unwound(|| tables::write(&database, number, batch, &mut before)) {
            Ok(()) => {
                self.commits = number;
                self.database = Some(database);
            }
            Err(error) if self.recover(database, before) => {
                tracing::warn!(%error, "the store had an error after the changes were durable, and was opened again");
            }
            Err(error) => return Err(failed(&self.path, "cannot be written", error)),
        }
        Ok(vec![Verdict::Accepted; batch.len()])
    }
}

fn create_tables(database: &Database, path: &Path) -> Result<(), StoreError> {
    let create = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert(META_SCHEMA, SCHEMA)?;
        transaction.open_table(NAMESPACES)?;
        transaction.open_table(SERVICES)?;
        transaction.open_table(REVISIONS)?;
        transaction.open_table(INSTANCES)?;
        transaction.open_table(OPERATIONS)?;
        transaction.open_table(REPORTS)?;
        transaction.commit()?;
        Ok(())
    };
    create().map_err(|error| failed(path, "cannot make the tables", error))
}

fn check_schema(database: &Database, path: &Path) -> Result<(), StoreError> {
    let schema = number_of(database, META_SCHEMA)
        .map_err(|error| failed(path, "cannot read the schema's version", error))?;
    match schema {
        Some(SCHEMA) => Ok(()),
        // A process that ended after it created the file and before it created the tables has stored nothing yet.
        None if is_empty(database, path)? => create_tables(database, path),
        schema => Err(wrong_schema(path, schema)),
    }
}

fn is_empty(database: &Database, path: &Path) -> Result<bool, StoreError> {
    let count = || -> Result<usize, redb::Error> { Ok(database.begin_read()?.list_tables()?.count()) };
    Ok(count().map_err(|error| failed(path, "cannot list the tables", error))? == 0)
}

fn open_again(path: &Path) -> Result<(Database, u64), StoreError> {
    // After a failed fsync, the page cache may contain pages that are not on the disk and never will be, so reading them
    // proves nothing. Pages that can still be written are written, and the others are dropped from the cache.
    let forgotten = fs::File::open(path).and_then(|file| {
        file.sync_all()?;
        Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    });
    forgotten.map_err(|error| failed(path, "cannot be opened again after an error", error))?;
    let open = || {
        // redb checks every page of a file that was not closed, and makes the newest consistent state the durable one. A
        // missing file is not created again, because that would be an empty store.
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(path);
        let database = database.map_err(|error| open_error(path, error))?;
        let found = number_of(&database, META_COMMITS);
        let found = found.map_err(|error| failed(path, "cannot be read after an error", error))?;
        Ok((database, found.unwrap_or(0)))
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(damaged(path, "it cannot be read")))
}

/// Drops a database that had an error, and catches a panic of its destructor. redb writes nothing more to a file after an
/// I/O error.
fn close(database: Database) {
    if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
        tracing::warn!("closing the store after an error failed");
    }
}

/// Runs a write and turns a panic into an error: redb may panic if the file was modified by somebody else. Other threads
/// are running, so the panic hook is left alone and prints the message.
fn unwound(write: impl FnOnce() -> Result<(), WriteError>) -> Result<(), WriteError> {
    catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(WriteError::Panicked))
}

fn read_all(database: &Database, sink: &mut dyn FnMut(Change)) -> Result<(), ReadError> {
    let transaction = database.begin_read().map_err(redb::Error::from)?;
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
        let (owner, _) = tables::key_parts(key.value()).ok_or_else(bad)?;
        // All instances of a service share one allocation of its id.
        let id = match service.take().filter(|service| service.as_str() == owner) {
            Some(id) => id,
            None => ServiceId::from(owner),
        };
        let instance = Instance::from_bytes(value.value()).ok_or_else(bad)?;
        sink(Change::PutInstance(id.clone(), instance));
        service = Some(id);
    }
    for row in transaction.open_table(OPERATIONS).map_err(redb::Error::from)?.iter()? {
        let (key, value) = row?;
        let bad = |_| ReadError::row("operations", &key.value().to_string());
        sink(Change::PutOperation(Arc::new(postcard::from_bytes(value.value()).map_err(bad)?)));
    }
    match transaction.open_table(REPORTS) {
        Ok(reports) => {
            for row in reports.iter()? {
                let (key, value) = row?;
                let bad = || ReadError::row("reports", &String::from_utf8_lossy(key.value()));
                let (service, id) = tables::key_parts(key.value()).ok_or_else(bad)?;
                let signals = tables::read_pod_signals(value.value()).ok_or_else(bad)?;
                sink(Change::PutPodSignals(ServiceId::from(service), id.into(), Arc::new(signals)));
            }
        }
        Err(redb::TableError::TableDoesNotExist(_)) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(sequence) = transaction.open_table(META).map_err(redb::Error::from)?.get(META_SEQUENCE)? {
        sink(Change::PutSequence(sequence.value()));
    }
    Ok(())
}

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

/// Runs a read of a file that may be damaged in a way that redb does not expect, and returns `None` if it panics, so that
/// the user sees an error message and no backtrace. Panics of other threads are printed as usual.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    /// Two concurrent calls could restore each other's hook and leave the silent one installed.
    static HOOK: Mutex<()> = Mutex::new(());
    let _alone = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let (hook, this) = (Arc::new(std::panic::take_hook()), thread::current().id());
    let others = hook.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if thread::current().id() != this {
            others(panic);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(read));
    std::panic::set_hook(Box::new(move |panic| hook(panic)));
    result.ok()
}

/// Rejects a store with another schema before it is opened for writing, which would modify the file. A file that was not
/// closed properly cannot be read yet; its schema is checked after it is opened.
fn check_untouched(path: &Path) -> Result<(), StoreError> {
    let Ok(database) = ReadOnlyDatabase::open(path) else { return Ok(()) };
    match number_of(&database, META_SCHEMA) {
        Ok(Some(schema)) if schema != SCHEMA => Err(wrong_schema(path, Some(schema))),
        _ => Ok(()),
    }
}

fn number_of(database: &impl ReadableDatabase, key: &str) -> Result<Option<u64>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(META) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(table.get(key)?.map(|number| number.value()))
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

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
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

fn failed(path: &Path, what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(format!("the store {}: {what}", path.display()), error)
}

fn changed(path: &Path, found: u64, expected: u64) -> StoreError {
    StoreError {
        what: format!(
            "the store {} was changed by something else while it could not be written: its last commit is number \
             {found}, not {expected}; restart cloudmap-dns to use the file as it is now",
            path.display()
        ),
        source: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn scratch(name: &str) -> (Scratch, EmbeddedStore) {
        let directory = std::env::temp_dir().join(format!("cloudmap-dns-{name}-{}", std::process::id()));
        let store = EmbeddedStore::open(&directory).unwrap();
        (Scratch(directory), store)
    }

    fn revisions(numbers: &[(&str, u64)]) -> Vec<Group> {
        numbers.iter().map(|(id, number)| vec![Change::PutRevision(ServiceId::from(*id), *number)]).collect()
    }

    fn loaded(store: &mut EmbeddedStore) -> Vec<String> {
        let mut changes = Vec::new();
        store.load(&mut |change| changes.push(format!("{change:?}"))).unwrap();
        changes
    }

    /// Makes a batch durable without updating the store, like a commit whose error comes after the fsync.
    fn write(store: &EmbeddedStore, batch: &[Group]) -> Vec<Row> {
        let mut before = Vec::new();
        tables::write(store.database.as_ref().unwrap(), store.commits + 1, batch, &mut before).unwrap();
        before
    }

    #[test]
    fn batch_that_was_durable_before_the_error_is_accepted() {
        let (_scratch, mut store) = scratch("durable");
        store.commit(&revisions(&[("srv-1", 1)])).unwrap();
        let before = write(&store, &revisions(&[("srv-1", 2)]));
        let failed = store.database.take().unwrap();
        assert!(store.recover(failed, before));
        store.commit(&revisions(&[("srv-2", 3)])).unwrap();
        assert_eq!(loaded(&mut store).len(), 2);
        assert_eq!(store.commits, 3);
    }

    #[test]
    fn refused_batch_is_undone_when_it_is_found_later() {
        let (scratch, mut store) = scratch("refused");
        let first = [
            revisions(&[("srv-1", 1), ("srv-2", 2)]),
            vec![vec![
                Change::PutSequence(7),
                Change::PutInstance(
                    ServiceId::from("srv-1"),
                    Instance::new("i-1", None, &Default::default(), None, 1).unwrap(),
                ),
            ]],
        ]
        .concat();
        store.commit(&first).unwrap();
        let acknowledged = loaded(&mut store);

        let mut batch = revisions(&[("srv-1", 8), ("srv-1", 9), ("srv-3", 9)]);
        batch.push(vec![
            Change::DeleteService(ServiceId::from("srv-2")),
            Change::DeleteInstance(ServiceId::from("srv-1"), "i-1".into()),
            Change::DeleteInstance(ServiceId::from("srv-1"), "i-2".into()),
            Change::PutSequence(9),
        ]);
        let before = write(&store, &batch);
        let path = store.path.clone();
        let away = scratch.0.join("away");
        let failed = store.database.take().unwrap();
        fs::rename(&path, &away).unwrap();
        assert!(!store.recover(failed, before));
        // Commits are refused while the file is missing, and no empty file is created.
        for _ in 0..2 {
            let error = store.commit(&first).unwrap_err();
            assert!(error.what.contains("cannot be opened again"), "{error}");
            assert!(!path.exists());
        }
        fs::rename(&away, &path).unwrap();
        assert_eq!(loaded(&mut store), acknowledged);
        store.commit(&revisions(&[("srv-4", 10)])).unwrap();
        drop(store);
        let mut store = EmbeddedStore::open(&scratch.0).unwrap();
        assert_eq!(loaded(&mut store).len(), acknowledged.len() + 1);
        assert_eq!(store.commits, 4);
    }

    #[test]
    fn undo_is_not_repeated_when_its_own_commit_ended_with_an_error() {
        let (_scratch, mut store) = scratch("twice");
        store.commit(&revisions(&[("srv-1", 1)])).unwrap();
        let acknowledged = loaded(&mut store);
        let before = write(&store, &revisions(&[("srv-1", 2)]));
        let database = store.database.take().unwrap();
        tables::undo(&database, store.commits + 2, &before).unwrap();
        drop(database);
        store.unresolved = Some(before);
        assert_eq!(loaded(&mut store), acknowledged);
        assert_eq!(store.commits, 3);
    }

    #[test]
    fn file_changed_by_another_process_is_refused() {
        let (scratch, mut store) = scratch("changed");
        store.commit(&revisions(&[("srv-1", 1)])).unwrap();
        drop(store.database.take());
        let mut other = EmbeddedStore::open(&scratch.0).unwrap();
        other.commit(&revisions(&[("srv-1", 2)])).unwrap();
        assert!(store.commit(&revisions(&[("srv-1", 3)])).unwrap_err().what.contains("in use by another"));
        drop(other);
        assert!(store.commit(&revisions(&[("srv-1", 3)])).unwrap_err().what.contains("changed by something"));
    }
}
