//! Reader of a zone's files: turns entries into records, which inherit owner and TTL from the records before them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::generate::Generator;
use super::{
    ERRORS_MAX, FILES_BYTES_MAX, INCLUDE_DEPTH_MAX, INCLUDES_MAX, MasterFileError, Place, RECORDS_BYTES_MAX,
    RECORDS_MAX, TTL_SECONDS_MAX,
};
use crate::zone::file_records::{FileNumber, FileRecords};
use crate::zone::presentation::{Entries, Entry, Spot, TextError, Word, Words, seconds};
use crate::zone::{Name, RecordType, rdata};

const DIRECTIVES: &str = "$ORIGIN, $TTL, $INCLUDE and $GENERATE";

/// State of reading one zone's files. TTLs apply across files, unlike [`Scope`]. When a limit is exceeded, `is_over` is set
/// and nothing more is read.
pub(super) struct Reader<'l> {
    load: &'l mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>,
    records: FileRecords,
    errors: Vec<MasterFileError>,
    ttl_default: Option<u32>,
    ttl_last: Option<u32>,
    files_bytes: usize,
    includes: usize,
    chain: Vec<Arc<Path>>,
    is_over: bool,
}

/// Origin and last owner, which apply within one file alone (RFC 1035 §5.1).
struct Scope {
    file: Arc<Path>,
    number: FileNumber,
    origin: Name,
    owner: Option<Name>,
}

struct Head {
    ttl: Option<u32>,
    rtype: RecordType,
}

impl<'l> Reader<'l> {
    pub(super) fn new(load: &'l mut dyn FnMut(&Path) -> std::io::Result<Vec<u8>>) -> Reader<'l> {
        Reader {
            load,
            records: FileRecords::default(),
            errors: Vec::new(),
            ttl_default: None,
            ttl_last: None,
            files_bytes: 0,
            includes: 0,
            chain: Vec::new(),
            is_over: false,
        }
    }

    pub(super) fn read(
        mut self,
        file: &Path,
        text: &[u8],
        origin: &Name,
    ) -> Result<FileRecords, Vec<MasterFileError>> {
        let file: Arc<Path> = file.into();
        let number = self.records.add_file(Arc::clone(&file));
        let scope = Scope { file: Arc::clone(&file), number, origin: origin.clone(), owner: None };
        if let Err(error) = self.file(scope, text, Spot { line: 1, column: 1 }) {
            self.error(&file, error);
        }
        if self.errors.is_empty() { Ok(self.records) } else { Err(self.errors) }
    }

    /// Reads one file. An error about its size has the position `at`, which is that of the `$INCLUDE`.
    fn file(&mut self, mut scope: Scope, text: &[u8], at: Spot) -> Result<(), TextError> {
        self.files_bytes = self.files_bytes.saturating_add(text.len());
        if self.files_bytes > FILES_BYTES_MAX {
            self.is_over = true;
            let message = format!("the files of the zone are over {FILES_BYTES_MAX} bytes together");
            return Err(TextError::new(at, message));
        }
        self.chain.push(Arc::clone(&scope.file));
        for entry in Entries::new(text) {
            if let Err(error) = entry.and_then(|entry| self.entry(&mut scope, &entry)) {
                self.error(&scope.file, error);
            }
            if self.is_over {
                break;
            }
        }
        self.chain.pop();
        Ok(())
    }

    fn error(&mut self, file: &Arc<Path>, error: TextError) {
        self.errors.push(MasterFileError { place: Place::new(file, error.at), message: error.message });
        if self.errors.len() == ERRORS_MAX {
            self.is_over = true;
        }
    }

    fn entry(&mut self, scope: &mut Scope, entry: &Entry<'_>) -> Result<(), TextError> {
        let mut words = entry.cursor();
        let first = &entry.words[0];
        if !first.quoted && first.raw.starts_with(b"$") {
            return self.directive(scope, &mut words);
        }
        if !entry.indented {
            // A quoted owner is read as BIND reads it; BIND allows quotes around no other name.
            let word = words.next("the owner")?;
            scope.owner = Some(word.name(&scope.origin, "the owner")?);
        }
        let Some(owner) = &scope.owner else {
            return Err(first.error(
                "the line starts with a blank, but there is no record before it to take the owner from",
            ));
        };
        let head = head(&mut words)?;
        self.record(scope, owner, &head, &mut words, first.at)
    }

    fn record(
        &mut self,
        scope: &Scope,
        owner: &Name,
        head: &Head,
        words: &mut Words<'_, '_>,
        at: Spot,
    ) -> Result<(), TextError> {
        let rtype = head.rtype;
        let rdata = rdata::read(rtype, words, &scope.origin)?;
        let minimum = || (rtype == RecordType::SOA).then(|| soa_minimum(&rdata));
        let Some(ttl) = head.ttl.or(self.ttl_default).or(self.ttl_last).or_else(minimum) else {
            // With a TTL of 0, the records after this one do not repeat the error.
            self.ttl_last = Some(0);
            return Err(TextError::new(
                at,
                "the record has no TTL; write one, or put a line such as `$TTL 1h` before it",
            ));
        };
        if ttl > TTL_SECONDS_MAX {
            return Err(TextError::new(
                at,
                format!("the SOA's minimum is its TTL here and must not be over {TTL_SECONDS_MAX}"),
            ));
        }
        self.ttl_last = Some(ttl);
        let bytes = self.records.bytes() + owner.as_wire().len() + rdata.len();
        if self.records.len() == RECORDS_MAX || bytes > RECORDS_BYTES_MAX {
            self.is_over = true;
            return Err(TextError::new(
                at,
                format!("the zone is over {RECORDS_MAX} records or {RECORDS_BYTES_MAX} bytes of record data"),
            ));
        }
        self.records.push(owner, rtype, ttl, &rdata, (scope.number, at));
        Ok(())
    }

    fn directive(&mut self, scope: &mut Scope, words: &mut Words<'_, '_>) -> Result<(), TextError> {
        let directive = words.next("the directive")?;
        if directive.is("$ORIGIN") {
            let origin = words.next_bare("the origin")?.name(&scope.origin, "the origin")?;
            words.finish()?;
            scope.origin = origin;
            Ok(())
        } else if directive.is("$TTL") {
            let ttl = ttl(words.next_bare("the TTL")?)?;
            words.finish()?;
            self.ttl_default = Some(ttl);
            Ok(())
        } else if directive.is("$INCLUDE") {
            self.include(scope, directive, words)
        } else if directive.is("$GENERATE") {
            self.generate(scope, directive, words)
        } else {
            Err(directive.error(format!(
                "`{}` is no directive; there are {DIRECTIVES}, and a name that starts with a dollar sign is written `\\$`",
                directive.shown()
            )))
        }
    }

    /// Reads an included file. It starts with the owner and the origin of the including file, or with the origin that the
    /// directive gives; changes of owner and origin end with the file (RFC 1035 §5.1), changes of the TTL do not.
    fn include(
        &mut self,
        scope: &Scope,
        directive: &Word<'_>,
        words: &mut Words<'_, '_>,
    ) -> Result<(), TextError> {
        let word = words.next("the name of the file to include")?;
        let path = String::from_utf8(word.unescaped()?)
            .ok()
            .filter(|path| !path.is_empty() && !path.contains('\0'))
            .ok_or_else(|| word.error("the name of the file to include must be a path in UTF-8"))?;
        let origin = match words.peek() {
            None => scope.origin.clone(),
            Some(_) => words.next_bare("the origin")?.name(&scope.origin, "the origin")?,
        };
        words.finish()?;
        let path = match scope.file.parent() {
            Some(directory) => directory.join(path),
            None => PathBuf::from(path),
        };
        if self.chain.iter().any(|file| **file == *path) {
            let mut chain: Vec<_> = self.chain.iter().map(|file| file.display().to_string()).collect();
            chain.push(path.display().to_string());
            return Err(
                directive.error(format!("the files include each other in a circle: {}", chain.join(" -> ")))
            );
        }
        if self.chain.len() >= INCLUDE_DEPTH_MAX {
            return Err(directive.error(format!("files are included over {INCLUDE_DEPTH_MAX} deep")));
        }
        self.includes += 1;
        if self.includes > INCLUDES_MAX {
            self.is_over = true;
            return Err(directive.error(format!("over {INCLUDES_MAX} files are included")));
        }
        let text = (self.load)(&path).map_err(|error| {
            word.error(format!("cannot read the included file {}: {error}", path.display()))
        })?;
        let file: Arc<Path> = path.into();
        let number = self.records.add_file(Arc::clone(&file));
        let scope = Scope { file, number, origin, owner: scope.owner.clone() };
        self.file(scope, &text, word.at)
    }

    /// Reads the records that a directive generates, up to the first error. All have the directive's position.
    fn generate(
        &mut self,
        scope: &mut Scope,
        directive: &Word<'_>,
        words: &mut Words<'_, '_>,
    ) -> Result<(), TextError> {
        let range = words.next_bare("the range")?;
        let owner_word = words.next_bare("the owner")?;
        let head = head(words)?;
        let first = words.next("the data")?;
        let generator = Generator::new(range, owner_word, first, words.rest())?;
        for value in generator.values() {
            let at_value = |error: TextError| {
                TextError::new(error.at, format!("{} (for the value {value})", error.message))
            };
            let owner = generator.owner(value)?;
            let owner =
                Word { raw: &owner, ..*owner_word }.name(&scope.origin, "the owner").map_err(at_value)?;
            let text = generator.data(value)?;
            // Positions in the generated text mean nothing to the file's author, so errors get that of the data's template.
            let here = |error: TextError| at_value(TextError::new(first.at, error.message));
            let entry = Entries::new(&text).next().transpose().map_err(here)?;
            let mut data = match &entry {
                Some(entry) => entry.cursor(),
                None => return Err(here(first.error("the data is empty"))),
            };
            self.record(scope, &owner, &head, &mut data, directive.at).map_err(here)?;
            scope.owner = Some(owner);
        }
        Ok(())
    }
}

/// Reads `[TTL] [IN] type` or `[IN] [TTL] type` (RFC 1035 §5.1).
fn head(words: &mut Words<'_, '_>) -> Result<Head, TextError> {
    let mut explicit = None;
    let mut has_class = false;
    loop {
        let word = words.next_bare("the record type")?;
        if !has_class && is_class_in(word)? {
            has_class = true;
        } else if explicit.is_none() && seconds(word.raw).is_some() {
            explicit = Some(ttl(word)?);
        } else {
            return Ok(Head { ttl: explicit, rtype: record_type(word)? });
        }
    }
}

fn is_class_in(word: &Word<'_>) -> Result<bool, TextError> {
    let number = |word: &Word<'_>| {
        let (class, number) = word.raw.split_at_checked(5)?;
        let number = std::str::from_utf8(number).ok()?.parse::<u16>().ok();
        number.filter(|_| class.eq_ignore_ascii_case(b"CLASS"))
    };
    let is_other = ["CH", "CHAOS", "HS", "HESIOD", "CS"].iter().any(|class| word.is(class));
    match number(word) {
        Some(1) => Ok(true),
        None if word.is("IN") => Ok(true),
        None if !is_other => Ok(false),
        _ => {
            Err(word.error(format!("class {} is not served; write IN, or leave the class out", word.shown())))
        }
    }
}

fn record_type(word: &Word<'_>) -> Result<RecordType, TextError> {
    let rtype = word.record_type()?;
    if rtype.is_meta() {
        return Err(word.error(format!("{rtype} is for queries only: no zone has records of this type")));
    }
    Ok(rtype)
}

fn ttl(word: &Word<'_>) -> Result<u32, TextError> {
    let value = seconds(word.raw).ok_or_else(|| {
        word.error(format!("a TTL must be seconds or a time such as 1h30m, not `{}`", word.shown()))
    })?;
    u32::try_from(value).ok().filter(|value| *value <= TTL_SECONDS_MAX).ok_or_else(|| {
        word.error(format!(
            "the TTL `{}` is over the largest, {TTL_SECONDS_MAX} seconds (RFC 2181 §8)",
            word.shown()
        ))
    })
}

/// The minimum field, which is the last 32 bits of a SOA's data (RFC 1035 §3.3.13).
fn soa_minimum(rdata: &[u8]) -> u32 {
    rdata.last_chunk().map_or(0, |minimum| u32::from_be_bytes(*minimum))
}
