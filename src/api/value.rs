//! What a request's body says, whichever protocol it came in.

use std::borrow::Cow;

/// How deep a body may be nested. The deepest input of the API has six levels.
pub const DEPTH_MAX: usize = 64;

/// How many values a body may hold. Small values take more memory decoded than encoded: this bounds a
/// request's decoded size, whatever its body's limit.
pub const VALUES_MAX: usize = 65_536;

/// A decoded value; its text is borrowed from the body where it can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    /// Null or undefined: the same as absent.
    Null,
    Boolean(bool),
    Integer(i64),
    /// A number that is not an integer of 64 bits.
    Float(f64),
    Text(Cow<'a, str>),
    /// What no member of the API is, such as a byte string; legal in members that are not known here.
    Opaque,
    List(Vec<Value<'a>>),
    Map(Map<'a>),
}

impl Value<'_> {
    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::Opaque => "binary data",
            Value::List(_) => "a list",
            Value::Map(_) => "a structure or map",
        }
    }

    /// The integer that it is; `2.0` is one.
    pub(super) fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            // Above 2^53 a float is no longer exact, and no member of the API is as large.
            Value::Float(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
                Some(*number as i64)
            }
            _ => None,
        }
    }
}

/// The members of a structure or the entries of a map: every key once, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Map<'a> {
    /// Of several entries with the same key the last one stands.
    pub(super) fn new(mut entries: Vec<(Cow<'a, str>, Value<'a>)>) -> Map<'a> {
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(a, _), (b, _)| a == b);
        Map(entries)
    }

    /// The value of a key, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        let at = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(key)).ok()?;
        Some(&self.0[at].1).filter(|value| !matches!(value, Value::Null))
    }

    /// All entries in order of their keys.
    pub(super) fn entries(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        &self.0
    }
}

/// Why a body could not be decoded; the text is for the client.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct DecodeError(pub(super) String);

/// How much more a decoder may take in.
pub(super) struct Budget {
    values: usize,
}

impl Budget {
    /// A whole request's budget.
    pub(super) fn new() -> Budget {
        Budget { values: VALUES_MAX }
    }

    /// Accounts for one value at a depth (the body itself is at 1), or says why it is one too many.
    pub(super) fn take(&mut self, depth: usize) -> Result<(), DecodeError> {
        if depth > DEPTH_MAX {
            return Err(DecodeError(format!("it is nested deeper than {DEPTH_MAX} levels")));
        }
        self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| DecodeError(format!("it holds more than {VALUES_MAX} values")))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equal_keys_the_last_one_stands() {
        let entry = |key: &'static str, number| (Cow::Borrowed(key), Value::Integer(number));
        let map = Map::new(vec![entry("b", 1), entry("a", 2), entry("b", 3), entry("b", 4), entry("a", 5)]);
        assert_eq!(map.entries(), [entry("a", 5), entry("b", 4)]);
        assert_eq!(map.get("b"), Some(&Value::Integer(4)));
        assert_eq!(map.get("c"), None);
    }

    #[test]
    fn null_is_absent() {
        let map = Map::new(vec![("a".into(), Value::Null)]);
        assert_eq!(map.get("a"), None);
    }

    #[test]
    fn whole_floats_are_integers() {
        assert_eq!(Value::Float(2.0).as_integer(), Some(2));
        for value in [Value::Float(2.5), Value::Float(1e300), Value::Float(f64::NAN), Value::Text("2".into())]
        {
            assert_eq!(value.as_integer(), None);
        }
    }
}
