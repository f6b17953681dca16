//! Domain names in wire form.
//!
//! A [`Name`] is absolute, at most 255 octets with labels of 1 to 63 octets (RFC 1035 §2.3.4), and
//! keeps the case of its letters; comparison, ordering and hashing ignore the case of ASCII
//! letters (RFC 4343). The order is the canonical one (RFC 4034 §6.1), label by label from the right. The name of a query is
//! a [`super::QueryName`].

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use super::NameRef;

/// Longest name in wire form, in octets, the root label included (RFC 1035 §2.3.4).
pub const NAME_OCTETS_MAX: usize = 255;
/// Longest label, in octets (RFC 1035 §2.3.4).
pub const LABEL_OCTETS_MAX: usize = 63;
/// Largest number of labels in a name of 255 octets, the root label not counted.
pub const LABELS_MAX: usize = 127;

/// An absolute domain name in uncompressed wire form.
#[derive(Clone)]
pub struct Name(Box<[u8]>);

/// Reason for which text or wire data is not a domain name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the error texts explain the variants")]
pub enum NameError {
    #[error("a label is empty")]
    EmptyLabel,
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    #[error("the name is longer than 255 octets")]
    NameTooLong,
    #[error("a backslash must be followed by a character or by three digits up to 255")]
    BadEscape,
    /// The data ends within the name, or has a label type other than 00, such as a compression pointer (RFC 1035 §4.1.4).
    #[error("the octets are not an uncompressed name")]
    BadWire,
}

impl Name {
    /// The name of the DNS root, `.`.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// Reads an uncompressed name; `wire` must end with it.
    pub fn from_wire(wire: &[u8]) -> Result<Name, NameError> {
        match Name::wire_len(wire)? {
            len if len == wire.len() => Ok(Name(wire.into())),
            _ => Err(NameError::BadWire),
        }
    }

    /// The length of the uncompressed name at the start of `wire`, in octets with the root label.
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

    /// Reads presentation format with the escapes `\X` and `\DDD` (RFC 1035 §5.1). A name that does not end in a dot is
    /// relative to `origin`; `@` alone is the origin.
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

    /// The name `label` directly below this name.
    pub fn child(&self, label: &[u8]) -> Result<Name, NameError> {
        let mut wire = Vec::with_capacity(1 + label.len() + self.0.len());
        push_label(&mut wire, label)?;
        wire.extend_from_slice(&self.0[..self.0.len() - 1]);
        finish(wire)
    }

    /// The labels of `prefix` followed by those of `suffix`.
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

    /// The wire form, uncompressed and with the root label.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// A reference to the name, of the type that names in a zone file's buffer have.
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

    /// Number of labels, without the root label.
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// True if the name equals `ancestor` or is below it, in upper or lower case.
    pub fn is_at_or_below(&self, ancestor: &Name) -> bool {
        self.as_name_ref().is_at_or_below(ancestor.as_name_ref())
    }

    /// True if the first label is `*` (RFC 4592 §2.1.1).
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with(b"\x01*")
    }

    /// The name with ASCII letters in lower case.
    pub fn to_lower(&self) -> Name {
        Name(self.0.to_ascii_lowercase().into())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        // Length octets are below 64 and therefore no letters, so ignoring case does not confuse them.
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

/// Reads presentation format of an absolute name, with or without the final dot.
impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        finish(labels_of(text.as_bytes(), 0)?.0)
    }
}

/// Iterator over the labels of a name, the leftmost first, without the root label.
#[derive(Clone, Debug)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Labels<'a> {
    /// `wire` must be a valid name: its length octets are not checked again.
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

/// Parses presentation text into labels in wire form, without the root label; the flag is true if the text ends in a dot.
/// The vector has capacity for `more` octets and the root label.
fn labels_of(text: &[u8], more: usize) -> Result<(Vec<u8>, bool), NameError> {
    let mut wire = Vec::with_capacity(text.len() + more + 2);
    if text == b"." {
        return Ok((wire, true));
    }
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

/// Writes the length octet of the last label, which begins at `start`. The length is known only at the label's end.
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
    fn text_that_is_no_name_is_refused_with_its_reason() {
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
        // The names of the example in RFC 4034 §6.1, in its order.
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
        fn displayed_names_parse_to_equal_names(
            labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..12)
        ) {
            let name = Name::from_labels(labels.iter().map(|label| &label[..])).unwrap();
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }
    }
}
