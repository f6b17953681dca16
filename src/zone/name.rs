//! Domain names in wire form.
//!
//! A [`Name`] is absolute, at most 255 octets with labels of 1 to 63 octets (RFC 1035 §2.3.4), and
//! keeps the case it was made with; comparison, ordering and hashing ignore the case of ASCII
//! letters (RFC 4343). A [`QueryName`] is the same for one query, lower-cased, with the
//! start and the hash of every suffix at hand: the lookup probes suffixes and never re-reads labels.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// Longest name in wire form, in octets, the root label included (RFC 1035 §2.3.4).
pub const NAME_OCTETS_MAX: usize = 255;
/// Longest label, in octets (RFC 1035 §2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;
/// Most labels that a name can have, the root not counted.
pub const LABELS_MAX: usize = 127;

/// An absolute domain name in uncompressed wire form.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Why some text or octets are not a domain name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or a leading dot.
    #[error("a label is empty")]
    EmptyLabel,
    /// A label over 63 octets.
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    /// Over 255 octets in wire form.
    #[error("the name is longer than 255 octets")]
    NameTooLong,
    /// A backslash that is followed by neither a character nor three digits up to 255.
    #[error("a backslash must be followed by a character or by three digits up to 255")]
    BadEscape,
    /// The octets end inside the name, or hold a label type other than 00 (RFC 1035 §4.1.4).
    #[error("the octets are not an uncompressed name")]
    BadWire,
}

impl Name {
    /// The root, `.`.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// Reads an uncompressed name that takes all of `wire`.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match Name::wire_len(wire)? {
            len if len == wire.len() => Ok(Name(wire.into())),
            _ => Err(NameError::BadWire),
        }
    }

    /// The length of the uncompressed name at the start of `wire`, in octets.
    pub fn wire_len(wire: &[u8]) -> Result<usize, NameError> {
        let mut at = 0;
        loop {
            match wire.get(at).copied() {
                None => return Err(NameError::BadWire),
                Some(0) if at >= NAME_OCTETS_MAX => return Err(NameError::NameTooLong),
                Some(0) => return Ok(at + 1),
                Some(len) if len as usize > LABEL_OCTETS_MAX => return Err(NameError::BadWire),
                Some(len) => at += 1 + len as usize,
            }
        }
    }

    /// Makes a name of labels, the leftmost first.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Name, NameError> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        finish(wire)
    }

    /// Reads presentation format (RFC 1035 §5.1): `\.` and `\DDD` escapes. What does not end in a dot
    /// is relative to `origin`; `@` alone is the origin.
    pub fn parse(text: &[u8], origin: &Name) -> Result<Name, NameError> {
        if text == b"@" {
            return Ok(origin.clone());
        }
        let (mut wire, absolute) = labels_of(text)?;
        if absolute {
            return finish(wire);
        }
        wire.extend_from_slice(&origin.0[..origin.0.len() - 1]);
        finish(wire)
    }

    /// This name with one more label in front.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        let mut wire = Vec::with_capacity(1 + label.len() + self.0.len());
        push_label(&mut wire, label)?;
        wire.extend_from_slice(&self.0[..self.0.len() - 1]);
        finish(wire)
    }

    /// This name with the labels of `prefix` in front.
    pub fn below(prefix: &Name, suffix: &Name) -> Result<Name, NameError> {
        let mut wire = prefix.0[..prefix.0.len() - 1].to_vec();
        wire.extend_from_slice(&suffix.0[..suffix.0.len() - 1]);
        finish(wire)
    }

    /// The name without its first label; the root has no parent.
    pub fn parent(&self) -> Option<Name> {
        match self.0[0] as usize {
            0 => None,
            len => Some(Name(self.0[1 + len..].into())),
        }
    }

    /// The wire form.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, the leftmost first, the root not included.
    pub fn labels(&self) -> Labels<'_> {
        Labels(&self.0)
    }

    /// How many labels there are, the root not counted.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// Whether the name is `ancestor` or below it.
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        let mut rest = &self.0[..];
        while rest.len() > ancestor.0.len() {
            rest = &rest[1 + rest[0] as usize..];
        }
        rest.eq_ignore_ascii_case(&ancestor.0)
    }

    /// Whether the first label is `*` (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The same name with ASCII letters in lower case.
    pub fn to_lower(&self) -> Name {
        Name(self.0.to_ascii_lowercase().into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // Lengths are below 64 and so never letters: comparing them as octets is right.
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for octet in &self.0 {
            state.write_u8(octet.to_ascii_lowercase());
        }
    }
}

/// Canonical order (RFC 4034 §6.1): label by label from the right.
impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let (one, two) = (LabelStarts::of(&self.0), LabelStarts::of(&other.0));
        let pairs = one.labels().zip(two.labels());
        pairs
            .map(|(one, two)| cmp_ignoring_case(one, two))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| one.count.cmp(&two.count))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Presentation format with a final dot; octets that are not printable ASCII as `\DDD`.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        write!(f, "\\{}", octet as char)?
                    }
                    0x21..=0x7e => write!(f, "{}", octet as char)?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Reads presentation format; the final dot may be left out.
impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        finish(labels_of(text.as_bytes())?.0)
    }
}

/// Where the labels of a name begin: names are compared from the right.
struct LabelStarts<'a> {
    wire: &'a [u8],
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl<'a> LabelStarts<'a> {
    fn of(wire: &'a [u8]) -> LabelStarts<'a> {
        let mut found = LabelStarts { wire, starts: [0; LABELS_MAX], count: 0 };
        let mut at = 0;
        while wire[at] != 0 {
            found.starts[found.count] = at as u8;
            found.count += 1;
            at += 1 + wire[at] as usize;
        }
        found
    }

    /// The labels, the rightmost first.
    fn labels(&self) -> impl Iterator<Item = &'a [u8]> {
        self.starts[..self.count].iter().rev().map(|start| {
            let start = *start as usize;
            &self.wire[start + 1..start + 1 + self.wire[start] as usize]
        })
    }
}

fn cmp_ignoring_case(one: &[u8], two: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(two.iter().map(u8::to_ascii_lowercase))
}

/// The labels of a name, the leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self.0[0] as usize {
            0 => None,
            len => {
                let (label, rest) = self.0[1..].split_at(len);
                self.0 = rest;
                Some(label)
            }
        }
    }
}

/// A query's name: lower-cased, with what the hash of each of its suffixes is made of. It is made to be used again and
/// again: setting it touches no more than the name is long.
///
/// Suffix 0 is the whole name, suffix [`QueryName::label_count`] the root.
#[derive(Clone)]
pub struct QueryName {
    /// What is behind the name's octets means nothing.
    wire: [u8; QUERY_NAME_OCTETS],
    len: u8,
    label_count: u8,
    starts: [u8; LABELS_MAX + 1],
    hash: u64,
    /// The hash of the last `n` blocks.
    hashes: [u64; NAME_OCTETS_MAX / BLOCK_OCTETS + 1],
}

/// Octets that are hashed at a time: two words.
const BLOCK_OCTETS: usize = 2 * WORD_OCTETS;
const WORD_OCTETS: usize = 8;
/// Room for the longest name, and for a word that begins at its last octet.
const QUERY_NAME_OCTETS: usize = NAME_OCTETS_MAX + WORD_OCTETS;

impl QueryName {
    /// Reads the uncompressed name at the start of `wire`; its wire length is the length of [`QueryName::as_wire`].
    pub fn read(wire: &[u8]) -> Result<QueryName, NameError> {
        let mut name = QueryName::default();
        name.set(wire)?;
        Ok(name)
    }

    /// Becomes the uncompressed name at the start of `wire`. After an error it is the root.
    pub fn set(&mut self, wire: &[u8]) -> Result<(), NameError> {
        let walked = walk(wire, &mut self.starts);
        match walked {
            Ok((labels, len)) => {
                self.label_count = labels;
                self.set_octets(wire, len);
            }
            Err(_) => self.set_root(),
        }
        walked.map(|_| ())
    }

    /// Takes over so many octets in lower case, and hashes them.
    fn set_octets(&mut self, wire: &[u8], len: usize) {
        // Lengths are below 64 and so never letters.
        self.wire[..len].copy_from_slice(&wire[..len]);
        self.wire[..len].make_ascii_lowercase();
        self.len = len as u8;
        let mut hash = HASH_SEED;
        let blocks = self.wire[..len].as_rchunks::<BLOCK_OCTETS>().1;
        for (block, kept) in blocks.iter().rev().zip(&mut self.hashes[1..]) {
            hash = extend_hash(hash, block);
            *kept = hash;
        }
        self.hash = self.with_first(hash, 0);
    }

    /// The hash from `start` on, when the last whole blocks' is known.
    fn with_first(&self, hash: u64, start: usize) -> u64 {
        finish_hash(hash, &self.wire[start..], (self.len as usize).saturating_sub(start)).unwrap_or_default()
    }

    #[cold]
    fn set_root(&mut self) {
        (self.label_count, self.starts[0]) = (0, 0);
        self.set_octets(&[0], 1);
    }

    /// Becomes the name that `name` is without its first `labels` labels.
    pub fn set_suffix(&mut self, name: &QueryName, labels: usize) {
        let rest = name.label_count() - labels;
        let start = name.starts[labels];
        self.wire[..name.len as usize - start as usize].copy_from_slice(name.suffix(labels));
        self.len = name.len - start;
        self.label_count = rest as u8;
        for label in 0..=rest {
            self.starts[label] = name.starts[label + labels] - start;
        }
        let blocks = self.len as usize / BLOCK_OCTETS;
        self.hashes[..=blocks].copy_from_slice(&name.hashes[..=blocks]);
        self.hash = name.suffix_hash(labels);
    }

    /// The whole name in lower case, in wire form.
    #[inline]
    pub fn as_wire(&self) -> &[u8] {
        &self.wire[..self.len as usize]
    }

    /// How many labels there are, the root not counted.
    #[inline]
    pub fn label_count(&self) -> usize {
        self.label_count as usize
    }

    /// The name without its first `labels` labels, in wire form.
    #[inline]
    pub fn suffix(&self, labels: usize) -> &[u8] {
        &self.wire[self.start(labels)..self.len as usize]
    }

    /// Where [`QueryName::suffix`] begins in [`QueryName::as_wire`].
    #[inline]
    pub fn start(&self, labels: usize) -> usize {
        self.starts[labels] as usize
    }

    /// The first `labels` labels, each with its length octet, without a root label.
    pub fn prefix(&self, labels: usize) -> &[u8] {
        &self.wire[..self.start(labels)]
    }

    /// The hash of [`QueryName::suffix`], equal to `name_hash` of that name.
    #[inline]
    pub fn suffix_hash(&self, labels: usize) -> u64 {
        if labels == 0 {
            return self.hash;
        }
        let start = self.start(labels);
        let len = (self.len as usize).saturating_sub(start);
        self.with_first(self.hashes[len / BLOCK_OCTETS], start)
    }
}

/// Notes where the labels of the name at the start of `wire` begin, the root's too; how many there are without that, and
/// how many octets the name has.
fn walk(wire: &[u8], starts: &mut [u8; LABELS_MAX + 1]) -> Result<(u8, usize), NameError> {
    let (mut at, mut labels) = (0, 0);
    let longest = &wire[..wire.len().min(NAME_OCTETS_MAX)];
    while let Some(len) = longest.get(at) {
        starts[labels & LABELS_MAX] = at as u8;
        match *len {
            0 => return Ok((labels as u8, at + 1)),
            len if len as usize > LABEL_OCTETS_MAX => return Err(NameError::BadWire),
            len => at += 1 + len as usize,
        }
        labels += 1;
    }
    Err(if at < NAME_OCTETS_MAX { NameError::BadWire } else { NameError::NameTooLong })
}

/// The root.
impl Default for QueryName {
    fn default() -> QueryName {
        let mut root = QueryName {
            wire: [0; QUERY_NAME_OCTETS],
            len: 0,
            label_count: 0,
            starts: [0; LABELS_MAX + 1],
            hash: 0,
            hashes: [HASH_SEED; NAME_OCTETS_MAX / BLOCK_OCTETS + 1],
        };
        root.set_root();
        root
    }
}

impl From<&Name> for QueryName {
    fn from(name: &Name) -> QueryName {
        // A `Name` is valid by construction, so reading it back cannot fail.
        QueryName::read(name.as_wire()).expect("a Name holds a valid wire name")
    }
}

/// Two odd constants with well spread bits, from the fraction of pi.
const HASH_SEED: u64 = 0x243f_6a88_85a3_08d3;
const HASH_MULTIPLIER: u64 = 0x1319_8a2e_0370_7345;

/// The hash of a wire name, whatever the case of its letters: sixteen octets at a time from the right, so that one pass
/// over a name gives what the hashes of all its suffixes begin with. Not keyed: only the API and zone files add names.
pub fn name_hash(wire: &[u8]) -> u64 {
    hash_of_first(wire, wire.len()).unwrap_or_else(|| {
        // It is shorter than a word.
        let mut word = [0; WORD_OCTETS];
        word[..wire.len()].copy_from_slice(wire);
        hash_of_first(&word, wire.len()).unwrap_or_default()
    })
}

/// [`name_hash`] of the first `len` octets of `wire`; `None` when there are fewer, or fewer than a word has.
#[inline(always)]
pub(super) fn hash_of_first(wire: &[u8], len: usize) -> Option<u64> {
    let blocks = wire.get(..len)?.as_rchunks::<BLOCK_OCTETS>().1;
    let hash = blocks.iter().rev().fold(HASH_SEED, extend_hash);
    finish_hash(hash, wire, len)
}

#[inline(always)]
fn extend_hash(hash: u64, block: &[u8; BLOCK_OCTETS]) -> u64 {
    let [one, other] = [0, WORD_OCTETS].map(|at| word_at(block, at).unwrap_or_default());
    fold(hash ^ one, HASH_MULTIPLIER ^ other)
}

/// Adds the first octets of a name of `len` octets that are no whole block.
#[inline(always)]
fn finish_hash(hash: u64, wire: &[u8], len: usize) -> Option<u64> {
    let octets = len % BLOCK_OCTETS;
    let one = word_at(wire, 0)?;
    Some(match octets {
        0 => hash,
        1..WORD_OCTETS => fold(hash ^ one & u64::MAX >> (u64::BITS as usize - 8 * octets), HASH_MULTIPLIER),
        // The two words may overlap.
        _ => fold(hash ^ one, HASH_MULTIPLIER ^ word_at(wire, octets - WORD_OCTETS)?),
    })
}

/// Eight octets, without the bit that tells upper from lower case; of other octets too: what is equal is equal.
#[inline(always)]
fn word_at(wire: &[u8], at: usize) -> Option<u64> {
    let word = wire.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word) & !0x2020_2020_2020_2020)
}

/// Multiplies to 128 bits and folds: every input bit reaches high and low output bits.
#[inline(always)]
fn fold(one: u64, other: u64) -> u64 {
    let wide = u128::from(one) * u128::from(other);
    (wide as u64) ^ ((wide >> 64) as u64)
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    match label.len() {
        0 => Err(NameError::EmptyLabel),
        len if len > LABEL_OCTETS_MAX => Err(NameError::LabelTooLong),
        len => {
            wire.push(len as u8);
            wire.extend_from_slice(label);
            Ok(())
        }
    }
}

fn finish(mut wire: Vec<u8>) -> Result<Name, NameError> {
    wire.push(0);
    if wire.len() > NAME_OCTETS_MAX {
        return Err(NameError::NameTooLong);
    }
    Ok(Name(wire.into()))
}

/// The labels of presentation text in wire form without the root label, and whether it ends in a dot.
fn labels_of(text: &[u8]) -> Result<(Vec<u8>, bool), NameError> {
    if text == b"." {
        return Ok((Vec::new(), true));
    }
    if text.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    let mut wire = Vec::with_capacity(text.len() + 2);
    let mut label = Vec::with_capacity(16);
    let mut rest = text;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        match octet {
            b'.' => {
                push_label(&mut wire, &label)?;
                label.clear();
                if rest.is_empty() {
                    return Ok((wire, true));
                }
            }
            b'\\' => match rest {
                [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
                    let value = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
                    label.push(u8::try_from(value).map_err(|_| NameError::BadEscape)?);
                    rest = tail;
                }
                [octet, tail @ ..] if !octet.is_ascii_digit() => {
                    label.push(*octet);
                    rest = tail;
                }
                _ => return Err(NameError::BadEscape),
            },
            octet => label.push(octet),
        }
    }
    push_label(&mut wire, &label)?;
    Ok((wire, false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn presentation_format_round_trips_with_escapes() {
        struct Case {
            text: &'static str,
            wire: &'static [u8],
            shown: &'static str,
        }
        for case in [
            Case { text: ".", wire: b"\0", shown: "." },
            Case { text: "a.B.", wire: b"\x01a\x01B\0", shown: "a.B." },
            Case { text: "a.b", wire: b"\x01a\x01b\0", shown: "a.b." },
            Case { text: r"a\.b.c", wire: b"\x03a.b\x01c\0", shown: r"a\.b.c." },
            Case { text: r"\000\255x", wire: b"\x03\x00\xffx\0", shown: r"\000\255x." },
            Case { text: r"\@.c", wire: b"\x01@\x01c\0", shown: r"\@.c." },
        ] {
            let parsed = name(case.text);
            assert_eq!(parsed.as_wire(), case.wire, "{}", case.text);
            assert_eq!(parsed.to_string(), case.shown);
        }
    }

    #[test]
    fn bad_text_is_refused_with_its_reason() {
        for (text, error) in [
            ("", NameError::EmptyLabel),
            ("..", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a..b", NameError::EmptyLabel),
            (r"a\", NameError::BadEscape),
            (r"\25", NameError::BadEscape),
            (r"\256", NameError::BadEscape),
            ("a.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NameError::LabelTooLong),
        ] {
            assert_eq!(text.parse::<Name>(), Err(error), "{text}");
        }
        let long = ["a23456789"; 26].join(".");
        assert_eq!(long.parse::<Name>(), Err(NameError::NameTooLong));
    }

    #[test]
    fn relative_names_end_in_the_origin() {
        let origin = name("svc.local");
        assert_eq!(Name::parse(b"web", &origin).unwrap(), name("web.svc.local."));
        assert_eq!(Name::parse(b"web.", &origin).unwrap(), name("web."));
        assert_eq!(Name::parse(b"@", &origin).unwrap(), origin);
    }

    #[test]
    fn order_is_canonical_and_case_is_ignored() {
        // RFC 4034 §6.1, its own example.
        let sorted = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "Z.a.example",
            "zABC.a.EXAMPLE",
            "z.example",
            r"\001.z.example",
            "*.z.example",
            r"\200.z.example",
        ];
        let mut names: Vec<Name> = sorted.iter().rev().map(|text| name(text)).collect();
        names.sort();
        assert_eq!(names, sorted.iter().map(|text| name(text)).collect::<Vec<_>>());
        assert!(name("x.A.example").is_at_or_below(&name("a.EXAMPLE")));
        assert!(!name("xa.example").is_at_or_below(&name("a.example")));
    }

    proptest! {
        #[test]
        fn every_suffix_hash_equals_the_hash_of_that_name(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..12)
        ) {
            let name = Name::from_labels(labels.iter().map(|label| &label[..])).unwrap();
            let query = QueryName::from(&name);
            let lower = name.to_lower();
            prop_assert_eq!(query.as_wire(), lower.as_wire());
            for label in 0..=query.label_count() {
                prop_assert_eq!(query.suffix_hash(label), name_hash(query.suffix(label)));
            }
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }

        #[test]
        fn any_octets_are_read_or_refused(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(query) = QueryName::read(&wire) {
                prop_assert!(query.as_wire().len() <= NAME_OCTETS_MAX);
            }
        }
    }
}
