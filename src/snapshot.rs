//! What DNS reads: the registry and the zone files, compiled.
//!
//! Two levels. The [`Directory`] of zones and names changes rarely; a new version is published as a whole.
//! Each service in it points to its own leaf, which is replaced by itself: a health flip or a registration
//! costs O(that service). Readers take no lock and never wait: [`Snapshot::view`] is a few atomic operations for
//! a batch of queries, and a leaf is found by plain loads. A version that was replaced is kept until no reader looks at
//! it and then freed by the writer, so that a query never pays for a large release.
//!
//! # Publishing
//!
//! A version is published by a swap of a pointer (`arc_swap`): what was written to it before is released by the swap, and
//! acquired by a reader's load. A leaf is published by a number in the newest version of its node (see
//! `zone/directory/log.rs`); where that node is in no published directory yet, the directory's own swap publishes both,
//! and the change is acknowledged after it. A node that was changed for another reason has a number of its own from then
//! on, so a reader with an older view may read an older leaf. It is never older than the view: whoever takes the view
//! after receiving a query never answers it with what was replaced before the query was sent. So take the view after the
//! receive, never before a wait.
//!
//! A zone's serial is stored, with release, after the directory and the leaves that it stands for were published;
//! whoever reads it, with acquire, and then reads a zone, has at least what the serial stands for. A whole zone is taken
//! between two changes, see `snapshot/moments.rs`, so that a serial stands for one content. The generation is released and
//! acquired in the same way.
//!
//! # Retiring
//!
//! The writer frees, never a query: it keeps each version that it replaced until its own is the only reference. All else,
//! leaves too, is borrowed from a version and goes with the last one that has it. A reader that is between its two reads
//! of the cell (`arc_swap` reads a pointer, notes it as a debt, and reads the cell again) may have the address of a version
//! in mind that is freed meanwhile. It looks at what is there only when the cell has that address again, or when its debt
//! was paid by a swap that took that address out of the cell; in both cases a version is there that is newer than its
//! first read, and counted. That is so because the directory's is the only such cell of the process: a debt may be paid by
//! the swap of any cell, and the reader would take what that one held for a directory. `tests/publish_model.rs` shows both.
//!
//! Who calls it: the registry's writer publishes through [`Publisher`], zone files through
//! [`ZoneFiles`]; `dns` and `admin` read [`Snapshot`].

mod compile;
mod files;
mod moments;
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
use moments::Moments;

#[expect(clippy::disallowed_types, reason = "it is the only one of the process")]
type DirectoryCell = arc_swap::ArcSwap<Directory>;

/// The newest version of what DNS answers from.
pub struct Snapshot {
    directory: DirectoryCell,
    /// The registry's number of the newest change that is published.
    generation: AtomicU64,
    moments: Moments,
}

/// The newest directory, held. While it is, nothing is freed that can be reached from it: hold it for one batch of
/// queries, never across a wait.
pub struct Pinned(Guard<Arc<Directory>>);

impl Deref for Pinned {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.0
    }
}

/// How the registry is compiled.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What services can set for themselves.
    pub health: HealthSettings,
    /// Seconds that a negative answer may be kept, where the namespace does not say.
    pub negative_ttl_seconds: u32,
    /// The addresses of `ns.dns.<zone>`, the name server of every Cloud Map zone.
    pub name_server_addresses: Vec<IpAddr>,
}

/// The writing side, for the registry's writer. Clones write to the same snapshot.
#[derive(Clone)]
pub struct Publisher {
    compiler: Arc<Mutex<Compiler>>,
}

impl Snapshot {
    /// An empty snapshot and its writing side.
    pub fn new(settings: Settings) -> (Arc<Snapshot>, Publisher) {
        let directory = DirectoryCell::from_pointee(Directory::default());
        let generation = AtomicU64::new(0);
        let snapshot = Arc::new(Snapshot { directory, generation, moments: Moments::default() });
        let compiler = Compiler::new(snapshot.clone(), settings);
        (snapshot, Publisher { compiler: Arc::new(Mutex::new(compiler)) })
    }

    /// The newest directory. Hold it for one batch of queries, never across a wait.
    pub fn view(&self) -> Pinned {
        Pinned(self.directory.load())
    }

    /// The registry's number of the newest change that is published. What is read after it is at least as new.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Publisher {
    /// Goes on with the serials that zones had in an earlier run with this data directory, and keeps them there. Call it
    /// before the registry starts.
    pub fn keep_serials(&self, data_dir: &Path) {
        self.lock().keep_serials(data_dir);
    }

    /// Shares the part of zones' serials that zone files decide with other servers. Call it before the registry starts.
    pub fn share_serials(&self, shared: Arc<dyn FileSerials>) {
        self.lock().share_serials(shared);
    }

    /// All zone files that there are were read, or there are none: what an earlier run had of others is gone, and serials
    /// move on.
    pub fn files_were_read(&self) {
        self.lock().files_were_read();
        self.settle_serials();
    }

    /// Makes offsets of serials durable, where some are not, and then serves the serials.
    fn settle_serials(&self) {
        let unsaved = self.lock().unsaved_serials();
        let Some(unsaved) = unsaved else { return };
        // The registry's writer need not wait for the disk.
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

    /// The registry's writer and the zone files' thread take turns; readers are not concerned.
    fn lock(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Publisher {
    fn prepare(&mut self, state: &State, events: &[Event]) {
        self.lock().take_in(state, events);
    }

    fn publish(&mut self, state: &State, events: &[Event]) {
        self.lock().registry_changed(state, events);
    }
}

#[cfg(test)]
mod tests;
