//! Serials of zones: later with every change, over restarts too (RFC 1982).
//!
//! A zone's serial is the registry's number of the last change in it plus an offset that is the zone's own. The number is
//! durable and only grows. The offset grows whenever a zone file changes what the zone has; it is kept in a small file of
//! the data directory, beside a digest of what the zone file had. So after a restart a zone has the serial that it had, or
//! a later one; a zone that only a file makes has exactly the one it had as long as its records are the same.
//!
//! What a zone file changed is served at once, under the serial that was; the new offset is written and synced, and then
//! the new serial is served. A serial that somebody has seen is therefore durable, and never ahead of the contents.
//!
//! What the settings say of answers (TTLs, name servers, health) is in the contents of every namespace's zone. When they
//! are others than at the last start, one offset that all namespaces have in common grows.
//!
//! A file that can't be read is as good as none: then serials may go back, which is logged.
//!
//! Servers that share a store share the offsets too ([`FileSerials`]): whoever has new contents first chooses the offset,
//! and the others take it when they have the contents with the same digest. A server with other contents than those that
//! were shared last, because it has read a newer file or has not got it yet at its start, chooses a later offset, so the
//! last one that changes decides, and servers with equal files end with equal offsets. An offset that cannot be shared,
//! because the API server is away, is served all the same, and shared later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};

use crate::zone::{Name, contents::OwnerRecords, serial::is_later};

/// The file's name in the data directory.
const FILE: &str = "zone-serials";
/// The first line: what it is, and the version of its form.
const HEAD: &str = "cloudmap-dns zone-serials 1";
/// Octets of a file that is read at all.
const FILE_OCTETS_MAX: u64 = 64 << 20;

/// What tells contents apart; of nothing it is all zeros.
pub(super) type Digest = [u8; 16];

/// The serial of one zone.
pub(super) struct ZoneSerial {
    /// What is answered.
    served: Arc<AtomicU32>,
    /// The registry's number of the last change; 0 in a zone that only a file makes.
    sequence: u64,
    /// The sequence, and the settings' offset where the zone is a namespace's.
    base: u32,
    offset: u32,
    /// The offset that is served as soon as it is durable.
    next_offset: Option<u32>,
    digest: Digest,
}

impl ZoneSerial {
    /// Where the serial is read.
    pub(super) fn served(&self) -> &Arc<AtomicU32> {
        &self.served
    }

    /// Moves on to a change of the registry. Call it when the change is published.
    pub(super) fn advance(&mut self, sequence: u64) {
        let moved = sequence.wrapping_sub(self.sequence) as u32;
        if moved != 0 {
            (self.sequence, self.base) = (sequence, self.base.wrapping_add(moved));
            self.serve();
        }
    }

    /// The serial that the zone has, or is about to have.
    fn newest(&self) -> u32 {
        self.base.wrapping_add(self.next_offset.unwrap_or(self.offset))
    }

    /// Serves a next offset that is durable now.
    pub(super) fn commit(&mut self, offset: u32) {
        if self.next_offset == Some(offset) {
            (self.offset, self.next_offset) = (offset, None);
            self.serve();
        }
    }

    fn serve(&self) {
        // Whoever sees the serial sees what was published before.
        self.served.store(self.base.wrapping_add(self.offset), Ordering::Release);
    }
}

/// The offset of a zone, as servers share it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileSerial {
    /// A digest of what the zone file has; 0 without a file.
    pub digest: u128,
    /// Number that is added to the registry's; the whole serial of a zone that only a file makes.
    pub offset: u32,
}

impl FileSerial {
    /// The offset that servers agree on, given the one that was shared before.
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

/// Offsets of zones that several servers share, by the zones' names in lower case.
pub trait FileSerials: Send + Sync {
    /// The newest that are known here.
    fn current(&self) -> Arc<BTreeMap<String, FileSerial>>;

    /// Shares [`FileSerial::after`] of each. [`FileSerials::current`] has them when this returns, which may take some seconds;
    /// the error says why it is not possible now.
    fn agree(&self, wanted: &BTreeMap<String, FileSerial>) -> Result<(), String>;
}

/// What is kept of a zone.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Kept {
    digest: Digest,
    offset: u32,
}

/// The offsets of all zones, and the file that they are kept in.
#[derive(Default)]
pub(super) struct Serials {
    path: Option<PathBuf>,
    settings: Kept,
    zones: HashMap<Name, Kept>,
    is_unsaved: bool,
    /// Zones that have a next offset.
    pending: Vec<Name>,
    shared: Option<Arc<dyn FileSerials>>,
    /// Zones whose offset is still to be shared.
    unshared: BTreeSet<Name>,
    /// The shared offsets that were adopted last.
    adopted: Arc<BTreeMap<String, FileSerial>>,
}

/// What has to be durable before serials move on.
pub(super) struct Unsaved {
    file: Option<(PathBuf, String)>,
    shared: Option<(Arc<dyn FileSerials>, BTreeMap<String, FileSerial>)>,
    /// The zones that move on then, with their next offsets.
    pub(super) offsets: Vec<(Name, u32)>,
}

impl Serials {
    /// Reads what was kept in a data directory; `settings` says what all namespaces' zones depend on.
    pub(super) fn load(data_dir: &Path, settings: Digest) -> Serials {
        let path = data_dir.join(FILE);
        let mut serials = match read(&path) {
            Ok(Some(serials)) => serials,
            Ok(None) => Serials { settings: Kept { digest: settings, offset: 0 }, ..Serials::default() },
            Err(error) => {
                tracing::warn!(
                    file = %path.display(),
                    %error,
                    "the serials of zones are lost; if secondaries have a zone, make them transfer it anew"
                );
                Serials { settings: Kept { digest: settings, offset: 0 }, ..Serials::default() }
            }
        };
        if serials.settings.digest != settings {
            serials.settings = Kept { digest: settings, offset: serials.settings.offset.wrapping_add(1) };
        }
        serials.path = Some(path);
        serials.is_unsaved = true;
        serials
    }

    /// Offsets that are shared with other servers.
    pub(super) fn shared(shared: Arc<dyn FileSerials>) -> Serials {
        Serials { shared: Some(shared), ..Serials::default() }
    }

    /// The later of the offsets that this server and all servers have for a zone.
    fn kept(&self, name: &Name) -> Option<Kept> {
        let own = self.zones.get(name).copied();
        let shared = self.shared.as_ref().and_then(|shared| shared.current().get(&key(name)).copied());
        match (own, shared) {
            (Some(own), Some(shared)) if !is_later(shared.offset, own.offset) => Some(own),
            (_, Some(shared)) => Some(Kept { digest: shared.digest.to_be_bytes(), offset: shared.offset }),
            (own, None) => own,
        }
    }

    /// Returns true if other offsets are shared than at the last call.
    pub(super) fn is_shared_anew(&mut self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let current = shared.current();
        let is_new = !Arc::ptr_eq(&current, &self.adopted);
        self.adopted = current;
        is_new
    }

    /// Takes the offset that servers share for the contents that a zone has, where it is later.
    pub(super) fn adopt(&mut self, name: &Name, zone: &mut ZoneSerial) {
        let shared = self.adopted.get(&key(name));
        let Some(shared) = shared.filter(|shared| shared.digest == u128::from_be_bytes(zone.digest)) else {
            return;
        };
        if is_later(zone.next_offset.unwrap_or(zone.offset), shared.offset) {
            self.unshared.insert(name.clone());
            return;
        }
        self.zones.insert(name.clone(), Kept { digest: zone.digest, offset: shared.offset });
        (zone.offset, zone.next_offset) = (shared.offset, None);
        zone.serve();
    }

    /// Has the offsets shared later that could not be shared now.
    pub(super) fn not_shared(&mut self, names: impl Iterator<Item = Name>) {
        self.unshared.extend(names);
    }

    /// The serial of a namespace's zone that is new here.
    pub(super) fn of_namespace(&self, apex: &Name, sequence: u64) -> ZoneSerial {
        let kept = self.kept(apex).unwrap_or_default();
        let base = (sequence as u32).wrapping_add(self.settings.offset);
        let served = Arc::new(AtomicU32::new(base.wrapping_add(kept.offset)));
        ZoneSerial { served, sequence, base, offset: kept.offset, next_offset: None, digest: kept.digest }
    }

    /// The serial of a zone that only a file makes and that is new here: the one it had with the same contents, or a
    /// later one; its own where it was not known.
    pub(super) fn of_file(&mut self, origin: &Name, digest: Digest, own: Option<u32>) -> ZoneSerial {
        let offset = match self.kept(origin) {
            Some(kept) if kept.digest == digest => kept.offset,
            Some(kept) => later(kept.offset, own),
            None => own.unwrap_or(1),
        };
        self.keep(origin, Kept { digest, offset });
        let served = Arc::new(AtomicU32::new(offset));
        ZoneSerial { served, sequence: 0, base: 0, offset, next_offset: None, digest }
    }

    /// A zone file has other contents: the serial moves on, to the file's own where that is later.
    pub(super) fn changed(&mut self, origin: &Name, zone: &mut ZoneSerial, digest: Digest, own: Option<u32>) {
        if zone.digest == digest {
            return;
        }
        let offset = later(zone.newest(), own).wrapping_sub(zone.base);
        zone.digest = digest;
        zone.next_offset = Some(offset);
        self.pending.push(origin.clone());
        self.keep(origin, Kept { digest, offset });
    }

    /// A namespace's zone ends. Where a file may take its place the serial is kept, as one that no longer follows the
    /// registry's number.
    pub(super) fn namespace_ended(&mut self, apex: &Name, zone: &ZoneSerial, has_file: bool) {
        if has_file || self.kept(apex).is_some() {
            self.keep(apex, Kept { digest: Digest::default(), offset: zone.newest() });
        }
    }

    /// True if some zone has a serial that will be served once it is durable.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What has to be durable; nothing when nothing has changed.
    pub(super) fn take_unsaved(&mut self) -> Option<Unsaved> {
        if !std::mem::take(&mut self.is_unsaved) && self.pending.is_empty() && self.unshared.is_empty() {
            return None;
        }
        let shared = self.shared.clone().map(|shared| {
            let unshared = std::mem::take(&mut self.unshared).into_iter();
            let serial = |name: Name| {
                let kept = self.zones.get(&name)?;
                Some((
                    key(&name),
                    FileSerial { digest: u128::from_be_bytes(kept.digest), offset: kept.offset },
                ))
            };
            (shared, unshared.filter_map(serial).collect())
        });
        let offset = |name: Name| self.zones.get(&name).map(|kept| (name, kept.offset));
        let offsets = std::mem::take(&mut self.pending).into_iter().filter_map(offset).collect();
        Some(Unsaved { file: self.path.clone().map(|path| (path, self.text())), shared, offsets })
    }

    fn keep(&mut self, name: &Name, kept: Kept) {
        if self.zones.insert(name.clone(), kept) != Some(kept) {
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
        lines.extend(zones.into_iter().map(|(name, kept)| line("zone", &name.to_string(), kept)));
        let text = lines.join("\n") + "\n";
        let sum = hex(&digest_of(text.as_bytes()));
        format!("{text}sum {sum}\n")
    }
}

impl Unsaved {
    /// Shares the offsets with other servers. An error has the names of the zones, and says why they are not shared.
    pub(super) fn share(&self) -> Result<(), (Vec<Name>, String)> {
        let Some((shared, wanted)) = self.shared.as_ref().filter(|(_, wanted)| !wanted.is_empty()) else {
            return Ok(());
        };
        let names = || wanted.keys().filter_map(|name| name.parse().ok()).collect();
        shared.agree(wanted).map_err(|why| (names(), why))
    }

    /// Writes the file so that either it or the one before is whole, whatever happens.
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

/// A digest of what a zone file has, by owner in a fixed order.
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
        // A type that no record has.
        hash.update([0; 2]);
    }
    if is_empty { Digest::default() } else { shortened(hash) }
}

/// A digest of octets.
pub(super) fn digest_of(octets: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(octets);
    shortened(hash)
}

fn shortened(hash: Sha256) -> Digest {
    let mut digest = Digest::default();
    digest.copy_from_slice(&hash.finalize()[..16]);
    digest
}

/// The file's own serial where it is later than what was served, else the next one.
fn later(served: u32, own: Option<u32>) -> u32 {
    // Whoever edits a file need not remember the serial.
    own.filter(|own| is_later(*own, served)).unwrap_or(served.wrapping_add(1))
}

/// A zone's name as servers share it.
fn key(name: &Name) -> String {
    name.to_lower().to_string()
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
enum Damaged {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("its check sum is wrong")]
    Sum,
    #[error("line {0} is not as it should be")]
    Line(usize),
}

fn read(path: &Path) -> Result<Option<Serials>, Damaged> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
        Ok(metadata) if metadata.len() > FILE_OCTETS_MAX => {
            return Err(Damaged::Io(io::Error::other(format!("it is larger than {FILE_OCTETS_MAX} octets"))));
        }
        Ok(_) => {}
    }
    parse(&fs::read_to_string(path)?).map(Some)
}

fn parse(text: &str) -> Result<Serials, Damaged> {
    let (body, sum) = text.rfind("sum ").map(|at| text.split_at(at)).ok_or(Damaged::Sum)?;
    if sum != format!("sum {}\n", hex(&digest_of(body.as_bytes()))) {
        return Err(Damaged::Sum);
    }
    let mut serials = Serials::default();
    for (number, line) in body.lines().enumerate() {
        let wrong = || Damaged::Line(number + 1);
        match number {
            0 if line == HEAD => {}
            0 => return Err(wrong()),
            _ => {
                let (kind, name, kept) = parse_line(line).ok_or_else(wrong)?;
                match (number, kind) {
                    (1, "settings") => serials.settings = kept,
                    (2.., "zone") => {
                        serials.zones.insert(name, kept);
                    }
                    _ => return Err(wrong()),
                }
            }
        }
    }
    Ok(serials)
}

fn line(kind: &str, name: &str, kept: &Kept) -> String {
    format!("{kind} {name} {} {}", hex(&kept.digest), kept.offset)
}

fn parse_line(line: &str) -> Option<(&str, Name, Kept)> {
    let mut words = line.split(' ');
    let (kind, name, digest, offset) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let name = name.parse().ok()?;
    let number = u128::from_str_radix(digest, 16).ok().filter(|_| digest.len() == 32)?;
    let kept = Kept { digest: number.to_be_bytes(), offset: offset.parse().ok()? };
    words.next().is_none().then_some((kind, name, kept))
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
    fn a_namespace_never_goes_back_after_its_file_moved_it_ahead() {
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
    fn a_zone_of_a_file_keeps_its_serial_with_its_contents() {
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
        // More than half the circle on is earlier.
        assert_eq!(serial(&directory.load().of_file(&origin, [4; 16], Some(3_000_000_000))), 10);
        assert_eq!(serial(&directory.load().of_file(&name("new.test"), [4; 16], None)), 1);
    }

    #[test]
    fn a_zone_that_changes_hands_goes_on_from_where_it_was() {
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

    /// Offsets that servers of a test share, while the API server is there.
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

    /// One look of a server, as its publisher does it.
    fn settle(serials: &mut Serials, name: &Name, zone: &mut ZoneSerial) -> u32 {
        if serials.is_shared_anew() {
            serials.adopt(name, zone);
        }
        if let Some(unsaved) = serials.take_unsaved() {
            let shared = unsaved.share();
            serials.is_shared_anew();
            serials.adopt(name, zone);
            serials.not_shared(shared.err().into_iter().flat_map(|(names, _)| names));
            unsaved.offsets.iter().for_each(|(_, offset)| zone.commit(*offset));
        }
        serial(zone)
    }

    #[test]
    fn servers_with_equal_files_end_with_equal_serials_whatever_they_saw() {
        let store: Arc<Store> = Arc::new(Store(Mutex::new(Some(Arc::default()))));
        for (name, is_file) in [(name("zone.test"), true), (name("Namespace.test"), false)] {
            let open = |digest| {
                let mut serials = Serials::shared(store.clone());
                let mut zone = match is_file {
                    true => serials.of_file(&name, [digest; 16], Some(7)),
                    false => serials.of_namespace(&name, 100),
                };
                serials.changed(&name, &mut zone, [digest; 16], None);
                settle(&mut serials, &name, &mut zone);
                (serials, zone)
            };
            let (mut one, mut of_one) = open(1);
            for edit in 2..=4 {
                one.changed(&name, &mut of_one, [edit; 16], Some(7));
                settle(&mut one, &name, &mut of_one);
            }
            let edited = serial(&of_one);
            let (mut other, mut of_other) = open(4);
            assert_eq!((serial(&of_other), edited - serial(&of_one)), (edited, 0));
            // One is first to have the next file, and its choice is the other's.
            one.changed(&name, &mut of_one, [5; 16], None);
            let next = settle(&mut one, &name, &mut of_one);
            assert!(next > edited);
            assert_eq!(settle(&mut other, &name, &mut of_other), edited);
            other.changed(&name, &mut of_other, [5; 16], None);
            assert_eq!(settle(&mut other, &name, &mut of_other), next);
            // One that starts with an old file is overtaken by the file that it gets.
            let (mut late, mut of_late) = open(1);
            assert!(serial(&of_late) > next);
            late.changed(&name, &mut of_late, [5; 16], None);
            let last = settle(&mut late, &name, &mut of_late);
            assert_eq!(settle(&mut one, &name, &mut of_one), last);
            assert_eq!(settle(&mut other, &name, &mut of_other), last);
            // Without the API server both go on, and agree later.
            let away = store.0.lock().unwrap().take();
            for edit in [6, 7] {
                one.changed(&name, &mut of_one, [edit; 16], None);
                settle(&mut one, &name, &mut of_one);
            }
            other.changed(&name, &mut of_other, [7; 16], None);
            settle(&mut other, &name, &mut of_other);
            assert_eq!(serial(&of_one), serial(&of_other) + 1);
            *store.0.lock().unwrap() = away;
            for _ in 0..2 {
                settle(&mut other, &name, &mut of_other);
                settle(&mut one, &name, &mut of_one);
            }
            assert_eq!(settle(&mut other, &name, &mut of_other), last + 2);
            assert_eq!(serial(&of_one), last + 2);
        }
    }

    #[test]
    fn other_settings_move_all_namespaces_on() {
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
    fn a_damaged_file_is_as_good_as_none() {
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
            assert_eq!(serial(&directory.load().of_file(&origin, [2; 16], None)), 1, "octet {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(serial(&directory.load().of_file(&origin, [2; 16], None)), 1, "cut at {at}");
        }
    }
}
