//! Checks of record data: conversion from wire format to presentation format and back.

use std::path::Path;

use cloudmap_dns::zone::rdata::{is_valid, rdata_text};
use cloudmap_dns::zone::{Name, Record, RecordType, master_file};

/// Uses the first two octets as a type, and the rest both as record data in wire format and as presentation format.
pub fn check(input: &[u8]) {
    let Some((rtype, rest)) = input.split_first_chunk() else { return };
    let rtype = RecordType(u16::from_be_bytes(*rtype));
    let text = rdata_text(rtype, rest);
    assert!(!text.contains('\n'), "{text}");
    if is_valid(rtype, rest) && !rtype.is_meta() {
        let read = read(rtype, text.as_bytes()).unwrap_or_else(|| panic!("{rtype} {text} is not read"));
        assert_eq!(&*read.rdata, rest, "{rtype} {text}");
    }
    // Text with a line feed is skipped: the line feed would begin another record.
    if !rest.contains(&b'\n')
        && let Some(record) = read(rtype, rest)
    {
        assert!(is_valid(rtype, &record.rdata), "{rtype} {:02x?}", record.rdata);
        let text = rdata_text(rtype, &record.rdata);
        assert_eq!(read(rtype, text.as_bytes()).as_ref(), Some(&record), "{text}");
    }
}

fn read(rtype: RecordType, data: &[u8]) -> Option<Record> {
    let text = [format!("@ 60 IN {rtype} ").as_bytes(), data, b"\n"].concat();
    let origin: Name = "svc.local.".parse().expect("a name");
    let mut none = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let records = master_file::read(Path::new("x.zone"), &text, &origin, &mut none).ok()?;
    assert!(records.len() <= 1);
    records.iter().next().map(|located| located.value)
}
