//! Reads zones with BIND's `named-compilezone`, to compare its records with ours.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const ORIGIN: &str = "x.example.";
/// First lines of every zone, because BIND requires a SOA record and a name server with an address.
const HEAD: &str = "$TTL 300\n@ SOA ns hostmaster 1 2h 3 4 5\n@ NS ns\nns A 192.0.2.53\n";

/// Octets of the header of a raw file, version 1: format, version, time, flags, two serials.
const HEADER_OCTETS: usize = 24;
const RAW_FORMAT: [u8; 8] = [0, 0, 0, 2, 0, 0, 0, 1];

pub(crate) type Compiled = BTreeMap<Vec<u8>, BTreeSet<(u16, Vec<u8>)>>;

pub(crate) fn zone(records: &str) -> String {
    format!("{HEAD}{records}")
}

pub(crate) fn compile(records: &str) -> Compiled {
    let octets = run(records, "raw").unwrap_or_else(|error| panic!("BIND refuses the zone: {error}"));
    raw(&octets)
}

pub(crate) fn text(records: &str) -> String {
    let octets = run(records, "text").unwrap_or_else(|error| panic!("BIND refuses the zone: {error}"));
    String::from_utf8(octets).unwrap()
}

pub(crate) fn accepts(records: &str) -> bool {
    run(records, "raw").is_ok()
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cloudmap-dns-bind-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(records: &str, format: &str) -> Result<Vec<u8>, String> {
    let folder = Folder::new();
    let (from, to) = (folder.0.join("zone"), folder.0.join("compiled"));
    let mut file = std::fs::File::create(&from).unwrap();
    file.write_all(zone(records).as_bytes()).unwrap();
    let output = compilezone(format, &from, &to);
    if output.status.success() {
        Ok(std::fs::read(to).unwrap())
    } else {
        Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// Checks of names and of records against each other are off, because only the reader is compared.
fn compilezone(format: &str, from: &Path, to: &Path) -> Output {
    let mut command = Command::new("named-compilezone");
    for check in ["-i", "none", "-k", "ignore", "-m", "ignore", "-M", "ignore", "-n", "ignore"] {
        command.arg(check);
    }
    for check in ["-r", "ignore", "-S", "ignore", "-T", "ignore", "-s", "full", "-F", format, "-o"] {
        command.arg(check);
    }
    command.arg(to).arg(ORIGIN).arg(from);
    command.output().unwrap_or_else(|error| {
        panic!("named-compilezone can't be run ({error}); install bind9utils (Debian) or bind-tools (Alpine)")
    })
}

/// The records of a raw file: for each owner and type its length, class, type, covered type, TTL and number of records,
/// then the owner and the data of each record, with their lengths.
fn raw(octets: &[u8]) -> Compiled {
    let (header, mut rest) = octets.split_at(HEADER_OCTETS);
    assert_eq!(header[..8], RAW_FORMAT);
    let mut compiled = Compiled::new();
    while !rest.is_empty() {
        let _length = take(&mut rest, 4);
        let _class = take(&mut rest, 2);
        let rtype = number(take(&mut rest, 2)) as u16;
        let _covers_and_ttl = take(&mut rest, 6);
        let count = number(take(&mut rest, 4));
        let owner_len = number(take(&mut rest, 2));
        let owner = take(&mut rest, owner_len).to_ascii_lowercase();
        for _ in 0..count {
            let len = number(take(&mut rest, 2));
            let rdata = take(&mut rest, len).to_vec();
            compiled.entry(owner.clone()).or_default().insert((rtype, rdata));
        }
    }
    compiled
}

fn take<'a>(octets: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = octets.split_at(len);
    *octets = rest;
    taken
}

fn number(octets: &[u8]) -> usize {
    octets.iter().fold(0, |number, octet| number << 8 | usize::from(*octet))
}
