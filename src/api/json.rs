//! The encoding of awsJson1.1: serde_json decodes requests; answers are written here, without intermediate values.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::model::EpochMs;

use super::codec::{Codec, Protocol};
use super::value::{Budget, DecodeError, Map, Value};

pub(super) struct Json;

impl Codec for Json {
    const PROTOCOL: Protocol = Protocol::Json;

    fn decode(bytes: &[u8]) -> Result<Map<'_>, DecodeError> {
        if bytes.trim_ascii().is_empty() {
            return Ok(Map::default());
        }
        let broken = |error| DecodeError(format!("The body is not usable JSON: {error}."));
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let mut budget = Budget::new();
        let value = Node { depth: 1, budget: &mut budget }.deserialize(&mut deserializer).map_err(broken)?;
        deserializer.end().map_err(broken)?;
        match value {
            Value::Map(map) => Ok(map),
            other => {
                Err(DecodeError(format!("The body is {} where a JSON object is expected.", other.kind())))
            }
        }
    }

    fn structure_start(out: &mut Vec<u8>) -> usize {
        out.push(b'{');
        out.len()
    }

    fn member(out: &mut Vec<u8>, _start: usize, name: &str) {
        separate(out);
        // Members of the model are named with letters only, so nothing needs escaping.
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
    }

    fn structure_end(out: &mut Vec<u8>) {
        out.push(b'}');
    }

    fn list_start(out: &mut Vec<u8>, _len: usize) {
        out.push(b'[');
    }

    fn element(out: &mut Vec<u8>) {
        separate(out);
    }

    fn list_end(out: &mut Vec<u8>) {
        out.push(b']');
    }

    fn map_start(out: &mut Vec<u8>, _len: usize) {
        out.push(b'{');
    }

    fn key(out: &mut Vec<u8>, key: &str) {
        separate(out);
        Json::text(out, key);
        out.push(b':');
    }

    fn map_end(out: &mut Vec<u8>) {
        out.push(b'}');
    }

    fn text(out: &mut Vec<u8>, text: &str) {
        out.push(b'"');
        let mut rest = text.as_bytes();
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
            out.extend_from_slice(&rest[..at]);
            match rest[at] {
                byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                byte => push_fmt(out, format_args!("\\u{byte:04x}")),
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        out.push(b'"');
    }

    fn integer(out: &mut Vec<u8>, number: u64) {
        push_fmt(out, format_args!("{number}"));
    }

    /// Writes seconds since 1970 with three decimals. The SDKs for Go and Rust, and Terraform, accept no other form.
    fn time(out: &mut Vec<u8>, time: EpochMs) {
        let time = time.max(0);
        push_fmt(out, format_args!("{}.{:03}", time / 1000, time % 1000));
    }
}

/// Appends a comma unless this is the first entry. A string that ends in `{` or `[` is no exception, because its last
/// byte in the buffer is its closing quote.
fn separate(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

fn push_fmt(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let _ = out.write_fmt(text);
}

/// Deserializer of a value at a known depth, which charges every value to the budget of the request.
struct Node<'b> {
    depth: usize,
    budget: &'b mut Budget,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        self.budget.take(self.depth).map_err(D::Error::custom)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, boolean: bool) -> Result<Value<'de>, E> {
        Ok(Value::Boolean(boolean))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value<'de>, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(number))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) =
            sequence.next_element_seed(Node { depth: self.depth + 1, budget: &mut *self.budget })?
        {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = object.next_key_seed(Key)? {
            let node = Node { depth: self.depth + 1, budget: &mut *self.budget };
            entries.push((key, object.next_value_seed(node)?));
        }
        Ok(Value::Map(Map::new(entries)))
    }
}

/// Deserializer of an object's key, which borrows from the body unless the key has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::value::{DEPTH_MAX, VALUES_MAX};
    use super::*;

    fn member(text: &str) -> Value<'_> {
        Json::decode(text.as_bytes()).unwrap().get("a").unwrap().clone()
    }

    #[test]
    fn values_are_decoded() {
        assert_eq!(member(r#"{"a": 5}"#), Value::Integer(5));
        assert_eq!(member(r#"{"a": -5}"#), Value::Integer(-5));
        assert_eq!(member(r#"{"a": 18446744073709551615}"#), Value::Float(18446744073709551615.0));
        assert_eq!(member(r#"{"a": 1.5}"#), Value::Float(1.5));
        assert_eq!(member(r#"{"a": true}"#), Value::Boolean(true));
        assert_eq!(member(r#"{"a": "x"}"#), Value::Text("x".into()));
        assert_eq!(member(r#"{"\u0061": "\ud83d\ude00\n"}"#), Value::Text("😀\n".into()));
        assert_eq!(member(r#"{"a": 1, "a": [null]}"#), Value::List(vec![Value::Null]));
        assert!(Json::decode(br#"{"a": null}"#).unwrap().get("a").is_none());
        for empty in [&b""[..], b" \r\n", b"{}"] {
            assert_eq!(Json::decode(empty).unwrap(), Map::default());
        }
    }

    #[test]
    fn bodies_that_are_not_json_objects_are_refused() {
        for body in [
            "[]",
            "1",
            "\"x\"",
            "null",
            "{",
            "{}x",
            "{\"a\":}",
            "{\"a\":1e999}",
            "{\"a\":\"\u{1}\"}",
            "{'a':1}",
        ] {
            assert!(Json::decode(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Json::decode(b"{\"a\":\"\xff\"}").is_err());
        assert!(Json::decode(br#"{"a":"\ud800"}"#).is_err());
    }

    #[test]
    fn depth_and_count_are_limited() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(Json::decode(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(Json::decode(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(Json::decode("[".repeat(1 << 20).as_bytes()).is_err());
        assert!(Json::decode("{\"a\":".repeat(1 << 18).as_bytes()).is_err());
        let wide = |count: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(count - 3));
        assert!(Json::decode(wide(VALUES_MAX).as_bytes()).is_ok());
        assert!(Json::decode(wide(VALUES_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn times_are_seconds_with_milliseconds() {
        for (time, text) in
            [(1_587_055_860_121, "1587055860.121"), (1_000, "1.000"), (7, "0.007"), (-1, "0.000")]
        {
            let mut out = Vec::new();
            Json::time(&mut out, time);
            assert_eq!(out, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Json::decode(&bytes);
        }

        #[test]
        fn serde_json_reads_back_any_text(text in ".*") {
            let mut out = Vec::new();
            Json::text(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
