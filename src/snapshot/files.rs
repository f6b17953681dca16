//! Zone files: a directory of master files, `<origin>.zone`, which is scanned for changes.
//!
//! A changed file is read when two scans in a row find it, and all files that it includes, unchanged. This works with
//! editors, copies and the symlink swaps of ConfigMap volumes. If a file is invalid, its last good version remains served,
//! and other files are not affected; its errors are logged as file:line:column and kept as its status.

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

/// Interval between scans of the directory, in milliseconds. A change is served after two scans at most.
const SCAN_INTERVAL_MS: u64 = 250;
const FILE_BYTES_MAX: u64 = 1 << 30;
const SUFFIX: &str = ".zone";

/// The thread that watches the directory. Dropping this value ends the thread.
pub struct ZoneFiles {
    status: Arc<Mutex<BTreeMap<PathBuf, FileStatus>>>,
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Status of one zone file. Errors and warnings are those of its newest version, as file:line:column.
///
/// There are no errors if all of the file is served. In a namespace's zone file, an error can also concern single records
/// that are not served because they conflict with Cloud Map's names. `is_served` is true if this version of the file or an
/// earlier one is served, and `origin` is the zone if the file's name is a valid one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct FileStatus {
    pub origin: Option<Name>,
    pub errors: Vec<String>,
    pub warnings: Vec<String>,
    pub is_served: bool,
}

/// Time of modification, size and real path of a file and of each file that it includes, to detect changes.
type Fingerprint = Vec<(PathBuf, Option<(SystemTime, u64, PathBuf)>)>;

struct DirectoryWatch {
    directory: PathBuf,
    publisher: Publisher,
    status: Arc<Mutex<BTreeMap<PathBuf, FileStatus>>>,
    files: BTreeMap<PathBuf, KnownFile>,
    directory_error: Option<String>,
}

#[derive(Default)]
struct KnownFile {
    includes: Vec<PathBuf>,
    seen: Fingerprint,
    read: Option<Fingerprint>,
    origin: Option<Name>,
    was_namespace: bool,
    conflicts_version: u64,
}

impl ZoneFiles {
    /// Reads every zone file of a directory and then watches it for changes. An invalid file is not an error here: its
    /// errors are logged and contained in [`ZoneFiles::status`].
    pub fn follow(directory: &Path, publisher: Publisher) -> io::Result<ZoneFiles> {
        let status = Arc::new(Mutex::new(BTreeMap::new()));
        let mut watch = DirectoryWatch {
            directory: directory.into(),
            publisher,
            status: status.clone(),
            files: BTreeMap::new(),
            directory_error: None,
        };
        watch.scan(true);
        watch.publisher.files_were_read();
        let (wake, woken) = channel();
        let thread = std::thread::Builder::new().name("zone-files".into()).spawn(move || {
            crate::priority::lower();
            watch.run(&woken);
        })?;
        Ok(ZoneFiles { status, wake: Some(wake), thread: Some(thread) })
    }

    /// Makes the thread scan the directory and read changed files now, without waiting for the next interval.
    pub fn reload(&self) {
        if let Some(wake) = &self.wake {
            // Sending fails only if the thread has ended, and then there is nothing to reload.
            let _ = wake.send(());
        }
    }

    /// Returns the status of every zone file by its path.
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

/// Checks all zone files of a directory and returns their errors as file:line:column. A file has to be valid either as a
/// zone of its own, if it has an SOA record, or as an addition to a namespace's zone.
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

impl DirectoryWatch {
    fn run(mut self, woken: &Receiver<()>) {
        loop {
            match woken.recv_timeout(Duration::from_millis(SCAN_INTERVAL_MS)) {
                Ok(()) => self.scan(true),
                Err(RecvTimeoutError::Timeout) => self.scan(false),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.publisher.save_serials();
        }
    }

    /// Reads the changed files that two scans in a row found unchanged since; with `at_once`, all changed files.
    fn scan(&mut self, at_once: bool) {
        let paths = match zone_paths(&self.directory) {
            Ok(paths) => {
                self.directory_error = None;
                paths
            }
            Err(error) => {
                // Keep serving the zones: that the directory is unreadable does not mean that they were removed.
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
            let is_stable = at_once || known.seen == now;
            known.seen.clone_from(&now);
            let is_changed = known.read.as_ref() != Some(&now);
            let publisher = &self.publisher;
            let is_other_kind = known
                .origin
                .as_ref()
                .is_some_and(|origin| publisher.lock().is_namespace(origin) != known.was_namespace);
            if is_stable && (is_changed || is_other_kind) {
                self.read(&path);
            } else if let Some(origin) = known.origin.clone() {
                let version = publisher.lock().conflicts_version(&origin);
                if std::mem::replace(&mut known.conflicts_version, version) != version {
                    self.update_conflicts(&path, &origin);
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
                        let errors = texts(self.publisher.lock().file_conflicts(&origin));
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
                if status.is_served { " (the last good version remains served)" } else { "" }
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
            known.conflicts_version =
                known.origin.as_ref().map_or(0, |origin| publisher.lock().conflicts_version(origin));
        }
    }

    fn update_conflicts(&self, path: &Path, origin: &Name) {
        let conflicts = self.publisher.lock().file_conflicts(origin);
        let errors: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
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
            let _ = self.publisher.lock().file_changed(&origin, None);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, FileStatus>> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct InvalidFile {
    origin: Option<Name>,
    errors: Vec<String>,
    includes: Vec<PathBuf>,
}

/// Reads a zone file. Returns its origin, which is its name, its contents, and the files that it includes.
fn read_zone(path: &Path) -> Result<(Name, ZoneFile, Vec<PathBuf>), InvalidFile> {
    let mut includes = Vec::new();
    let wrong = |origin, error: String| InvalidFile { origin, errors: vec![error], includes: Vec::new() };
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
            Err(InvalidFile { origin: Some(origin), errors, includes })
        }
    }
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has {bytes} bytes, the most is {FILE_BYTES_MAX}")));
    }
    fs::read(path)
}

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
