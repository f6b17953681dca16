//! Shapes of AWS's service model: the constraints on the values of an input's members, with the texts of AWS's messages.

use std::fmt;

use super::pattern::Pattern;

/// Limits on the characters of a string, or on the entries of a list or map.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) min: usize,
    pub(super) max: usize,
}

impl Size {
    pub(super) const ANY: Size = Size { min: 0, max: usize::MAX };

    /// Returns the limits as constraints, the maximum first as in AWS's messages.
    fn constraints(self) -> impl Iterator<Item = Constraint> {
        let max = (self.max < usize::MAX).then_some(Constraint::LengthMax(self.max));
        let min = (self.min > 0).then_some(Constraint::LengthMin(self.min));
        max.into_iter().chain(min)
    }

    pub(super) fn violations(self, len: usize) -> impl Iterator<Item = Constraint> {
        let max = (len > self.max).then_some(Constraint::LengthMax(self.max));
        let min = (len < self.min).then_some(Constraint::LengthMin(self.min));
        max.into_iter().chain(min)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) size: Size,
    pub(super) pattern: Option<&'static Pattern>,
    /// Returns true for strings that lenient validation accepts although they do not match the pattern.
    pub(super) lenient: Option<fn(&str) -> bool>,
}

impl Text {
    pub(super) const fn sized(min: usize, max: usize) -> Text {
        Text { size: Size { min, max }, pattern: None, lenient: None }
    }

    pub(super) const fn matching(self, pattern: &'static Pattern) -> Text {
        Text { pattern: Some(pattern), ..self }
    }

    /// This shape, with `accepts` for the strings that lenient validation accepts although they do not match the pattern.
    pub(super) const fn or_leniently(self, accepts: fn(&str) -> bool) -> Text {
        Text { lenient: Some(accepts), ..self }
    }

    pub(super) fn constraints(&self) -> impl Iterator<Item = Constraint> {
        self.size.constraints().chain(self.pattern.map(Constraint::Pattern))
    }

    pub(super) fn violations(&self, text: &str, is_lenient: bool) -> impl Iterator<Item = Constraint> {
        let Size { min, max } = self.size;
        // A character has at least one byte, so a short text needs no counting of its characters.
        let is_long = text.len() > max && text.chars().count() > max;
        let is_short = text.chars().take(min).count() < min;
        let is_accepted = is_lenient && self.lenient.is_some_and(|accepts| accepts(text));
        let pattern = self.pattern.filter(|pattern| !is_accepted && !(pattern.holds)(text));
        let max = is_long.then_some(Constraint::LengthMax(max));
        let min = is_short.then_some(Constraint::LengthMin(min));
        max.into_iter().chain(min).chain(pattern.map(Constraint::Pattern))
    }

    /// Returns true if the text fulfils all constraints. Inside of lists and maps no validation is lenient.
    pub(super) fn fits(&self, text: &str) -> bool {
        self.violations(text, false).next().is_none()
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Integer {
    pub(super) min: i64,
    pub(super) max: i64,
}

/// A list whose elements have the shape `S`, which is `()` for structures.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<S> {
    pub(super) size: Size,
    pub(super) element: S,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TextMap {
    pub(super) size: Size,
    pub(super) key: Text,
    pub(super) value: Text,
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
