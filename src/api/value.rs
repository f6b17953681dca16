//! Decoded request bodies in a form that does not depend on the protocol, and the limits on their size.

use std::borrow::Cow;

/// Deepest nesting of a body. The deepest input of the API has six levels.
pub const DEPTH_MAX: usize = 64;

/// Most values in a body. A decoded value may take far more memory than its encoding, so that the limit on the body's
/// bytes alone would not bound the memory of a request.
pub const VALUES_MAX: usize = 65_536;

/// A decoded value. Text is borrowed from the body unless the encoding has escapes or chunks.
///
/// `Null` is JSON null, and CBOR null or undefined; the API treats such a member as absent. `Float` is a number
/// with a fraction, or an integer that does not fit into 64 signed bits. `Opaque` is a value of a type that no
/// member of the API has, such as a byte string; unknown members may have such values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Opaque,
    List(Vec<Value<'a>>),
    Map(Map<'a>),
}

impl Value<'_> {
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

    /// Returns the value as an integer; a float without a fraction, such as `2.0`, counts as one.
    pub(super) fn as_integer(&self) -> Option<i64> {
        match self {
            Value::Integer(number) => Some(*number),
            // Floats above 2^53 are not exact integers, and no member of the API allows such large numbers.
            Value::Float(number) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
                Some(*number as i64)
            }
            _ => None,
        }
    }
}

/// The members of a structure or the entries of a map, with unique keys in ascending order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Map<'a>(Vec<(Cow<'a, str>, Value<'a>)>);

impl<'a> Map<'a> {
    /// Sorts the entries by key. The last of several entries with one key wins.
    pub(super) fn new(mut entries: Vec<(Cow<'a, str>, Value<'a>)>) -> Map<'a> {
        entries.reverse();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        entries.dedup_by(|(a, _), (b, _)| a == b);
        Map(entries)
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value<'a>> {
        let at = self.0.binary_search_by(|(candidate, _)| (**candidate).cmp(key)).ok()?;
        Some(&self.0[at].1).filter(|value| !matches!(value, Value::Null))
    }

    pub(super) fn entries(&self) -> &[(Cow<'a, str>, Value<'a>)] {
        &self.0
    }
}

/// A body that could not be decoded. The text is part of the answer to the client.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(super) struct DecodeError(pub(super) String);

/// The number of values that a decoder may still read, out of [`VALUES_MAX`] for each request.
pub(super) struct Budget {
    values: usize,
}

impl Budget {
    pub(super) fn new() -> Budget {
        Budget { values: VALUES_MAX }
    }

    /// Charges one value at the given depth, where the body itself has depth 1. The error names the exceeded limit.
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
    fn the_last_entry_of_a_key_wins() {
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
