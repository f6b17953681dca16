//! Presentation format (RFC 1035 §5.1): splits text into entries and words, with the position of each.
//!
//! `master_file` splits files into entries; `rdata` reads and writes words. The text is not copied, only one entry of at most
//! [`ENTRY_WORDS_MAX`] words is in memory at a time, and reading continues with the next entry after an error.

use std::fmt::Write as _;

use super::{Name, RecordType};

/// Largest number of words in one entry; enough for a TXT record of the largest size.
pub(super) const ENTRY_WORDS_MAX: usize = 66_000;
/// Largest total length of the words of one entry, in bytes; enough for the largest record data with every octet as `\DDD`.
pub(super) const ENTRY_BYTES_MAX: usize = 512 * 1024;
pub(super) const STRING_OCTETS_MAX: usize = 255;
/// Longest part of a wrong word that an error repeats, in characters.
const SHOWN_MAX: usize = 60;

/// Iterator over the entries of a text. An entry is one line that is not empty, or several lines joined by parentheses.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    text: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

/// Position in a text: line and column, both counted from 1. A column is one byte wide.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spot {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// Error in a text: the position of the wrong or missing word, and a message that says what is wrong there and what would be
/// right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(super) struct TextError {
    pub(super) at: Spot,
    pub(super) message: String,
}

impl TextError {
    pub(super) fn new(at: Spot, message: impl Into<String>) -> TextError {
        TextError { at, message: message.into() }
    }
}

/// One word of a text, with escapes that are not decoded yet: the bytes between blanks, or between double quotes. A joined
/// word has no blank between it and the word before it, as in `key="value"`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Word<'a> {
    pub(super) raw: &'a [u8],
    pub(super) quoted: bool,
    pub(super) joined: bool,
    pub(super) at: Spot,
}

impl Word<'_> {
    pub(super) fn shown(&self) -> String {
        // A character takes at most four bytes, so this part contains all that is shown.
        let text = String::from_utf8_lossy(&self.raw[..self.raw.len().min(4 * SHOWN_MAX)]);
        let mut shown = String::with_capacity(SHOWN_MAX);
        for (at, character) in text.chars().enumerate() {
            match character {
                _ if at == SHOWN_MAX => {
                    shown.push_str("...");
                    break;
                }
                _ if character.is_control() => shown.extend(character.escape_default()),
                _ => shown.push(character),
            }
        }
        shown
    }

    /// True if the word is `text` without quotes, in upper or lower case.
    pub(super) fn is(&self, text: &str) -> bool {
        !self.quoted && self.raw.eq_ignore_ascii_case(text.as_bytes())
    }

    pub(super) fn unescaped(&self) -> Result<Vec<u8>, TextError> {
        unescape(self.raw).ok_or_else(|| {
            self.error("a backslash must be followed by a character or by three digits up to 255")
        })
    }

    /// The word as a name, relative to `origin` unless it ends in a dot. Errors call the name `what`.
    pub(super) fn name(&self, origin: &Name, what: &str) -> Result<Name, TextError> {
        Name::parse(self.raw, origin)
            .map_err(|error| self.error(format!("{what} must be a name, not `{}`: {error}", self.shown())))
    }

    pub(super) fn record_type(&self) -> Result<RecordType, TextError> {
        std::str::from_utf8(self.raw).unwrap_or_default().parse().map_err(|_| {
            self.error(format!("expected a record type such as A or TYPE65280, found `{}`", self.shown()))
        })
    }

    pub(super) fn error(&self, message: impl Into<String>) -> TextError {
        TextError::new(self.at, message)
    }
}

/// One entry of a master file: its words, at least one, and the position of its end. An indented entry starts with a blank,
/// so that its owner is that of the record before it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) words: Vec<Word<'a>>,
    pub(super) indented: bool,
    pub(super) end: Spot,
}

impl<'a> Entry<'a> {
    pub(super) fn cursor(&self) -> Words<'_, 'a> {
        Words { words: &self.words, end: self.end }
    }
}

/// Cursor over the words of an entry. `end` is the position of the entry's end, for errors about missing words.
#[derive(Clone, Debug)]
pub(super) struct Words<'w, 'a> {
    words: &'w [Word<'a>],
    end: Spot,
}

impl<'w, 'a> Words<'w, 'a> {
    /// The next word. Fails with the error that `what` is missing if no word is left.
    pub(super) fn next(&mut self, what: &str) -> Result<&'w Word<'a>, TextError> {
        let (word, rest) =
            self.words.split_first().ok_or_else(|| TextError::new(self.end, format!("{what} is missing")))?;
        self.words = rest;
        Ok(word)
    }

    pub(super) fn next_bare(&mut self, what: &str) -> Result<&'w Word<'a>, TextError> {
        let word = self.next(what)?;
        if word.quoted {
            return Err(word.error(format!("{what} must be written without quotes")));
        }
        Ok(word)
    }

    pub(super) fn peek(&self) -> Option<&'w Word<'a>> {
        self.words.first()
    }

    pub(super) fn rest(&mut self) -> &'w [Word<'a>] {
        std::mem::take(&mut self.words)
    }

    pub(super) fn end(&self) -> Spot {
        self.end
    }

    pub(super) fn finish(&self) -> Result<(), TextError> {
        match self.peek() {
            None => Ok(()),
            Some(word) => {
                Err(word.error(format!("`{}` is too much: the entry must end before it", word.shown())))
            }
        }
    }
}

impl<'a> Entries<'a> {
    /// Starts at the first entry of `text`, after a UTF-8 byte order mark if there is one.
    pub(super) fn new(text: &'a [u8]) -> Entries<'a> {
        let start = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Entries { text, at: start, line: 1, line_start: start }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn spot(&self) -> Spot {
        let column = u32::try_from(self.at - self.line_start).unwrap_or(u32::MAX);
        Spot { line: self.line, column: column.saturating_add(1) }
    }

    /// Reads one entry. After an error it still reads to the entry's end, so that the next entry can be read; the first error
    /// is returned.
    fn entry(&mut self) -> Result<Entry<'a>, TextError> {
        let indented = matches!(self.peek(), Some(b' ' | b'\t'));
        let mut words: Vec<Word<'a>> = Vec::new();
        let mut error = None;
        let mut open: Option<Spot> = None;
        let mut depth = 0usize;
        let mut octets = 0;
        let mut joined = false;
        let end = loop {
            let at = self.spot();
            match self.peek() {
                None => {
                    if let Some(open) = open {
                        error.get_or_insert(TextError::new(
                            open,
                            "the parenthesis is never closed; close it with `)`",
                        ));
                    }
                    break at;
                }
                Some(b'\n') => {
                    self.at += 1;
                    self.line = self.line.saturating_add(1);
                    self.line_start = self.at;
                    joined = false;
                    if depth == 0 {
                        break at;
                    }
                }
                Some(b' ' | b'\t' | b'\r') => {
                    self.at += 1;
                    joined = false;
                }
                Some(b';') => {
                    let rest = &self.text[self.at..];
                    self.at += rest.iter().position(|octet| *octet == b'\n').unwrap_or(rest.len());
                }
                Some(b'(') => {
                    self.at += 1;
                    depth += 1;
                    open.get_or_insert(at);
                    joined = false;
                }
                Some(b')') => {
                    self.at += 1;
                    joined = false;
                    match depth.checked_sub(1) {
                        None => {
                            error.get_or_insert(TextError::new(at, "`)` without a `(` before it"));
                        }
                        Some(left) => {
                            depth = left;
                            open = open.filter(|_| left > 0);
                        }
                    }
                }
                Some(first) => {
                    let quoted = first == b'"';
                    let raw = if quoted { self.quoted() } else { Some(self.bare()) };
                    let Some(raw) = raw else {
                        error.get_or_insert(TextError::new(
                            at,
                            "the quoted string is not closed on its line; close it with `\"`",
                        ));
                        continue;
                    };
                    octets += raw.len();
                    if words.len() == ENTRY_WORDS_MAX || octets > ENTRY_BYTES_MAX {
                        error.get_or_insert_with(|| {
                            let limit = format!(
                                "the entry is over {ENTRY_WORDS_MAX} words or {ENTRY_BYTES_MAX} bytes"
                            );
                            TextError::new(open.unwrap_or(at), limit)
                        });
                    }
                    if error.is_none() {
                        words.push(Word { raw, quoted, joined, at });
                    }
                    joined = true;
                }
            }
        };
        match error {
            None => Ok(Entry { words, indented, end }),
            Some(error) => Err(error),
        }
    }

    fn bare(&mut self) -> &'a [u8] {
        let start = self.at;
        while let Some(octet) = self.peek() {
            match octet {
                b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' | b')' | b'"' => break,
                _ => self.skip(octet),
            }
        }
        &self.text[start..self.at]
    }

    /// Reads a quoted string and returns the part within the quotes. `None`, at the line's end, if the string is not closed.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        self.at += 1;
        let start = self.at;
        while let Some(octet) = self.peek() {
            match octet {
                b'\n' => return None,
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                _ => self.skip(octet),
            }
        }
        None
    }

    fn skip(&mut self, octet: u8) {
        self.at += 1;
        if octet == b'\\' && !matches!(self.peek(), None | Some(b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, TextError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.text.len() {
            match self.entry() {
                Ok(entry) if entry.words.is_empty() => {}
                entry => return Some(entry),
            }
        }
        None
    }
}

/// Decodes the escapes `\X` and `\DDD`. `None` if a backslash begins neither of them.
pub(super) fn unescape(raw: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        if octet != b'\\' {
            octets.push(octet);
            continue;
        }
        match rest {
            [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
                let value = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
                octets.push(u8::try_from(value).ok()?);
                rest = tail;
            }
            [octet, tail @ ..] if !octet.is_ascii_digit() => {
                octets.push(*octet);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(octets)
}

pub(super) fn quote(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len() + 2);
    text.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(octet as char);
            }
            0x20..=0x7e => text.push(octet as char),
            // Writing to a String cannot fail.
            _ => write!(text, "\\{octet:03}").unwrap_or_default(),
        }
    }
    text.push('"');
    text
}

/// Reads a number of seconds: digits alone, or digits with units, as in `1h30m` (units w d h m s in either case). `None` for
/// other text. A number over 64 bits saturates, so that the caller's limit refuses it.
pub(super) fn seconds(text: &[u8]) -> Option<u64> {
    let mut total = 0u64;
    let mut number: Option<u64> = None;
    let mut units = 0;
    for octet in text {
        if octet.is_ascii_digit() {
            let digit = u64::from(octet - b'0');
            number = Some(number.unwrap_or(0).saturating_mul(10).saturating_add(digit));
            continue;
        }
        let unit = match octet.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.saturating_add(number.take()?.saturating_mul(unit));
        units += 1;
    }
    match (number, units) {
        (Some(number), 0) => Some(number),
        (None, 1..) => Some(total),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let show = |word: &Word<'_>| {
            let raw = String::from_utf8_lossy(word.raw);
            if word.quoted { format!("<{raw}>") } else { raw.into_owned() }
        };
        Entries::new(text.as_bytes()).map(|entry| entry.unwrap().words.iter().map(show).collect()).collect()
    }

    #[test]
    fn text_is_split_into_entries_and_words() {
        struct Case {
            text: &'static str,
            words: &'static [&'static [&'static str]],
        }
        for case in [
            Case { text: "", words: &[] },
            Case { text: "\n ; only a comment\n\t\n", words: &[] },
            Case { text: "a b\r\nc", words: &[&["a", "b"], &["c"]] },
            Case { text: "a (b ; (\n c) d\ne", words: &[&["a", "b", "c", "d"], &["e"]] },
            Case { text: "a((b\n)c\n)d", words: &[&["a", "b", "c", "d"]] },
            Case { text: r#"a "b ; (c" "\"" """#, words: &[&["a", "<b ; (c>", r#"<\">"#, "<>"]] },
            Case { text: r#"k="v w""x""#, words: &[&["k=", "<v w>", "<x>"]] },
            Case { text: r"a\ b\;c \( x", words: &[&[r"a\ b\;c", r"\(", "x"]] },
            Case { text: "\u{feff}a", words: &[&["a"]] },
        ] {
            assert_eq!(words(case.text), case.words, "{:?}", case.text);
        }
    }

    #[test]
    fn an_error_has_a_position_and_the_next_entry_is_read() {
        let mut entries = Entries::new(b"a \"b\n c ) d\nok\n  x ( y\nz");
        let places: Vec<_> = entries
            .by_ref()
            .map(|entry| entry.map(|entry| entry.indented).map_err(|error| (error.at.line, error.at.column)))
            .collect();
        assert_eq!(places, [Err((1, 3)), Err((2, 4)), Ok(false), Err((4, 5))]);
    }

    #[test]
    fn an_entry_with_too_many_words_is_refused() {
        let text = [&b"( a"[..], &b" x".repeat(ENTRY_WORDS_MAX), b")\nb"].concat();
        let read: Vec<_> = Entries::new(&text).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0].as_ref().unwrap_err().at, Spot { line: 1, column: 1 });
        assert!(read[1].is_ok());
    }

    #[test]
    fn a_wrong_word_is_shown_printable_and_cut() {
        let shown =
            |raw: &[u8]| Word { raw, quoted: false, joined: false, at: Spot { line: 1, column: 1 } }.shown();
        assert_eq!(shown("it's \\é\u{1b}".as_bytes()), r"it's \é\u{1b}");
        assert_eq!(shown(&[b'x'; 70]), "x".repeat(60) + "...");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn durations_have_units_or_are_plain_seconds() {
        for (text, value) in [
            ("0", Some(0)),
            ("3600", Some(3600)),
            ("1h30m", Some(5400)),
            ("1W2d3H4M5s", Some(788_645)),
            ("99999999999999999999999999w", Some(u64::MAX)),
            ("", None),
            ("h", None),
            ("1h30", None),
            ("1x", None),
            ("-1", None),
        ] {
            assert_eq!(seconds(text.as_bytes()), value, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_split(text in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b" \t\r\n;()\"\\a1"[..])], 0..200)
        ) {
            for entry in Entries::new(&text).flatten() {
                prop_assert!(!entry.words.is_empty());
            }
        }

        #[test]
        fn quoting_round_trips(octets in proptest::collection::vec(any::<u8>(), 0..50)) {
            let quoted = quote(&octets);
            prop_assert_eq!(unescape(&quoted.as_bytes()[1..quoted.len() - 1]), Some(octets.clone()));
            let entry = Entries::new(quoted.as_bytes()).next().unwrap().unwrap();
            prop_assert_eq!(entry.words[0].unescaped().unwrap(), octets);
        }
    }
}
