//! The embedded store: one redb file, one fsync for a batch, intact after a crash at any instant.
//!
//! Layout (schema 1): a table for each kind of object. Keys are ids; an instance's key is its service's id,
//! a zero octet and its own id, so that a service's instances lie together. Values are postcard rows, and instances as they are packed in memory.
//! A file of another schema, a damaged file or one that another process holds is refused and left as it is.
//!
//! # After an error
//!
//! redb refuses every write after one that failed, until the file is opened again, and it cannot tell whether the
//! failed commit is durable: the error may have come from the last fsync, or from the tidying after it. Every commit
//! therefore writes its number (`META_COMMITS`), and after an error, before the callers are answered, the file is
//! opened again and asked:
//!
//! - The number before: nothing of the batch is in the file, and redb has made that state the durable one. The batch
//!   is refused.
//! - The batch's own number: all of it is durable. It is accepted, as if the error had come a moment later. Taking it
//!   back instead would need space on a disk that may be full, and a crash before that would show a refused batch.
//! - The file cannot be opened: the batch is refused, and the rows as they were before it are kept. The next commit
//!   tries again, and if the batch is found then, those rows are written back before anything else.
//!
//! What remains: a process that ends while its file cannot be opened does not learn what became of its last batch.
//! That batch was refused, and may be there after the start, as a whole. Two-phase commits would have this gap
//! too, for their second fsync, and every commit would cost twice as much.

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

/// The file in the data directory.
const FILE_NAME: &str = "cloudmap.redb";
/// The layout of tables and rows that this version reads and writes.
const SCHEMA: u64 = 1;
/// Memory that the file's pages may take.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A file that keeps the registry.
pub struct EmbeddedStore {
    path: PathBuf,
    /// None after an error, until the file could be opened again.
    database: Option<Database>,
    /// The number of the last commit that counts: an accepted one, or one that took a refused batch back.
    commits: u64,
    /// The rows as they were before a batch that was refused and may be in the file nonetheless.
    unresolved: Option<Vec<Row>>,
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
        let database = database.map_err(|error| open_error(&path, error))?;
        if is_new {
            create_tables(&database, &path)?;
            // The file's name is durable only when its directory is.
            let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(|error| failed(&path, "cannot make the file durable", error))?;
        }
        check_schema(&database, &path)?;
        let commits = number_of(&database, META_COMMITS)
            .map_err(|error| failed(&path, "cannot read the number of its last commit", error))?
            // Written by a version that did not count.
            .unwrap_or(0);
        Ok(EmbeddedStore { path, database: Some(database), commits, unresolved: None })
    }

    /// The open file, which the caller puts back when it is still good. After an error it is opened again here, and
    /// what was refused is taken back.
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
                    return Err(failed(&self.path, "cannot take back what was refused", error));
                }
                self.commits += 2;
            }
            // It was taken back already, by a commit that had an error too.
            Some(_) if found == self.commits + 2 => self.commits = found,
            _ => {
                close(database);
                return Err(changed(&self.path, found, self.commits));
            }
        }
        self.unresolved = None;
        tracing::info!(path = %self.path.display(), "the store is open again");
        Ok(database)
    }

    /// Learns whether the commit that ended with an error is durable. `before` are the rows that it replaced.
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
                // The next commit says what is wrong.
                close(database);
                self.unresolved = Some(before);
                false
            }
            Err(error) => {
                tracing::error!(%error, "the store cannot be opened again; the next change tries it once more");
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
                tracing::warn!(%error, "the store had an error after the changes were durable, and is open again");
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
        // The process ended between making the file and its tables: nothing was ever stored.
        None if is_empty(database, path)? => create_tables(database, path),
        schema => Err(wrong_schema(path, schema)),
    }
}

fn is_empty(database: &Database, path: &Path) -> Result<bool, StoreError> {
    let count = || -> Result<usize, redb::Error> { Ok(database.begin_read()?.list_tables()?.count()) };
    Ok(count().map_err(|error| failed(path, "cannot list the tables", error))? == 0)
}

/// Opens a file that was open before, with the number of its last commit.
fn open_again(path: &Path) -> Result<(Database, u64), StoreError> {
    // After an fsync that failed, the kernel's cache may hold pages that are not on the disk and never will be: what
    // is read from them proves nothing. What is still to be written goes to the disk, and the rest is forgotten.
    let forgotten = fs::File::open(path).and_then(|file| {
        file.sync_all()?;
        Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    });
    forgotten.map_err(|error| failed(path, "cannot be opened again after an error", error))?;
    let open = || {
        // redb checks every page of a file that was not closed, and makes the newest whole state the durable one. A file
        // that is gone is not made again: that would be an empty store.
        let database = Database::builder().set_cache_size(CACHE_BYTES).open(path);
        let database = database.map_err(|error| open_error(path, error))?;
        let found = number_of(&database, META_COMMITS);
        let found = found.map_err(|error| failed(path, "cannot be read after an error", error))?;
        Ok((database, found.unwrap_or(0)))
    };
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(damaged(path, "it cannot be read")))
}

/// Lets go of a file that had an error; redb writes nothing more to it after one of the disk.
fn close(database: Database) {
    if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
        tracing::warn!("closing the store after an error failed");
    }
}

/// Runs a write that may panic on a file that changed under it. Other threads are running: the panic's own message is
/// left to the hook.
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
    match transaction.open_table(REPORTS) {
        Ok(reports) => {
            for row in reports.iter()? {
                let (key, value) = row?;
                let bad = || ReadError::row("reports", &String::from_utf8_lossy(key.value()));
                let (service, id) = tables::key_parts(key.value()).ok_or_else(bad)?;
                let report = postcard::from_bytes(value.value()).map_err(|_| bad())?;
                sink(Change::PutReport(ServiceId::from(service), id.into(), Arc::new(report)));
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

/// Runs what may panic on a file that is damaged in a way that the library did not expect: that ends in a message of
/// ours, not in a backtrace. What other threads panic with is told as ever.
fn guarded<T>(read: impl FnOnce() -> T) -> Option<T> {
    /// Two at a time could leave the silent hook behind.
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

/// Refuses a store of another schema before it is opened for writing, which changes the file. A file that was not
/// closed can't be read yet; its schema is checked when it is open.
fn check_untouched(path: &Path) -> Result<(), StoreError> {
    let Ok(database) = ReadOnlyDatabase::open(path) else { return Ok(()) };
    match number_of(&database, META_SCHEMA) {
        Ok(Some(schema)) if schema != SCHEMA => Err(wrong_schema(path, Some(schema))),
        _ => Ok(()),
    }
}

/// A number of [`META`]; none when it, or the table, is not there.
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

/// Why the file could not be opened, with what to do about it.
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
             {found}, not {expected}; start cloudmap-dns again to go on with the file as it is",
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

    /// Makes a batch durable, as a commit does whose error comes afterwards.
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
    fn refused_batch_is_taken_back_when_it_is_found_later() {
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
        // Refused clearly for as long as the file cannot be opened, and no empty one is made.
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
    fn taking_back_is_done_once_when_its_own_commit_seemed_to_fail() {
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
    fn file_that_something_else_changed_is_refused() {
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
