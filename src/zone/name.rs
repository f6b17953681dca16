//! Domain names in wire form.
//!
//! A [`Name`] is absolute, at most 255 octets with labels of 1 to 63 octets (RFC 1035 §2.3.4), and
//! keeps the case it was made with; comparison, ordering and hashing ignore the case of ASCII
//! letters (RFC 4343). [`super::QueryName`] is the same for one query.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::NameRef;

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
        let (mut wire, absolute) = labels_of(text, origin.0.len() - 1)?;
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

    /// The same type as names of zone files have, which are not owned.
    pub fn as_name_ref(&self) -> NameRef<'_> {
        NameRef::new(&self.0)
    }

    pub(super) fn of_ref(name: NameRef<'_>) -> Name {
        Name(name.as_wire().into())
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
        self.as_name_ref().is_at_or_below(ancestor.as_name_ref())
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
        self.as_name_ref().cmp(&other.as_name_ref())
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
        self.as_name_ref().fmt(f)
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
        finish(labels_of(text.as_bytes(), 0)?.0)
    }
}

/// The labels of a name, the leftmost first.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Labels<'a> {
    /// `wire` has to be a name.
    pub(super) fn new(wire: &'a [u8]) -> Labels<'a> {
        Labels(wire)
    }
}

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

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    let start = wire.len();
    wire.push(0);
    wire.extend_from_slice(label);
    end_label(wire, start)
}

fn finish(mut wire: Vec<u8>) -> Result<Name, NameError> {
    wire.push(0);
    if wire.len() > NAME_OCTETS_MAX {
        return Err(NameError::NameTooLong);
    }
    Ok(Name(wire.into()))
}

/// The labels of presentation text in wire form without the root label, and whether it ends in a dot; with room for
/// `more` octets and the root label.
fn labels_of(text: &[u8], more: usize) -> Result<(Vec<u8>, bool), NameError> {
    let mut wire = Vec::with_capacity(text.len() + more + 2);
    if text == b"." {
        return Ok((wire, true));
    }
    // The length of each label is set at its end.
    let mut start = 0;
    wire.push(0);
    let mut rest = text;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        match octet {
            b'.' => {
                end_label(&mut wire, start)?;
                if rest.is_empty() {
                    return Ok((wire, true));
                }
                start = wire.len();
                wire.push(0);
            }
            b'\\' => match rest {
                [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] => {
                    let value = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
                    wire.push(u8::try_from(value).map_err(|_| NameError::BadEscape)?);
                    rest = tail;
                }
                [octet, tail @ ..] if !octet.is_ascii_digit() => {
                    wire.push(*octet);
                    rest = tail;
                }
                _ => return Err(NameError::BadEscape),
            },
            octet => wire.push(octet),
        }
    }
    end_label(&mut wire, start)?;
    Ok((wire, false))
}

/// Sets the length of the label that begins at `start` and takes all that follows.
fn end_label(wire: &mut [u8], start: usize) -> Result<(), NameError> {
    match wire.len() - start - 1 {
        0 => Err(NameError::EmptyLabel),
        len if len > LABEL_OCTETS_MAX => Err(NameError::LabelTooLong),
        len => {
            wire[start] = len as u8;
            Ok(())
        }
    }
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
        fn what_is_shown_reads_back_the_same(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..12)
        ) {
            let name = Name::from_labels(labels.iter().map(|label| &label[..])).unwrap();
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
    }
}
