//! Zone files: a directory of master files, `<origin>.zone`, followed without a signal.
//!
//! A file is read when its content settles: two looks in a row find it, and all that it includes, the same. That
//! covers editors, copies and the symlink swaps of ConfigMap volumes. A file that is wrong keeps its last good
//! version served and stops nothing else; what is wrong is logged as file:line:column and kept as the status.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::zone::{Name, RecordType, contents::Contents, master_file};

use super::{Publisher, compile::ZoneFile};

/// How often the directory is looked at, in milliseconds. A change is served after two looks at most.
const LOOK_INTERVAL_MS: u64 = 250;
/// The largest zone file, in octets.
const FILE_OCTETS_MAX: u64 = 1 << 30;
/// What zone files are named: the origin, and this.
const SUFFIX: &str = ".zone";

/// The thread that follows the directory. Dropping it ends the thread.
pub struct ZoneFiles {
    status: Arc<Mutex<BTreeMap<PathBuf, FileStatus>>>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a zone file stands.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FileStatus {
    /// The zone, when the file's name is one.
    pub origin: Option<Name>,
    /// What is wrong with the newest version, as file:line:column; empty when all of it is served. Of a namespace's zone
    /// file only those records are not served that clash with Cloud Map's names.
    pub errors: Vec<String>,
    /// What looks wrong but is served.
    pub warnings: Vec<String>,
    /// Whether this version or one before it is served.
    pub is_served: bool,
}

/// What tells whether a file, or one that it includes, has changed.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64, PathBuf)>)>;

struct Follower {
    directory: PathBuf,
    publisher: Publisher,
    status: Arc<Mutex<BTreeMap<PathBuf, FileStatus>>>,
    files: BTreeMap<PathBuf, Known>,
    directory_error: Option<String>,
}

#[derive(Default)]
struct Known {
    includes: Vec<PathBuf>,
    seen: Fingerprint,
    read: Option<Fingerprint>,
    origin: Option<Name>,
    /// Whether the zone was a namespace's when the file was read.
    was_namespace: bool,
    /// The version of the clashes that the status names.
    clashes_version: u64,
}

impl ZoneFiles {
    /// Reads every zone file of a directory and follows it from then on. Wrong files are no error here: they are
    /// logged, and [`ZoneFiles::status`] tells.
    pub fn follow(directory: &Path, publisher: Publisher) -> io::Result<ZoneFiles> {
        let status = Arc::new(Mutex::new(BTreeMap::new()));
        let mut follower = Follower {
            directory: directory.into(),
            publisher,
            status: status.clone(),
            files: BTreeMap::new(),
            directory_error: None,
        };
        follower.look(true);
        follower.publisher.files_were_read();
        let (wake, woken) = channel();
        let thread = std::thread::Builder::new().name("zone-files".into()).spawn(move || {
            crate::priority::lower();
            follower.run(&woken);
        })?;
        Ok(ZoneFiles { status, wake: Some(wake), thread: Some(thread) })
    }

    /// Looks at the directory now.
    pub fn reload(&self) {
        if let Some(wake) = &self.wake {
            // A thread that has ended has nothing to reload.
            let _ = wake.send(());
        }
    }

    /// How every file stands, by path.
    pub fn status(&self) -> BTreeMap<PathBuf, FileStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ZoneFiles {
    fn drop(&mut self) {
        drop(self.wake.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that follows the zone files panicked");
        }
    }
}

/// All errors of the zone files of a directory, one a line, as file:line:column. Files that are good as a zone of
/// their own, or as records that are added to a namespace's zone, are good.
pub fn check_directory(directory: &Path) -> Vec<String> {
    let paths = match zone_paths(directory) {
        Ok(paths) => paths,
        Err(error) => return vec![format!("{}: cannot be read: {error}", directory.display())],
    };
    let mut errors = Vec::new();
    for path in paths {
        match read_zone(&path) {
            Err(found) => errors.extend(found.errors),
            Ok((origin, file, _)) => {
                let checked = if file.contents.has_type(RecordType::SOA) {
                    file.contents.check_whole(&origin, &file.path)
                } else {
                    file.contents.check_overlay(&origin)
                };
                errors.extend(checked.err().into_iter().flatten().map(|error| error.to_string()));
            }
        }
    }
    errors
}

impl Follower {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            match woken.recv_timeout(Duration::from_millis(LOOK_INTERVAL_MS)) {
                Ok(()) => self.look(true),
                Err(RecvTimeoutError::Timeout) => self.look(false),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.publisher.settle_serials();
        }
    }

    /// Reads what has changed; with `at_once` without waiting for it to settle.
    fn look(&mut self, at_once: bool) {
        let paths = match zone_paths(&self.directory) {
            Ok(paths) => {
                self.directory_error = None;
                paths
            }
            Err(error) => {
                // What is served stays: a directory that can't be read is no wish to remove zones.
                let text = format!("{}: cannot be read: {error}", self.directory.display());
                if self.directory_error.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                    self.directory_error = Some(text);
                }
                return;
            }
        };
        let gone: Vec<_> = self.files.keys().filter(|path| !paths.contains(*path)).cloned().collect();
        for path in gone {
            self.files.remove(&path);
            self.remove(&path);
        }
        for path in paths {
            let known = self.files.entry(path.clone()).or_default();
            let now = fingerprint(&path, &known.includes);
            let settled = at_once || known.seen == now;
            known.seen.clone_from(&now);
            let is_changed = known.read.as_ref() != Some(&now);
            let publisher = &self.publisher;
            let is_other_kind = known
                .origin
                .as_ref()
                .is_some_and(|origin| publisher.lock().is_namespace(origin) != known.was_namespace);
            if settled && (is_changed || is_other_kind) {
                self.read(&path);
            } else if let Some(origin) = known.origin.clone() {
                let version = publisher.lock().clashes_version(&origin);
                if std::mem::replace(&mut known.clashes_version, version) != version {
                    self.clashes_changed(&path, &origin);
                }
            }
        }
    }

    fn read(&mut self, path: &Path) {
        let before = self.lock().get(path).cloned().unwrap_or_default();
        let (status, includes) = match read_zone(path) {
            Err(wrong) => {
                let status =
                    FileStatus { errors: wrong.errors, warnings: Vec::new(), origin: wrong.origin, ..before };
                (status, wrong.includes)
            }
            Ok((origin, file, includes)) => {
                let records = file.contents.record_count();
                let applied = self.publisher.lock().file_changed(&origin, Some(file));
                let texts = |errors: Vec<master_file::MasterFileError>| -> Vec<String> {
                    errors.iter().map(ToString::to_string).collect()
                };
                let status = match applied {
                    Ok(warnings) => {
                        let errors = texts(self.publisher.lock().clashes(&origin));
                        tracing::info!(zone = %origin, file = %path.display(), records, "zone file served");
                        let warnings = texts(warnings);
                        FileStatus { origin: Some(origin), errors, warnings, is_served: true }
                    }
                    Err(errors) => FileStatus {
                        origin: Some(origin),
                        errors: texts(errors),
                        warnings: Vec::new(),
                        ..before
                    },
                };
                (status, includes)
            }
        };
        let origin = status.origin.clone();
        let was_namespace = origin.as_ref().is_some_and(|origin| self.publisher.lock().is_namespace(origin));
        for error in &status.errors {
            tracing::error!(
                "{error}{}",
                if status.is_served { " (the last good version stays)" } else { "" }
            );
        }
        status.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        self.lock().insert(path.into(), status);
        let publisher = &self.publisher;
        if let Some(known) = self.files.get_mut(path) {
            known.seen = fingerprint(path, &includes);
            known.read = Some(known.seen.clone());
            known.includes = includes;
            known.origin = origin;
            known.was_namespace = was_namespace;
            known.clashes_version =
                known.origin.as_ref().map_or(0, |origin| publisher.lock().clashes_version(origin));
        }
    }

    /// Services came or went at names of a zone file: what of it is served has changed.
    fn clashes_changed(&self, path: &Path, origin: &Name) {
        let clashes = self.publisher.lock().clashes(origin);
        let errors: Vec<String> = clashes.iter().map(ToString::to_string).collect();
        let mut statuses = self.lock();
        let Some(status) = statuses.get_mut(path).filter(|status| status.is_served) else { return };
        errors
            .iter()
            .filter(|error| !status.errors.contains(error))
            .for_each(|error| tracing::error!("{error}"));
        status.errors = errors;
    }

    fn remove(&self, path: &Path) {
        let status = self.lock().remove(path);
        if let Some(origin) = status.and_then(|status| status.origin) {
            tracing::info!(zone = %origin, file = %path.display(), "zone file removed");
            // Removing can't fail: there is nothing to check.
            let _ = self.publisher.lock().file_changed(&origin, None);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, FileStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that can't be read as a zone.
struct Wrong {
    origin: Option<Name>,
    errors: Vec<String>,
    includes: Vec<PathBuf>,
}

/// Reads a zone file: its origin from its name, its records, and the files that it includes.
fn read_zone(path: &Path) -> Result<(Name, ZoneFile, Vec<PathBuf>), Wrong> {
    let mut includes = Vec::new();
    let wrong = |origin, error: String| Wrong { origin, errors: vec![error], includes: Vec::new() };
    let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SUFFIX));
    let origin = stem.unwrap_or_default().parse::<Name>().map_err(|error| {
        let text = format!(
            "{}:1:1: the file's name without {SUFFIX} is the zone's name, and {error}",
            path.display()
        );
        wrong(None, text)
    })?;
    let text = read_limited(path).map_err(|error| {
        wrong(Some(origin.clone()), format!("{}:1:1: cannot be read: {error}", path.display()))
    })?;
    let mut load = |path: &Path| {
        includes.push(path.to_path_buf());
        read_limited(path)
    };
    match master_file::read(path, &text, &origin, &mut load) {
        Ok(records) => {
            drop(text);
            let contents = Arc::new(Contents::new(records));
            Ok((origin, ZoneFile { path: path.into(), contents }, includes))
        }
        Err(errors) => {
            let errors = errors.iter().map(ToString::to_string).collect();
            Err(Wrong { origin: Some(origin), errors, includes })
        }
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let octets = fs::metadata(path)?.len();
    if octets > FILE_OCTETS_MAX {
        return Err(io::Error::other(format!("it has {octets} octets, the most is {FILE_OCTETS_MAX}")));
    }
    fs::read(path)
}

/// The zone files of a directory, hidden ones left out.
fn zone_paths(directory: &Path) -> io::Result<HashSet<PathBuf>> {
    let mut paths = HashSet::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(SUFFIX) && !name.starts_with('.') && path.is_file() {
            paths.insert(path);
        }
    }
    Ok(paths)
}

fn fingerprint(path: &Path, includes: &[PathBuf]) -> Fingerprint {
    let print = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), fs::canonicalize(path).ok()?))
    };
    std::iter::once(path)
        .chain(includes.iter().map(PathBuf::as_path))
        .map(|path| (path.into(), print(path)))
        .collect()
}
