//! The snapshot that DNS reads: the registry and the zone files in compiled form.
//!
//! It has two levels. The [`Directory`] of zones and names changes rarely, and a new version of it is published as a whole.
//! Each service in it points to its own leaf, which is replaced alone, so the cost of a health flip or a registration is
//! proportional to the size of that service. Readers take no lock and never wait: [`Snapshot::view`] is a few atomic
//! operations for a batch of queries, and a leaf is found by plain loads. A replaced version is kept until no reader uses it
//! and then freed by the writer, so that a query never pays for a large release.
//!
//! # Publishing
//!
//! A version is published by a swap of a pointer (`arc_swap`): the swap releases all earlier writes to the version, and a
//! reader's load acquires them. A leaf is published by a number in the newest version of its node (see
//! `zone/directory/log.rs`). If that node is not in a published directory yet, the directory's swap publishes both, and the
//! change is acknowledged after it. A node that was changed for another reason has a number of its own from then on, so a
//! reader with an older view may read an older leaf. The leaf is never older than the view: if the view is taken after a
//! query was received, the answer never contains data that was replaced before the query was sent. So take the view after
//! the receive, and never before a wait.
//!
//! A zone's serial is stored, with release, after the directory and the leaves of its contents were published. A reader that
//! loads it, with acquire, and then reads the zone, gets these contents or newer ones. A whole zone is read between two
//! changes (see `snapshot/sequence_lock.rs`), so that a serial identifies one content. The generation is released and
//! acquired in the same way.
//!
//! # Retiring
//!
//! The writer frees replaced versions, never a query: it keeps each one until its own reference is the only one. All other
//! data, leaves included, is borrowed from a version and freed with the last version that contains it.
//!
//! `arc_swap` reads the pointer in the cell, records it as a debt, and reads the cell again. The version at that address may
//! be freed between the two reads. The reader dereferences the address only if the cell contains it again, or if a swap
//! that took this address out of the cell has paid the debt. In both cases a version is there that is newer than the first
//! read, and its reference is counted. This requires that the directory's cell is the only one of the process: the swap of
//! any cell may pay a debt, and the reader would take the contents of another cell for a directory.
//! `tests/publish_model.rs` shows both cases.
//!
//! The registry's writer publishes through [`Publisher`], and the thread of the zone files through [`ZoneFiles`]; `dns` and
//! `admin` read [`Snapshot`].

mod compile;
mod files;
mod leaf_source;
mod sequence_lock;
mod serials;
mod zone_source;
mod zone_version;

use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::Guard;

use crate::registry::{Event, HealthSettings, Publish, State};
use crate::zone::Directory;

pub use files::{FileStatus, ZoneFiles, check_directory};
pub use serials::{FileSerial, FileSerials};
pub use zone_version::ZoneVersion;

use compile::Compiler;
use sequence_lock::SequenceLock;

#[expect(clippy::disallowed_types, reason = "it is the only one of the process")]
type DirectoryCell = arc_swap::ArcSwap<Directory>;

/// The newest version of the data that DNS answers from.
pub struct Snapshot {
    directory: DirectoryCell,
    generation: AtomicU64,
    sequence_lock: SequenceLock,
}

/// A reference to the newest directory that keeps all of its data in memory. Hold it for one batch of queries, and never
/// across a wait.
pub struct Pinned(Guard<Arc<Directory>>);

impl Deref for Pinned {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.0
    }
}

/// Settings for the compilation of the registry into DNS data. Services can override the health policies, and namespaces the
/// TTL of negative answers. The addresses are those of `ns.dns.<zone>`, the name server of every Cloud Map zone.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct Settings {
    pub health: HealthSettings,
    pub negative_ttl_seconds: u32,
    pub name_server_addresses: Vec<IpAddr>,
}

/// Writing side of a snapshot, for the registry's writer and the thread of the zone files. Clones write to one snapshot.
#[derive(Clone)]
pub struct Publisher {
    compiler: Arc<Mutex<Compiler>>,
}

impl Snapshot {
    /// Makes an empty snapshot and its writing side.
    pub fn new(settings: Settings) -> (Arc<Snapshot>, Publisher) {
        let directory = DirectoryCell::from_pointee(Directory::default());
        let generation = AtomicU64::new(0);
        let sequence_lock = SequenceLock::default();
        let snapshot = Arc::new(Snapshot { directory, generation, sequence_lock });
        let compiler = Compiler::new(snapshot.clone(), settings);
        (snapshot, Publisher { compiler: Arc::new(Mutex::new(compiler)) })
    }

    /// Returns the newest directory. Hold it for one batch of queries, and never across a wait.
    pub fn view(&self) -> Pinned {
        Pinned(self.directory.load())
    }

    /// Returns the registry's number of the newest published change. Data that is read afterwards is at least as new.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Publisher {
    /// Continues the serials that zones had in an earlier run with this data directory, and stores them there. Call it
    /// before the registry starts.
    pub fn keep_serials(&self, data_dir: &Path) {
        self.lock().keep_serials(data_dir);
    }

    /// Shares with other servers the part of the serials that depends on zone files. Call it before the registry starts.
    pub fn share_serials(&self, shared: Arc<dyn FileSerials>) {
        self.lock().share_serials(shared);
    }

    /// Reports that all zone files were read, or that there are none. Zones whose file of an earlier run does not exist any
    /// more get new serials now.
    pub fn files_were_read(&self) {
        self.lock().files_were_read();
        self.save_serials();
    }

    /// Makes new offsets of serials durable, and then serves the new serials.
    fn save_serials(&self) {
        let unsaved = self.lock().unsaved_serials();
        let Some(unsaved) = unsaved else { return };
        // The lock is not held here, so that the registry's writer need not wait for the disk.
        if let Err(error) = unsaved.save() {
            tracing::warn!(%error, "serials of zones could not be stored; after a restart they may go back");
        }
        let shared = unsaved.share();
        if let Err((_, why)) = &shared {
            tracing::debug!(
                why,
                "serials of zones could not be shared with other servers now, and will be later"
            );
        }
        self.lock().serials_were_saved(unsaved, shared.err().map(|(names, _)| names));
    }

    /// Excludes the other writer: the registry's writer or the thread of the zone files. Readers do not take this lock.
    fn lock(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Publisher {
    fn prepare(&mut self, state: &State, events: &[Event]) {
        self.lock().compile(state, events);
    }

    fn publish(&mut self, state: &State, events: &[Event]) {
        self.lock().registry_changed(state, events);
    }

    fn publish_ttls(&mut self, state: &State, services: &[Event]) {
        self.lock().ttls_changed(state, services);
    }
}

#[cfg(test)]
mod tests;
