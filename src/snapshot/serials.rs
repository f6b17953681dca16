//! Serials of zones, which become later with every change and over restarts (RFC 1982).
//!
//! A zone's serial is the registry's number of the zone's last change plus an offset of the zone. The number is durable and
//! only grows. The offset grows whenever a zone file changes the zone's contents; it is stored in a small file of the data
//! directory, with a digest of the zone file's records. So after a restart a zone has its previous serial or a later one. A
//! zone without a namespace, which comes from a file alone, has exactly its previous serial if its records are unchanged.
//!
//! A change of a zone file is served at once, under the old serial. The new offset is written and synced, and then the new
//! serial is served. So a serial that a client has seen is durable, and never ahead of the contents.
//!
//! The settings for answers (TTLs, name servers, health) affect the contents of every namespace's zone. If they differ from
//! those of the last start, an offset that all namespaces have in common grows.
//!
//! A damaged file counts as missing. Serials may then go back, which is logged.
//!
//! Servers that share a store share the offsets too ([`FileSerials`]). The first server with new contents chooses the
//! offset, and the others adopt it when they have contents with that digest. A server whose contents differ from those that
//! were shared last, because it has read a newer file or still has an old one at its start, chooses a later offset. So the
//! server that changed last decides, and servers with equal files arrive at equal offsets. An offset that cannot be shared,
//! because the API server is unreachable, is served all the same, and shared later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};

use crate::zone::{Name, contents::OwnerRecords, serial::is_later};

const FILE: &str = "zone-serials";
const HEAD: &str = "cloudmap-dns zone-serials 1";
const FILE_BYTES_MAX: u64 = 64 << 20;

pub(super) type Digest = [u8; 16];

/// Serial of one zone, which is the sum of `base` and `offset`. The next offset is served as soon as it is durable.
/// `sequence` is the registry's number of the zone's last change, and `base` this number plus the offset of the settings;
/// both are 0 in a zone without a namespace.
pub(super) struct ZoneSerial {
    served: Arc<AtomicU32>,
    sequence: u64,
    base: u32,
    offset: u32,
    next_offset: Option<u32>,
    digest: Digest,
}

impl ZoneSerial {
    pub(super) fn served(&self) -> &Arc<AtomicU32> {
        &self.served
    }

    /// Advances the serial to a change of the registry. Call it after the change was published.
    pub(super) fn advance(&mut self, sequence: u64) {
        let moved = sequence.wrapping_sub(self.sequence) as u32;
        if moved != 0 {
            (self.sequence, self.base) = (sequence, self.base.wrapping_add(moved));
            self.serve();
        }
    }

    fn newest(&self) -> u32 {
        self.base.wrapping_add(self.next_offset.unwrap_or(self.offset))
    }

    pub(super) fn commit(&mut self, offset: u32) {
        if self.next_offset == Some(offset) {
            (self.offset, self.next_offset) = (offset, None);
            self.serve();
        }
    }

    fn serve(&self) {
        // A reader that acquires the serial also sees the contents that were published before.
        self.served.store(self.base.wrapping_add(self.offset), Ordering::Release);
    }
}

/// Offset of a zone's serial, as servers share it, and the digest of the zone file's records, which is 0 without a file. In
/// a zone without a namespace, the offset is the whole serial; otherwise it is added to the registry's number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are explained by the type's document")]
pub struct FileSerial {
    pub digest: u128,
    pub offset: u32,
}

impl FileSerial {
    /// Offset for all servers to use, given this server's offset and the one that was shared before.
    #[must_use]
    pub fn after(self, shared: Option<FileSerial>) -> FileSerial {
        match shared {
            Some(shared) if shared.digest == self.digest && !is_later(self.offset, shared.offset) => shared,
            Some(shared) if shared.digest != self.digest && !is_later(self.offset, shared.offset) => {
                FileSerial { offset: shared.offset.wrapping_add(1), ..self }
            }
            _ => self,
        }
    }
}

/// Offsets that several servers share, by the zones' names in lower case.
pub trait FileSerials: Send + Sync {
    /// Newest shared offsets that this server knows.
    fn current(&self) -> Arc<BTreeMap<String, FileSerial>>;

    /// Replaces the shared offset of each of these zones by [`FileSerial::after`]. This may take some seconds. After it,
    /// [`FileSerials::current`] returns the new offsets. The error is the reason why sharing is not possible now.
    fn agree(&self, wanted: &BTreeMap<String, FileSerial>) -> Result<(), String>;
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct SavedOffset {
    digest: Digest,
    offset: u32,
}

/// Offsets of all zones, and the file or the shared store in which they are kept. Zones with a next offset are `pending`,
/// and those whose offset has still to be shared are `unshared`.
#[derive(Default)]
pub(super) struct Serials {
    path: Option<PathBuf>,
    settings: SavedOffset,
    zones: HashMap<Name, SavedOffset>,
    is_unsaved: bool,
    pending: Vec<Name>,
    shared: Option<Arc<dyn FileSerials>>,
    unshared: BTreeSet<Name>,
    latest_shared: Arc<BTreeMap<String, FileSerial>>,
}

/// Offsets that have to become durable before the serials with them are served.
pub(super) struct Unsaved {
    file: Option<(PathBuf, String)>,
    shared: Option<(Arc<dyn FileSerials>, BTreeMap<String, FileSerial>)>,
    pub(super) offsets: Vec<(Name, u32)>,
}

impl Serials {
    pub(super) fn load(data_dir: &Path, settings: Digest) -> Serials {
        let path = data_dir.join(FILE);
        let mut serials = match read(&path) {
            Ok(Some(serials)) => serials,
            Ok(None) => {
                Serials { settings: SavedOffset { digest: settings, offset: 0 }, ..Serials::default() }
            }
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    %error,
                    "the serials of zones are lost and may go back; let secondaries transfer their zones again"
                );
                Serials { settings: SavedOffset { digest: settings, offset: 0 }, ..Serials::default() }
            }
        };
        if serials.settings.digest != settings {
            serials.settings =
                SavedOffset { digest: settings, offset: serials.settings.offset.wrapping_add(1) };
        }
        serials.path = Some(path);
        serials.is_unsaved = true;
        serials
    }

    pub(super) fn shared(shared: Arc<dyn FileSerials>) -> Serials {
        Serials { shared: Some(shared), ..Serials::default() }
    }

    fn newest_offset(&self, name: &Name) -> Option<SavedOffset> {
        let own = self.zones.get(name).copied();
        let shared = self.shared.as_ref().and_then(|shared| shared.current().get(&key(name)).copied());
        match (own, shared) {
            (Some(own), Some(shared)) if !is_later(shared.offset, own.offset) => Some(own),
            (_, Some(shared)) => {
                Some(SavedOffset { digest: shared.digest.to_be_bytes(), offset: shared.offset })
            }
            (own, None) => own,
        }
    }

    pub(super) fn refresh_shared(&mut self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let current = shared.current();
        let is_new = !Arc::ptr_eq(&current, &self.latest_shared);
        self.latest_shared = current;
        is_new
    }

    /// Adopts the shared offset of a zone if it belongs to the zone's current contents and is not earlier than its own. A
    /// later offset of its own is shared instead.
    pub(super) fn apply_shared(&mut self, name: &Name, zone: &mut ZoneSerial) {
        let shared = self.latest_shared.get(&key(name));
        let Some(shared) = shared.filter(|shared| shared.digest == u128::from_be_bytes(zone.digest)) else {
            return;
        };
        if is_later(zone.next_offset.unwrap_or(zone.offset), shared.offset) {
            self.unshared.insert(name.clone());
            return;
        }
        self.zones.insert(name.clone(), SavedOffset { digest: zone.digest, offset: shared.offset });
        (zone.offset, zone.next_offset) = (shared.offset, None);
        zone.serve();
    }

    pub(super) fn not_shared(&mut self, names: impl Iterator<Item = Name>) {
        self.unshared.extend(names);
    }

    pub(super) fn of_namespace(&self, apex: &Name, sequence: u64) -> ZoneSerial {
        let saved = self.newest_offset(apex).unwrap_or_default();
        let base = (sequence as u32).wrapping_add(self.settings.offset);
        let served = Arc::new(AtomicU32::new(base.wrapping_add(saved.offset)));
        ZoneSerial { served, sequence, base, offset: saved.offset, next_offset: None, digest: saved.digest }
    }

    /// Makes the serial of a zone without a namespace that is new in this process. With unchanged contents it is the
    /// previous serial, with other contents a later one, and without a previous serial that of the file's SOA record.
    pub(super) fn of_file(&mut self, origin: &Name, digest: Digest, own: Option<u32>) -> ZoneSerial {
        let offset = match self.newest_offset(origin) {
            Some(saved) if saved.digest == digest => saved.offset,
            Some(saved) => later(saved.offset, own),
            None => own.unwrap_or(1),
        };
        self.set_offset(origin, SavedOffset { digest, offset });
        let served = Arc::new(AtomicU32::new(offset));
        ZoneSerial { served, sequence: 0, base: 0, offset, next_offset: None, digest }
    }

    /// Chooses the next serial after a change of a zone file's contents: that of the file's SOA record if it is later, else
    /// the current one plus one.
    pub(super) fn changed(&mut self, origin: &Name, zone: &mut ZoneSerial, digest: Digest, own: Option<u32>) {
        if zone.digest == digest {
            return;
        }
        let offset = later(zone.newest(), own).wrapping_sub(zone.base);
        zone.digest = digest;
        zone.next_offset = Some(offset);
        self.pending.push(origin.clone());
        self.set_offset(origin, SavedOffset { digest, offset });
    }

    /// Keeps the serial of a deleted namespace's zone if a file may serve the zone now or later. As an offset it no longer
    /// depends on the registry's number.
    pub(super) fn namespace_ended(&mut self, apex: &Name, zone: &ZoneSerial, has_file: bool) {
        if has_file || self.newest_offset(apex).is_some() {
            self.set_offset(apex, SavedOffset { digest: Digest::default(), offset: zone.newest() });
        }
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) fn take_unsaved(&mut self) -> Option<Unsaved> {
        if !std::mem::take(&mut self.is_unsaved) && self.pending.is_empty() && self.unshared.is_empty() {
            return None;
        }
        let shared = self.shared.clone().map(|shared| {
            let unshared = std::mem::take(&mut self.unshared).into_iter();
            let serial = |name: Name| {
                let saved = self.zones.get(&name)?;
                Some((
                    key(&name),
                    FileSerial { digest: u128::from_be_bytes(saved.digest), offset: saved.offset },
                ))
            };
            (shared, unshared.filter_map(serial).collect())
        });
        let offset = |name: Name| self.zones.get(&name).map(|saved| (name, saved.offset));
        let offsets = std::mem::take(&mut self.pending).into_iter().filter_map(offset).collect();
        Some(Unsaved { file: self.path.clone().map(|path| (path, self.text())), shared, offsets })
    }

    fn set_offset(&mut self, name: &Name, saved: SavedOffset) {
        if self.zones.insert(name.clone(), saved) != Some(saved) {
            self.is_unsaved = true;
            if self.shared.is_some() {
                self.unshared.insert(name.clone());
            }
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![HEAD.to_string(), line("settings", ".", &self.settings)];
        let mut zones: Vec<_> = self.zones.iter().collect();
        zones.sort_by_key(|(name, _)| *name);
        lines.extend(zones.into_iter().map(|(name, saved)| line("zone", &name.to_string(), saved)));
        let text = lines.join("\n") + "\n";
        let sum = hex(&digest_of(text.as_bytes()));
        format!("{text}sum {sum}\n")
    }
}

impl Unsaved {
    /// Shares the offsets with other servers. The error has the names of the zones that could not be shared, and the reason.
    pub(super) fn share(&self) -> Result<(), (Vec<Name>, String)> {
        let Some((shared, wanted)) = self.shared.as_ref().filter(|(_, wanted)| !wanted.is_empty()) else {
            return Ok(());
        };
        let names = || wanted.keys().filter_map(|name| name.parse().ok()).collect();
        shared.agree(wanted).map_err(|why| (names(), why))
    }

    /// Writes the file atomically: after a crash either the old or the new file is there and complete.
    pub(super) fn save(&self) -> io::Result<()> {
        let Some((path, text)) = &self.file else { return Ok(()) };
        let directory = path.parent().unwrap_or(Path::new("."));
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    }
}

pub(super) fn contents_digest<'a>(contents: impl Iterator<Item = OwnerRecords<'a>>) -> Digest {
    let mut hash = Sha256::new();
    let mut is_empty = true;
    for records in contents {
        is_empty = false;
        hash.update(records.owner().as_wire().to_ascii_lowercase());
        for rrset in records.rrsets() {
            hash.update(rrset.rtype.0.to_be_bytes());
            hash.update(rrset.ttl.to_be_bytes());
            hash.update((rrset.len() as u32).to_be_bytes());
            for rdata in rrset.rdatas() {
                hash.update((rdata.len() as u32).to_be_bytes());
                hash.update(rdata);
            }
        }
        // End of the owner's records: no record has type 0.
        hash.update([0; 2]);
    }
    if is_empty { Digest::default() } else { shortened(hash) }
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(bytes);
    shortened(hash)
}

fn shortened(hash: Sha256) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// Returns the serial of the file's SOA record if it is later than the served one, else the served one plus one. So whoever
/// edits a zone file need not increment its serial.
fn later(served: u32, own: Option<u32>) -> u32 {
    own.filter(|own| is_later(*own, served)).unwrap_or(served.wrapping_add(1))
}

fn key(name: &Name) -> String {
    name.to_lower().to_string()
}

#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("its checksum is wrong")]
    Sum,
    #[error("line {0} is malformed")]
    Line(usize),
}

fn read(path: &Path) -> Result<Option<Serials>, FileError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(FileError::Io(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
        }
        Ok(_) => {}
    }
    parse(&fs::read_to_string(path)?).map(Some)
}

fn parse(text: &str) -> Result<Serials, FileError> {
    let (body, sum) = text.rfind("sum ").map(|at| text.split_at(at)).ok_or(FileError::Sum)?;
    if sum != format!("sum {}\n", hex(&digest_of(body.as_bytes()))) {
        return Err(FileError::Sum);
    }
    let mut serials = Serials::default();
    for (number, line) in body.lines().enumerate() {
        let wrong = || FileError::Line(number + 1);
        match number {
            0 if line == HEAD => {}
            0 => return Err(wrong()),
            _ => {
                let (kind, name, saved) = parse_line(line).ok_or_else(wrong)?;
                match (number, kind) {
                    (1, "settings") => serials.settings = saved,
                    (2.., "zone") => {
                        serials.zones.insert(name, saved);
                    }
                    _ => return Err(wrong()),
                }
            }
        }
    }
    Ok(serials)
}

fn line(kind: &str, name: &str, saved: &SavedOffset) -> String {
    format!("{kind} {name} {} {}", hex(&saved.digest), saved.offset)
}

fn parse_line(line: &str) -> Option<(&str, Name, SavedOffset)> {
    let mut words = line.split(' ');
    let (kind, name, digest, offset) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let name = name.parse().ok()?;
    let number = u128::from_str_radix(digest, 16).ok().filter(|_| digest.len() == 32)?;
    let saved = SavedOffset { digest: number.to_be_bytes(), offset: offset.parse().ok()? };
    words.next().is_none().then_some((kind, name, saved))
}

fn hex(digest: &Digest) -> String {
    format!("{:032x}", u128::from_be_bytes(*digest))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const SETTINGS: Digest = [1; 16];

    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Directory {
            let path =
                std::env::temp_dir().join(format!("cloudmap-dns-serials-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Directory(path)
        }

        fn load(&self) -> Serials {
            Serials::load(&self.0, SETTINGS)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn serial(zone: &ZoneSerial) -> u32 {
        zone.served.load(Ordering::Relaxed)
    }

    fn save(serials: &mut Serials, zone: &mut ZoneSerial) {
        if let Some(unsaved) = serials.take_unsaved() {
            unsaved.save().unwrap();
            unsaved.offsets.iter().for_each(|(_, offset)| zone.commit(*offset));
        }
    }

    #[test]
    fn serial_of_a_namespace_never_goes_back_after_its_zone_file_has_raised_it() {
        let directory = Directory::new("namespace");
        let apex = name("production.local");
        let mut serials = directory.load();
        let mut zone = serials.of_namespace(&apex, 10);
        for edit in 1..=5 {
            serials.changed(&apex, &mut zone, [edit; 16], None);
            assert_eq!(serial(&zone), 9 + u32::from(edit), "not before it is durable");
            save(&mut serials, &mut zone);
            assert_eq!(serial(&zone), 10 + u32::from(edit));
        }
        zone.advance(13);
        zone.advance(13);
        assert_eq!(serial(&zone), 18);

        let mut serials = directory.load();
        let mut zone = serials.of_namespace(&apex, 13);
        assert_eq!(serial(&zone), 18);
        serials.changed(&apex, &mut zone, [5; 16], None);
        assert!(zone.next_offset.is_none(), "the same contents");
        serials.changed(&apex, &mut zone, Digest::default(), None);
        save(&mut serials, &mut zone);
        assert_eq!(serial(&zone), 19);
    }

    #[test]
    fn zone_of_a_file_keeps_its_serial_over_a_restart_while_its_records_are_unchanged() {
        let directory = Directory::new("file");
        let origin = name("Static.test");
        let mut serials = directory.load();
        let mut zone = serials.of_file(&origin, [1; 16], Some(7));
        serials.changed(&origin, &mut zone, [2; 16], Some(7));
        serials.changed(&origin, &mut zone, [3; 16], Some(6));
        save(&mut serials, &mut zone);
        assert_eq!(serial(&zone), 9);
        assert_eq!(serial(&directory.load().of_file(&origin, [3; 16], Some(6))), 9);
        assert_eq!(serial(&directory.load().of_file(&origin, [4; 16], Some(6))), 10);
        assert_eq!(serial(&directory.load().of_file(&origin, [4; 16], Some(2_026_010_101))), 2_026_010_101);
        // A difference of more than 2^31 means an earlier serial (RFC 1982 §3.2).
        assert_eq!(serial(&directory.load().of_file(&origin, [4; 16], Some(3_000_000_000))), 10);
        assert_eq!(serial(&directory.load().of_file(&name("new.test"), [4; 16], None)), 1);
    }

    #[test]
    fn serial_grows_when_a_zone_changes_between_a_file_and_a_namespace() {
        let origin = name("zone.test");
        let mut serials = Serials::default();
        let mut of_file = serials.of_file(&origin, [1; 16], Some(2_026_010_101));
        let mut namespace = serials.of_namespace(&origin, 5);
        assert!(serial(&namespace) > serial(&of_file));
        serials.changed(&origin, &mut namespace, [2; 16], None);
        namespace.advance(6);
        serials.namespace_ended(&origin, &namespace, true);
        of_file = serials.of_file(&origin, [1; 16], Some(2_026_010_101));
        assert_eq!(serial(&of_file), namespace.newest() + 1);
    }

    /// Offsets that the servers of a test share; `None` while the API server is unreachable.
    #[derive(Default)]
    struct Store(Mutex<Option<Arc<BTreeMap<String, FileSerial>>>>);

    impl FileSerials for Store {
        fn current(&self) -> Arc<BTreeMap<String, FileSerial>> {
            self.0.lock().unwrap().clone().unwrap_or_default()
        }

        fn agree(&self, wanted: &BTreeMap<String, FileSerial>) -> Result<(), String> {
            let mut shared = self.0.lock().unwrap();
            let Some(shared) = &mut *shared else { return Err("away".into()) };
            let mut all = BTreeMap::clone(shared);
            for (name, serial) in wanted {
                all.insert(name.clone(), serial.after(all.get(name).copied()));
            }
            *shared = Arc::new(all);
            Ok(())
        }
    }

    /// Saves and shares the offsets as the publisher does it after each scan of the zone files. Returns the served serial.
    fn save_and_share(serials: &mut Serials, name: &Name, zone: &mut ZoneSerial) -> u32 {
        if serials.refresh_shared() {
            serials.apply_shared(name, zone);
        }
        if let Some(unsaved) = serials.take_unsaved() {
            let shared = unsaved.share();
            serials.refresh_shared();
            serials.apply_shared(name, zone);
            serials.not_shared(shared.err().into_iter().flat_map(|(names, _)| names));
            unsaved.offsets.iter().for_each(|(_, offset)| zone.commit(*offset));
        }
        serial(zone)
    }

    #[test]
    fn servers_with_equal_zone_files_arrive_at_equal_serials() {
        let store: Arc<Store> = Arc::new(Store(Mutex::new(Some(Arc::default()))));
        for (name, is_file) in [(name("zone.test"), true), (name("Namespace.test"), false)] {
            let open = |digest| {
                let mut serials = Serials::shared(store.clone());
                let mut zone = if is_file {
                    serials.of_file(&name, [digest; 16], Some(7))
                } else {
                    serials.of_namespace(&name, 100)
                };
                serials.changed(&name, &mut zone, [digest; 16], None);
                save_and_share(&mut serials, &name, &mut zone);
                (serials, zone)
            };
            let (mut one, mut of_one) = open(1);
            for edit in 2..=4 {
                one.changed(&name, &mut of_one, [edit; 16], Some(7));
                save_and_share(&mut one, &name, &mut of_one);
            }
            let edited = serial(&of_one);
            let (mut other, mut of_other) = open(4);
            assert_eq!((serial(&of_other), edited - serial(&of_one)), (edited, 0));
            // The first server with the next file chooses the offset, and the other one adopts it.
            one.changed(&name, &mut of_one, [5; 16], None);
            let next = save_and_share(&mut one, &name, &mut of_one);
            assert!(next > edited);
            assert_eq!(save_and_share(&mut other, &name, &mut of_other), edited);
            other.changed(&name, &mut of_other, [5; 16], None);
            assert_eq!(save_and_share(&mut other, &name, &mut of_other), next);
            // A server that starts with an old file first raises the offset, and once more when it gets the new file.
            let (mut late, mut of_late) = open(1);
            assert!(serial(&of_late) > next);
            late.changed(&name, &mut of_late, [5; 16], None);
            let last = save_and_share(&mut late, &name, &mut of_late);
            assert_eq!(save_and_share(&mut one, &name, &mut of_one), last);
            assert_eq!(save_and_share(&mut other, &name, &mut of_other), last);
            // While the API server is unreachable, both servers choose offsets alone. They agree afterwards.
            let away = store.0.lock().unwrap().take();
            for edit in [6, 7] {
                one.changed(&name, &mut of_one, [edit; 16], None);
                save_and_share(&mut one, &name, &mut of_one);
            }
            other.changed(&name, &mut of_other, [7; 16], None);
            save_and_share(&mut other, &name, &mut of_other);
            assert_eq!(serial(&of_one), serial(&of_other) + 1);
            *store.0.lock().unwrap() = away;
            for _ in 0..2 {
                save_and_share(&mut other, &name, &mut of_other);
                save_and_share(&mut one, &name, &mut of_one);
            }
            assert_eq!(save_and_share(&mut other, &name, &mut of_other), last + 2);
            assert_eq!(serial(&of_one), last + 2);
        }
    }

    #[test]
    fn changed_settings_raise_the_serials_of_all_namespaces_once() {
        let directory = Directory::new("settings");
        let apex = name("a.test");
        let mut serials = directory.load();
        let mut zone = serials.of_namespace(&apex, 3);
        save(&mut serials, &mut zone);
        assert_eq!(serial(&zone), 3);
        for _ in 0..2 {
            let mut serials = Serials::load(&directory.0, [2; 16]);
            let mut zone = serials.of_namespace(&apex, 3);
            save(&mut serials, &mut zone);
            assert_eq!(serial(&zone), 4);
        }
    }

    #[test]
    fn damaged_file_is_ignored_and_serials_start_again() {
        let directory = Directory::new("damaged");
        let origin = name(r"a\032b.test");
        let mut serials = directory.load();
        let mut zone = serials.of_file(&origin, [1; 16], Some(7));
        save(&mut serials, &mut zone);
        let path = directory.0.join(FILE);
        let good = fs::read(&path).unwrap();
        assert_eq!(serial(&directory.load().of_file(&origin, [2; 16], None)), 8);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            fs::write(&path, &bad).unwrap();
            assert_eq!(serial(&directory.load().of_file(&origin, [2; 16], None)), 1, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(serial(&directory.load().of_file(&origin, [2; 16], None)), 1, "cut at {at}");
        }
    }
}
