//! Checks of master files: they are read, checked, written, and read again.

use std::io;
use std::path::Path;

use cloudmap_dns::zone::contents::Contents;
use cloudmap_dns::zone::master_file::{ERRORS_MAX, MasterFileError, RECORDS_MAX};
use cloudmap_dns::zone::{Name, master_file, write::write_zone};

const WRITTEN_MAX: usize = 64;

/// Reads the input as a master file of `svc.local`. It may include `a.inc` and itself, which are in memory.
pub fn check(text: &[u8]) {
    if generates_many(text) {
        return;
    }
    let origin: Name = "svc.local.".parse().expect("a name");
    let file = Path::new("svc.local.zone");
    let mut load = |path: &Path| match path.to_str() {
        Some("a.inc") => Ok(b"included 60 IN A 192.0.2.1\n".to_vec()),
        Some("svc.local.zone") => Ok(text.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let records = match master_file::read(file, text, &origin, &mut load) {
        Ok(records) => records,
        Err(errors) => return check_errors(&errors),
    };
    assert!(records.len() <= RECORDS_MAX);
    for located in records.iter().take(WRITTEN_MAX) {
        let text = format!("{}\n", located.value);
        let again = master_file::read(file, text.as_bytes(), &Name::root(), &mut load);
        let again = again.unwrap_or_else(|errors| panic!("{text} is not read: {errors:?}"));
        let again: Vec<_> = again.iter().map(|located| located.value).collect();
        assert_eq!(again, [located.value], "{text}");
    }
    let contents = Contents::new(records);
    match contents.check_overlay(&origin) {
        Ok(_) => check_contents(&origin, &contents),
        Err(errors) => check_errors(&errors),
    }
    match contents.check_whole(&origin, file) {
        Ok(_) => check_whole(&origin, &contents),
        Err(errors) => check_errors(&errors),
    }
}

/// True if a $GENERATE line may make records by the thousand, which would take too much of a fuzzer's time.
fn generates_many(text: &[u8]) -> bool {
    let is_costly = |line: &[u8]| {
        line.windows(9).any(|window| window.eq_ignore_ascii_case(b"$GENERATE"))
            && line.windows(3).any(|window| window.iter().all(u8::is_ascii_digit))
    };
    text.split(|octet| *octet == b'\n').any(is_costly)
}

fn check_errors(errors: &[MasterFileError]) {
    assert!(!errors.is_empty() && errors.len() <= ERRORS_MAX, "{} errors", errors.len());
    for error in errors {
        assert!(!error.message.is_empty() && error.place.line >= 1 && error.place.column >= 1, "{error:?}");
    }
}

fn check_contents(origin: &Name, contents: &Contents) {
    let rrsets: Vec<_> = contents.rrsets().collect();
    for owned in &rrsets {
        assert!(owned.owner.is_at_or_below(origin));
    }
    let in_order = |pair: &[cloudmap_dns::zone::contents::OwnedRrset]| {
        (&pair[0].owner, pair[0].rrset.rtype) < (&pair[1].owner, pair[1].rrset.rtype)
    };
    assert!(rrsets.windows(2).all(in_order), "canonical order");
}

fn check_whole(origin: &Name, contents: &Contents) {
    check_contents(origin, contents);
    let rrsets: Vec<_> = contents.rrsets().collect();
    let written = write_zone(origin, rrsets.iter().map(|owned| (&owned.owner, &owned.rrset)));
    let file = Path::new("written.zone");
    let mut none = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let records = master_file::read(file, written.as_bytes(), origin, &mut none);
    let records = records.unwrap_or_else(|errors| panic!("{written}\n{errors:?}"));
    let again = Contents::new(records);
    again.check_whole(origin, file).unwrap_or_else(|errors| panic!("{written}\n{errors:?}"));
    assert_eq!(again.rrsets().collect::<Vec<_>>(), rrsets, "{written}");
}
