//! Validation messages in AWS's words, such as `1 validation error detected: Value null at 'id' failed to satisfy
//! constraint: Member must not be null`. The length of a message is bounded, whatever the input.

use std::fmt::{self, Write};

use super::error::ApiError;
use super::shape::{Constraint, Text};
use super::value::Value;

/// Everything that is wrong with one body. All violations are counted, and the first [`VIOLATIONS_SHOWN_MAX`] are shown.
#[derive(Default)]
pub(super) struct Report {
    /// The first value of a wrong type. It hides all violations, because such a body is no input of the operation at all.
    mismatch: Option<String>,
    count: usize,
    texts: Vec<String>,
}

/// The proof that a value was refused and that the report has the reason: only a [`Report`] makes it.
pub(super) struct Refused(());

const VIOLATIONS_SHOWN_MAX: usize = 20;

impl Report {
    /// Reports a value that violates a constraint; `None` is an absent value.
    pub(super) fn add(
        &mut self,
        value: Option<&Value<'_>>,
        path: Path<'_>,
        constraint: Constraint,
    ) -> Refused {
        self.push(|| {
            let failed = format!("at '{path}' failed to satisfy constraint: {constraint}");
            match value {
                Some(value) => format!("Value '{}' {failed}", Shown(value)),
                None => format!("Value null {failed}"),
            }
        })
    }

    /// Reports an invalid entry of a map or list. As on AWS, the message lists all constraints on such entries.
    pub(super) fn add_entry(&mut self, shown: &str, path: Path<'_>, what: &str, text: &Text) -> Refused {
        self.push(|| {
            let mut all: Vec<String> = text.constraints().map(|constraint| constraint.to_string()).collect();
            if all.is_empty() {
                all.push(Constraint::NotNull.to_string());
            }
            let all = all.join(", ");
            format!("Value '{shown}' at '{path}' failed to satisfy constraint: {what}: [{all}]")
        })
    }

    pub(super) fn mismatch(&mut self, found: &Value<'_>, path: Path<'_>, expected: &str) -> Refused {
        self.mismatch
            .get_or_insert_with(|| format!("Expected {expected} at '{path}', found {}.", found.kind()));
        Refused(())
    }

    fn push(&mut self, text: impl FnOnce() -> String) -> Refused {
        self.count += 1;
        if self.texts.len() < VIOLATIONS_SHOWN_MAX {
            self.texts.push(text());
        }
        Refused(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.mismatch.is_none() && self.count == 0
    }

    pub(super) fn into_error(self) -> ApiError {
        if let Some(mismatch) = self.mismatch {
            return ApiError::serialization(mismatch);
        }
        let errors = if self.count == 1 { "error" } else { "errors" };
        let more = if self.count > self.texts.len() { "; …" } else { "" };
        let texts = self.texts.join("; ");
        ApiError::invalid_input(format!("{} validation {errors} detected: {texts}{more}", self.count))
    }
}

/// Place of a value in its body, such as `dnsConfig.dnsRecords.1.member`. It is a list on the stack, so that a valid body
/// costs no allocation for it.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    Body,
    Member(&'p Path<'p>, &'static str),
    Element(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Path::Body => Ok(()),
            Path::Member(outer, name) => {
                if !matches!(outer, Path::Body) {
                    write!(f, "{outer}.")?;
                }
                // AWS's messages have the name's first letter in lower case.
                let (first, rest) = name.split_at(1);
                write!(f, "{}{rest}", first.to_ascii_lowercase())
            }
            Path::Element(outer, index) => write!(f, "{outer}.{}.member", index + 1),
        }
    }
}

/// A value as in AWS's messages, truncated to [`CHARACTERS_SHOWN_MAX`] characters of a string and [`ENTRIES_SHOWN_MAX`]
/// entries of a list or map.
pub(super) struct Shown<'v>(pub(super) &'v Value<'v>);

const CHARACTERS_SHOWN_MAX: usize = 128;
const ENTRIES_SHOWN_MAX: usize = 3;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Boolean(boolean) => write!(f, "{boolean}"),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Float(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "{}", Cut(text)),
            Value::Opaque => f.write_str("…"),
            Value::List(list) => {
                f.write_char('[')?;
                for (index, value) in list.iter().take(ENTRIES_SHOWN_MAX).enumerate() {
                    write!(f, "{}{}", if index > 0 { ", " } else { "" }, Flat(value))?;
                }
                f.write_str(if list.len() > ENTRIES_SHOWN_MAX { ", …]" } else { "]" })
            }
            Value::Map(map) => {
                f.write_char('{')?;
                for (index, (key, value)) in map.entries().iter().take(ENTRIES_SHOWN_MAX).enumerate() {
                    write!(f, "{}{}={}", if index > 0 { ", " } else { "" }, Cut(key), Flat(value))?;
                }
                f.write_str(if map.entries().len() > ENTRIES_SHOWN_MAX { ", …}" } else { "}" })
            }
        }
    }
}

/// A value inside of a list or map; its own entries are not shown, so that messages do not nest.
struct Flat<'v>(&'v Value<'v>);

impl fmt::Display for Flat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::List(_) => f.write_str("[…]"),
            Value::Map(_) => f.write_str("{…}"),
            value => write!(f, "{}", Shown(value)),
        }
    }
}

pub(super) struct Cut<'t>(pub(super) &'t str);

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(CHARACTERS_SHOWN_MAX) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}
