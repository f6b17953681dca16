//! Shapes describe the types of an input's members, and the constraints on their values.

use std::fmt;

use super::pattern::Pattern;

#[derive(Debug)]
pub(super) enum Shape {
    Structure(&'static [Member]),
    List(List),
    Map(MapOf),
    Text(Text),
    Integer(Integer),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: &'static Shape,
}

pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: true, shape }
}

pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: false, shape }
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) size: Size,
    pub(super) member: &'static Shape,
}

#[derive(Debug)]
pub(super) struct MapOf {
    pub(super) size: Size,
    pub(super) key: Text,
    pub(super) value: Text,
}

/// Limits on the characters of a string, or on the entries of a list or map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Size {
    pub(super) const ANY: Size = Size { min: 0, max: usize::MAX };

    /// Returns the limits as constraints, the maximum first as in AWS's messages.
    pub(super) fn constraints(self) -> impl Iterator<Item = Constraint> + use<> {
        let max = (self.max < usize::MAX).then_some(Constraint::LengthMax(self.max));
        let min = (self.min > 0).then_some(Constraint::LengthMin(self.min));
        max.into_iter().chain(min)
    }
}

/// A string, with limits on its length, a pattern, and the words of an enumeration, as far as its shape has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) size: Size,
    pub(super) pattern: Option<&'static Pattern>,
    /// Returns true for strings that lenient validation accepts although they do not match the pattern.
    pub(super) lenient: Option<fn(&str) -> bool>,
    /// The values of an enumeration; empty for a string that is not one.
    pub(super) words: &'static [&'static str],
}

impl Text {
    pub(super) const fn sized(min: usize, max: usize) -> Text {
        Text { size: Size { min, max }, pattern: None, lenient: None, words: &[] }
    }

    pub(super) const fn one_of(words: &'static [&'static str]) -> Text {
        Text { size: Size::ANY, pattern: None, lenient: None, words }
    }

    pub(super) const fn matching(self, pattern: &'static Pattern) -> Text {
        Text { pattern: Some(pattern), ..self }
    }

    /// This shape, with `accepts` for the strings that lenient validation accepts although they do not match the pattern.
    pub(super) const fn or_leniently(self, accepts: fn(&str) -> bool) -> Text {
        Text { lenient: Some(accepts), ..self }
    }

    pub(super) fn constraints(&self) -> impl Iterator<Item = Constraint> + use<> {
        let words = (!self.words.is_empty()).then_some(Constraint::Words(self.words));
        self.size.constraints().chain(self.pattern.map(Constraint::Pattern)).chain(words)
    }
}

#[derive(Debug)]
pub(super) struct Integer {
    pub(super) min: i64,
    pub(super) max: i64,
}

/// A constraint on a value. Its `Display` text is that of AWS's validation messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Constraint {
    NotNull,
    LengthMax(usize),
    LengthMin(usize),
    ValueMax(i64),
    ValueMin(i64),
    Pattern(&'static Pattern),
    Words(&'static [&'static str]),
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Constraint::NotNull => f.write_str("Member must not be null"),
            Constraint::LengthMax(max) => write!(f, "Member must have length less than or equal to {max}"),
            Constraint::LengthMin(min) => write!(f, "Member must have length greater than or equal to {min}"),
            Constraint::ValueMax(max) => write!(f, "Member must have value less than or equal to {max}"),
            Constraint::ValueMin(min) => write!(f, "Member must have value greater than or equal to {min}"),
            Constraint::Pattern(pattern) => {
                write!(f, "Member must satisfy regular expression pattern: {}", pattern.text)
            }
            Constraint::Words(words) => {
                write!(f, "Member must satisfy enum value set: [{}]", words.join(", "))
            }
        }
    }
}

impl Constraint {
    /// Returns true if a string fulfils the constraint. Constraints on numbers are checked elsewhere and hold here.
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            // A character has at least one byte, so a short text needs no counting of its characters.
            Constraint::LengthMax(max) => text.len() <= *max || text.chars().count() <= *max,
            Constraint::LengthMin(min) => text.chars().take(*min).count() == *min,
            Constraint::Pattern(pattern) => (pattern.holds)(text),
            Constraint::Words(words) => words.contains(&text),
            Constraint::NotNull | Constraint::ValueMax(_) | Constraint::ValueMin(_) => true,
        }
    }
}
