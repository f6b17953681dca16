//! The tables of the file, and write transactions that return the previous values of the rows that they replace.

use serde::Deserialize;

use redb::{Database, Key, StorageError, Table, TableDefinition, WriteTransaction};

use crate::model::{CustomHealthStatus, EpochMs, NamespaceId, PodSignals, Report, ServiceId, Signals, Uid};
use crate::registry::{Change, Group};

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const NAMESPACES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("namespaces");
pub(super) const SERVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("services");
pub(super) const REVISIONS: TableDefinition<'_, &str, u64> = TableDefinition::new("revisions");
pub(super) const INSTANCES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("instances");
pub(super) const OPERATIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("operations");
/// Signals about the instances of pods, as JSON. Files of version 0.1.0 do not have this table, and earlier builds after it
/// wrote rows of another form, [`ReportRow`].
pub(super) const REPORTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("reports");

pub(super) const META_SCHEMA: &str = "schema";
pub(super) const META_SEQUENCE: &str = "sequence";
/// Every commit writes its number, so that the file shows which one it holds.
pub(super) const META_COMMITS: &str = "commits";

/// A row with its new or previous value, where `None` means that the row does not exist. Instances and reports have an
/// [`instance_key`].
#[derive(Clone, Debug)]
pub(super) enum Row {
    Namespace(NamespaceId, Option<Vec<u8>>),
    Service(ServiceId, Option<Vec<u8>>),
    Revision(ServiceId, Option<u64>),
    Instance(Vec<u8>, Option<Vec<u8>>),
    Operation(u64, Option<Vec<u8>>),
    Report(Vec<u8>, Option<Vec<u8>>),
    Sequence(Option<u64>),
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Redb(redb::Error),
    #[error(transparent)]
    Row(#[from] postcard::Error),
    #[error(transparent)]
    JsonRow(#[from] serde_json::Error),
    #[error("the file is damaged in a way that was not expected")]
    Panicked,
}

macro_rules! from_redb {
    ($($error:ty),*) => {$(
        impl From<$error> for WriteError {
            fn from(error: $error) -> WriteError {
                WriteError::Redb(error.into())
            }
        }
    )*};
}

from_redb!(redb::TransactionError, redb::TableError, StorageError, redb::CommitError);

/// Writes a batch as commit `number`, and appends the previous values of its rows to `before` in the order of the writes.
pub(super) fn write(
    database: &Database,
    number: u64,
    batch: &[Group],
    before: &mut Vec<Row>,
) -> Result<(), WriteError> {
    commit(database, number, |tables| {
        let mut sequence = None;
        for change in batch.iter().flatten() {
            match change {
                Change::PutSequence(number) => sequence = sequence.max(Some(*number)),
                // Deleting a service also deletes its revision.
                Change::DeleteService(id) => before.push(tables.set(Row::Revision(id.clone(), None))?),
                _ => {}
            }
            if let Some(row) = row_of(change)? {
                before.push(tables.set(row)?);
            }
        }
        if sequence.is_some() {
            before.push(tables.set(Row::Sequence(sequence))?);
        }
        Ok(())
    })
}

pub(super) fn undo(database: &Database, number: u64, before: &[Row]) -> Result<(), WriteError> {
    commit(database, number, |tables| {
        // A row that was replaced twice ends with its oldest value.
        for row in before.iter().rev() {
            tables.set(row.clone())?;
        }
        Ok(())
    })
}

pub(super) fn instance_key(service: &ServiceId, instance: &str) -> Vec<u8> {
    [service.as_str().as_bytes(), &[0], instance.as_bytes()].concat()
}

pub(super) fn key_parts(key: &[u8]) -> Option<(&str, &str)> {
    let at = key.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&key[..at]).ok()?, std::str::from_utf8(&key[at + 1..]).ok()?))
}

/// Row of the table of reports in the form that it had when reports of clients were the only signals.
#[derive(Deserialize)]
struct ReportRow {
    pod: String,
    pod_uid: Uid,
    status: CustomHealthStatus,
    reporter: String,
    reported_ms: EpochMs,
}

pub(super) fn read_pod_signals(row: &[u8]) -> Option<PodSignals> {
    if let Ok(signals) = serde_json::from_slice(row) {
        return Some(signals);
    }
    let ReportRow { pod, pod_uid, status, reporter, reported_ms } = postcard::from_bytes(row).ok()?;
    let report = Report { status, reporter, reported_ms };
    Some(PodSignals { pod, pod_uid, signals: Signals { report: Some(report), ..Signals::default() } })
}

struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    namespaces: Table<'t, &'static str, &'static [u8]>,
    services: Table<'t, &'static str, &'static [u8]>,
    revisions: Table<'t, &'static str, u64>,
    instances: Table<'t, &'static [u8], &'static [u8]>,
    operations: Table<'t, u64, &'static [u8]>,
    reports: Table<'t, &'static [u8], &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, redb::TableError> {
        Ok(Tables {
            meta: transaction.open_table(META)?,
            namespaces: transaction.open_table(NAMESPACES)?,
            services: transaction.open_table(SERVICES)?,
            revisions: transaction.open_table(REVISIONS)?,
            instances: transaction.open_table(INSTANCES)?,
            operations: transaction.open_table(OPERATIONS)?,
            reports: transaction.open_table(REPORTS)?,
        })
    }

    /// Writes the new value of a row, or removes the row, and returns the row with its previous value.
    fn set(&mut self, row: Row) -> Result<Row, StorageError> {
        Ok(match row {
            Row::Namespace(id, value) => {
                let before = replace_bytes(&mut self.namespaces, id.as_str(), value.as_deref())?;
                Row::Namespace(id, before)
            }
            Row::Service(id, value) => {
                let before = replace_bytes(&mut self.services, id.as_str(), value.as_deref())?;
                Row::Service(id, before)
            }
            Row::Revision(id, value) => {
                let before = replace_number(&mut self.revisions, id.as_str(), value)?;
                Row::Revision(id, before)
            }
            Row::Instance(key, value) => {
                let before = replace_bytes(&mut self.instances, &key[..], value.as_deref())?;
                Row::Instance(key, before)
            }
            Row::Operation(key, value) => {
                Row::Operation(key, replace_bytes(&mut self.operations, key, value.as_deref())?)
            }
            Row::Report(key, value) => {
                let before = replace_bytes(&mut self.reports, &key[..], value.as_deref())?;
                Row::Report(key, before)
            }
            Row::Sequence(value) => Row::Sequence(replace_number(&mut self.meta, META_SEQUENCE, value)?),
        })
    }
}

fn commit(
    database: &Database,
    number: u64,
    change: impl FnOnce(&mut Tables<'_>) -> Result<(), WriteError>,
) -> Result<(), WriteError> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        change(&mut tables)?;
        tables.meta.insert(META_COMMITS, number)?;
    }
    Ok(transaction.commit()?)
}

/// Returns the row that a change writes; `None` for a change that is not stored, or only once for a whole batch.
fn row_of(change: &Change) -> Result<Option<Row>, WriteError> {
    Ok(Some(match change {
        Change::PutNamespace(namespace) => {
            Row::Namespace(namespace.id.clone(), Some(postcard::to_stdvec(&**namespace)?))
        }
        Change::DeleteNamespace(id) => Row::Namespace(id.clone(), None),
        Change::PutService(service) => {
            Row::Service(service.id.clone(), Some(postcard::to_stdvec(&**service)?))
        }
        Change::DeleteService(id) => Row::Service(id.clone(), None),
        Change::PutInstance(service, instance) => {
            Row::Instance(instance_key(service, instance.id()), Some(instance.as_bytes().to_vec()))
        }
        Change::DeleteInstance(service, id) => Row::Instance(instance_key(service, id), None),
        Change::PutRevision(service, revision) => Row::Revision(service.clone(), Some(*revision)),
        Change::PutOperation(operation) => {
            Row::Operation(operation.number, Some(postcard::to_stdvec(&**operation)?))
        }
        Change::DropOperation(key) => Row::Operation(key.number, None),
        Change::PutPodSignals(service, id, signals) => {
            Row::Report(instance_key(service, id), Some(serde_json::to_vec(&**signals)?))
        }
        Change::DropPodSignals(service, id) => Row::Report(instance_key(service, id), None),
        // The highest sequence number is written once for the batch. Instances of pods and shadowed resources are not
        // stored.
        Change::PutSequence(_)
        | Change::PutSerial(..)
        | Change::PutNumbering(_)
        | Change::ForgetInstance(..)
        | Change::ForgetNamespace(_)
        | Change::ForgetService(_) => return Ok(None),
    }))
}

fn replace_bytes<K: Key + 'static>(
    table: &mut Table<'_, K, &'static [u8]>,
    key: K::SelfType<'_>,
    value: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, StorageError> {
    let before = match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    Ok(before.map(|before| before.value().to_vec()))
}

fn replace_number<K: Key + 'static>(
    table: &mut Table<'_, K, u64>,
    key: K::SelfType<'_>,
    value: Option<u64>,
) -> Result<Option<u64>, StorageError> {
    let before = match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    Ok(before.map(|before| before.value()))
}
