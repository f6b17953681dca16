//! What DNS reads: the registry and the zone files, compiled.
//!
//! Two levels. The [`Directory`] of zones and names changes rarely; a new version is published as a whole.
//! Each service in it points to its own leaf, which is swapped by itself: a health flip or a registration
//! costs O(that service). Readers take no lock and never wait: [`Snapshot::view`] is a few atomic operations for
//! a batch of queries, and each leaf is another few. A version that was replaced is kept until no reader looks at
//! it and then freed by the writer, so that a query never pays for a large release.
//!
//! # Publishing
//!
//! A version is published by a swap of a pointer (`arc_swap`): what was written to it before is released by the swap, and
//! acquired by a reader's load. A leaf goes to the cell in the newest version of its node; where that node is in no
//! published directory yet, the directory's own swap publishes both, and the change is acknowledged after it. A node
//! that was changed for another reason has a cell of its own from then on, so a reader with an older view may read an
//! older leaf. It is never older than the view: whoever takes the view after receiving a query never answers it with
//! what was replaced before the query was sent. So take the view after the receive, never before a wait.
//!
//! A zone's serial is stored, with release, after the directory and the leaves that it stands for were published;
//! whoever reads it, with acquire, and then reads a zone, has at least what the serial stands for. Transfers rest on
//! that, see [`ZoneVersion`]. The generation is released and acquired in the same way.
//!
//! # Retiring
//!
//! The writer frees, never a reader. When what was replaced may be freed, and why its reference count alone does not
//! say, is argued in `snapshot/retire.rs`. A leaf's guard must not outlive the view that it was found in. Nodes, zones
//! and the table's arrays have no guards of their own: readers borrow them from a view and count none of them, so they
//! go with the last directory that has them.
//!
//! Who calls it: the registry's writer publishes through [`Publisher`], zone files through
//! [`ZoneFiles`]; `dns` and `admin` read [`Snapshot`].

mod compile;
mod files;
mod retire;
mod serials;
mod zone_source;
mod zone_version;

use std::cell::Cell;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic};

use arc_swap::Guard;

use crate::registry::{Event, Publish, State, settings::HealthSettings};
use crate::zone::Directory;

pub use files::{FileStatus, ZoneFiles, check_directory};
pub use zone_source::instance_labels;
pub use zone_version::ZoneVersion;

use compile::Compiler;
use retire::{Section, Sections};

/// Places where open views are counted: threads beyond that share one with another.
const VIEW_PLACES: usize = 32;

#[expect(clippy::disallowed_types, reason = "what is swapped out of it is retired")]
type DirectoryCell = arc_swap::ArcSwap<Directory>;

/// The newest version of what DNS answers from.
pub struct Snapshot {
    directory: DirectoryCell,
    /// The registry's number of the newest change that is published.
    generation: AtomicU64,
    sections: Sections<VIEW_PLACES>,
}

/// The newest directory, held. While it is, nothing is freed that can be reached from it: hold it for one batch of
/// queries, never across a wait. Leaves are loaded from their cells while a view is held, and only then.
pub struct Pinned<'s> {
    directory: Guard<Arc<Directory>>,
    // Ends after the directory was let go.
    _section: Section<'s>,
}

impl Deref for Pinned<'_> {
    type Target = Arc<Directory>;

    fn deref(&self) -> &Arc<Directory> {
        &self.directory
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
        let snapshot = Arc::new(Snapshot { directory, generation, sections: Sections::new() });
        let compiler = Compiler::new(snapshot.clone(), settings);
        (snapshot, Publisher { compiler: Arc::new(Mutex::new(compiler)) })
    }

    /// The newest directory. Hold it for one batch of queries, never across a wait.
    pub fn view(&self) -> Pinned<'_> {
        let section = self.sections.open(reader_number());
        Pinned { directory: self.directory.load(), _section: section }
    }

    /// The registry's number of the newest change that is published. What is read after it is at least as new.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// A number for each thread that reads, from 0 on.
fn reader_number() -> usize {
    static NEXT: atomic::AtomicUsize = atomic::AtomicUsize::new(0);
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, atomic::Ordering::Relaxed));
        }
        number.get()
    })
}

impl Publisher {
    /// Goes on with the serials that zones had in an earlier run with this data directory, and keeps them there. Call it
    /// before the registry starts.
    pub fn keep_serials(&self, data_dir: &Path) {
        self.lock().keep_serials(data_dir);
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
        self.lock().serials_were_saved(unsaved);
    }

    /// The registry's writer and the zone files' thread take turns; readers are not concerned.
    fn lock(&self) -> MutexGuard<'_, Compiler> {
        self.compiler.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for Publisher {
    fn publish(&mut self, state: &State, events: &[Event]) {
        self.lock().registry_changed(state, events);
    }
}
