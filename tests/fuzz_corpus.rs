//! Runs the checks of the fuzz targets (`tests/fuzz`) with their seeds and with mutations of the seeds.
//!
//! The mutations do not differ between runs. FUZZ_MUTATIONS sets their number for each target.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the fuzz targets' library, in which all of it is reachable")]
mod invariants;

use invariants::{answer, cbor, framer, json, name, rdata, zone_file};

const INPUT_BYTES_MAX: usize = 4096;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let mut seeds: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{} has no seeds", directory.display());
    seeds
}

struct PrintOnPanic<'i> {
    origin: &'i str,
    input: &'i [u8],
}

impl Drop for PrintOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut hex = String::new();
            for byte in self.input {
                write!(hex, "{byte:02x}").unwrap();
            }
            eprintln!("the input, of {}: {hex}", self.origin);
        }
    }
}

fn replay(target: &str, mutations: usize, check: fn(&[u8])) {
    let seeds = seeds(target);
    for (origin, input) in &seeds {
        let _guard = PrintOnPanic { origin, input };
        check(input);
    }
    let mutations =
        std::env::var("FUZZ_MUTATIONS").map_or(mutations, |number| number.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(0x5eed);
    for _ in 0..mutations {
        let (origin, seed) = &seeds[random.usize(..seeds.len())];
        let mut input = seed.clone();
        for _ in 0..random.usize(1..5) {
            mutate(&mut input, &seeds[random.usize(..seeds.len())].1, &mut random);
        }
        input.truncate(INPUT_BYTES_MAX);
        let _guard = PrintOnPanic { origin, input: &input };
        check(&input);
    }
}

const BOUNDARIES: [u8; 12] = [0, 1, 2, 12, 0x29, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xfe, 0xff];

fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut fastrand::Rng) {
    let at = random.usize(..=input.len());
    let end = (at + 1 + random.usize(..8)).min(input.len());
    match random.u8(..8) {
        0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.u8(..8)),
        1 => input
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte = BOUNDARIES[random.usize(..BOUNDARIES.len())]),
        2 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = random.u8(..)),
        3 => input.insert(at, BOUNDARIES[random.usize(..BOUNDARIES.len())]),
        4 => drop(input.drain(at..end)),
        5 => input.extend_from_within(at..end),
        6 => input.truncate(at),
        _ => {
            let from = random.usize(..=other.len());
            input.splice(at..end, other[from..].iter().copied().take(1 + random.usize(..32)));
        }
    }
}

#[test]
fn any_query_gets_a_valid_reply_or_is_dropped() {
    replay("answer", 40_000, answer::check);
}

#[test]
fn any_tcp_stream_yields_its_messages_wherever_it_is_split() {
    replay("framer", 100_000, framer::check);
}

#[test]
fn any_master_file_is_read_or_refused_with_its_errors() {
    replay("zone_file", 10_000, zone_file::check);
}

#[test]
fn any_record_data_is_written_as_text_that_reads_back() {
    replay("rdata", 50_000, rdata::check);
}

#[test]
fn any_name_is_read_as_the_rfcs_say() {
    replay("name", 50_000, name::check);
}

#[test]
fn any_json_body_is_decoded_or_refused() {
    replay("json", 25_000, json::check);
}

#[test]
fn any_cbor_body_is_decoded_or_refused() {
    replay("cbor", 25_000, cbor::check);
}
