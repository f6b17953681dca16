//! Shapes: what the members of an input may hold, and the constraints that follow from that.

use std::fmt;

use super::pattern::Pattern;

/// What a member may hold.
#[derive(Debug)]
pub(super) enum Shape {
    Structure(&'static [Member]),
    List(List),
    Map(MapOf),
    Text(Text),
    Integer(Integer),
}

/// A member of a structure.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: &'static Shape,
}

/// A member that must be there.
pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: true, shape }
}

/// A member that may be absent.
pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member { name, required: false, shape }
}

/// A list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) size: Size,
    pub(super) member: &'static Shape,
}

/// A map of strings.
#[derive(Debug)]
pub(super) struct MapOf {
    pub(super) size: Size,
    pub(super) key: Text,
    pub(super) value: Text,
}

/// How many characters or entries there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Size {
    /// Any.
    pub(super) const ANY: Size = Size { min: 0, max: usize::MAX };

    /// What a length of this size must be.
    pub(super) fn constraints(self) -> impl Iterator<Item = Constraint> + use<> {
        let max = (self.max < usize::MAX).then_some(Constraint::LengthMax(self.max));
        let min = (self.min > 0).then_some(Constraint::LengthMin(self.min));
        max.into_iter().chain(min)
    }
}

/// A string: of some length, matching a pattern, or one of some words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) size: Size,
    pub(super) pattern: Option<&'static Pattern>,
    /// The strings outside of the pattern that lenient validation accepts.
    pub(super) lenient: Option<fn(&str) -> bool>,
    /// Any, when there are none.
    pub(super) words: &'static [&'static str],
}

impl Text {
    /// A string of `min` to `max` characters.
    pub(super) const fn sized(min: usize, max: usize) -> Text {
        Text { size: Size { min, max }, pattern: None, lenient: None, words: &[] }
    }

    /// One of some words.
    pub(super) const fn one_of(words: &'static [&'static str]) -> Text {
        Text { size: Size::ANY, pattern: None, lenient: None, words }
    }

    /// The same, matching a pattern.
    pub(super) const fn matching(self, pattern: &'static Pattern) -> Text {
        Text { pattern: Some(pattern), ..self }
    }

    /// This shape, under lenient validation also for strings outside of the pattern that `accepts` returns true for.
    pub(super) const fn or_leniently(self, accepts: fn(&str) -> bool) -> Text {
        Text { lenient: Some(accepts), ..self }
    }

    /// What a string of this shape must be.
    pub(super) fn constraints(&self) -> impl Iterator<Item = Constraint> + use<> {
        let words = (!self.words.is_empty()).then_some(Constraint::Words(self.words));
        self.size.constraints().chain(self.pattern.map(Constraint::Pattern)).chain(words)
    }
}

/// An integer or a long.
#[derive(Debug)]
pub(super) struct Integer {
    pub(super) min: i64,
    pub(super) max: i64,
}

/// One thing that a value must be; its text is AWS's.
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
    /// Whether a string is what it must be.
    pub(super) fn holds(&self, text: &str) -> bool {
        match self {
            // A character has one octet or more: counting is rarely needed.
            Constraint::LengthMax(max) => text.len() <= *max || text.chars().count() <= *max,
            Constraint::LengthMin(min) => text.chars().take(*min).count() == *min,
            Constraint::Pattern(pattern) => (pattern.holds)(text),
            Constraint::Words(words) => words.contains(&text),
            Constraint::NotNull | Constraint::ValueMax(_) | Constraint::ValueMin(_) => true,
        }
    }
}
