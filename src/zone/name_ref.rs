//! Borrowed domain names.
//!
//! A [`NameRef`] is to a [`Name`] what `&str` is to `String`: the records of a zone file are in one buffer, so that a million
//! names need no allocations. Comparisons ignore case, and the order is canonical (RFC 4034 §6.1), as those of [`Name`].

use std::cmp::Ordering;
use std::fmt;

use super::Name;
use super::name::{LABELS_MAX, Labels};

/// Reference to an absolute domain name in uncompressed wire form.
#[derive(Clone, Copy)]
pub struct NameRef<'a>(&'a [u8]);

impl<'a> NameRef<'a> {
    /// `wire` must be the wire form of a [`Name`]: its length octets are not checked again.
    pub(super) fn new(wire: &'a [u8]) -> NameRef<'a> {
        debug_assert_eq!(Name::wire_len(wire), Ok(wire.len()));
        NameRef(wire)
    }

    /// The wire form, uncompressed and with the name's upper and lower case.
    pub fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// The labels, the leftmost first, the root not included.
    pub fn labels(self) -> Labels<'a> {
        Labels::new(self.0)
    }

    /// True if the name equals `ancestor` or is below it, in upper or lower case.
    pub fn is_at_or_below(self, ancestor: NameRef<'_>) -> bool {
        let mut rest = self.0;
        while rest.len() > ancestor.0.len() {
            rest = &rest[1 + rest[0] as usize..];
        }
        rest.eq_ignore_ascii_case(ancestor.0)
    }

    /// The name without its first label; the root has no parent.
    pub fn parent(self) -> Option<NameRef<'a>> {
        match self.0[0] as usize {
            0 => None,
            len => Some(NameRef(&self.0[1 + len..])),
        }
    }

    /// Copies the name into an allocation of its own.
    pub fn to_name(self) -> Name {
        Name::of_ref(self)
    }
}

impl PartialEq for NameRef<'_> {
    fn eq(&self, other: &NameRef<'_>) -> bool {
        // Length octets are below 64 and therefore no letters, so ignoring case does not confuse them.
        self.0.eq_ignore_ascii_case(other.0)
    }
}

impl Eq for NameRef<'_> {}

impl Ord for NameRef<'_> {
    fn cmp(&self, other: &NameRef<'_>) -> Ordering {
        let (one, two) = (LabelStarts::of(*self), LabelStarts::of(*other));
        let pairs = one.labels().zip(two.labels());
        pairs
            .map(|(one, two)| cmp_ignoring_case(one, two))
            .find(|order| order.is_ne())
            .unwrap_or_else(|| one.count.cmp(&two.count))
    }
}

impl PartialOrd for NameRef<'_> {
    fn partial_cmp(&self, other: &NameRef<'_>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Presentation format with a final dot. Octets that are not printable ASCII are shown as `\DDD`.
impl fmt::Display for NameRef<'_> {
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

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Positions of a name's labels, for comparisons and sort keys, which go through the labels from the right.
pub(super) struct LabelStarts<'a> {
    wire: &'a [u8],
    starts: [u8; LABELS_MAX],
    count: usize,
}

impl<'a> LabelStarts<'a> {
    pub(super) fn of(NameRef(wire): NameRef<'a>) -> LabelStarts<'a> {
        let mut found = LabelStarts { wire, starts: [0; LABELS_MAX], count: 0 };
        let mut at = 0;
        while wire[at] != 0 {
            found.starts[found.count] = at as u8;
            found.count += 1;
            at += 1 + wire[at] as usize;
        }
        found
    }

    pub(super) fn labels(&self) -> impl Iterator<Item = &'a [u8]> {
        self.starts[..self.count].iter().rev().map(|start| {
            let start = *start as usize;
            &self.wire[start + 1..start + 1 + self.wire[start] as usize]
        })
    }
}

fn cmp_ignoring_case(one: &[u8], two: &[u8]) -> Ordering {
    one.iter().map(u8::to_ascii_lowercase).cmp(two.iter().map(u8::to_ascii_lowercase))
}
