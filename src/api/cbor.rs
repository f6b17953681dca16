//! The encoding of Smithy RPC v2 CBOR, after RFC 8949.
//!
//! minicbor reads single tokens; this module builds values of them and limits their depth and number.

use std::borrow::Cow;

use minicbor::data::{Tag, Type};
use minicbor::decode::{Decoder, Error};

use crate::model::EpochMs;

use super::codec::{Codec, Protocol};
use super::value::{Budget, DecodeError, Map, Value};

pub(super) struct Cbor;

/// The tag for epoch-based date and time (RFC 8949 §3.4.2), the only one that Smithy uses for timestamps.
const TAG_TIME: u64 = 1;

/// Most members of a structure in an answer. The head of a structure is one byte, which counts members as they are
/// written, and holds at most this number (RFC 8949 §3).
const MEMBERS_MAX: u8 = 23;

impl Codec for Cbor {
    const PROTOCOL: Protocol = Protocol::Cbor;

    fn decode(bytes: &[u8]) -> Result<Map<'_>, DecodeError> {
        if bytes.is_empty() {
            return Ok(Map::default());
        }
        let mut reader = Reader { decoder: Decoder::new(bytes), budget: Budget::new() };
        let value =
            reader.value(1).map_err(|error| DecodeError(format!("The body is not usable CBOR: {error}.")))?;
        if reader.decoder.position() != bytes.len() {
            return Err(DecodeError("The body has bytes after its CBOR map.".into()));
        }
        match value {
            Value::Map(map) => Ok(map),
            other => Err(DecodeError(format!("The body is {} where a CBOR map is expected.", other.kind()))),
        }
    }

    fn structure_start(out: &mut Vec<u8>) -> usize {
        head(out, MAP, 0);
        out.len() - 1
    }

    fn member(out: &mut Vec<u8>, start: usize, name: &str) {
        debug_assert!(out[start] < MAP | MEMBERS_MAX, "a structure has at most {MEMBERS_MAX} members");
        out[start] += 1;
        Cbor::text(out, name);
    }

    fn structure_end(_out: &mut Vec<u8>) {}

    fn list_start(out: &mut Vec<u8>, len: usize) {
        head(out, ARRAY, len as u64);
    }

    fn element(_out: &mut Vec<u8>) {}

    fn list_end(_out: &mut Vec<u8>) {}

    fn map_start(out: &mut Vec<u8>, len: usize) {
        head(out, MAP, len as u64);
    }

    fn key(out: &mut Vec<u8>, key: &str) {
        Cbor::text(out, key);
    }

    fn map_end(_out: &mut Vec<u8>) {}

    fn text(out: &mut Vec<u8>, text: &str) {
        head(out, TEXT, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }

    fn integer(out: &mut Vec<u8>, number: u64) {
        head(out, UNSIGNED, number);
    }

    fn time(out: &mut Vec<u8>, time: EpochMs) {
        head(out, TAG, TAG_TIME);
        out.push(FLOAT_64);
        out.extend_from_slice(&(time.max(0) as f64 / 1000.0).to_be_bytes());
    }
}

// Major types in the top three bits of an item's first byte (RFC 8949 §3.1), and the whole first byte of a double.
const UNSIGNED: u8 = 0 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const TAG: u8 = 6 << 5;
const FLOAT_64: u8 = 0xfb;

/// Appends the head of an item: its major type, and its argument in the shortest form (RFC 8949 §3).
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => out.push(major | bytes[7]),
        24..0x100 => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..0x1_0000 => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

struct Reader<'a> {
    decoder: Decoder<'a>,
    budget: Budget,
}

impl<'a> Reader<'a> {
    /// Decodes the next item. No memory is reserved for declared lengths, which may be far longer than the body.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, DecodeError> {
        self.budget.take(depth)?;
        let decoder = &mut self.decoder;
        Ok(match decoder.datatype().map_err(broken)? {
            Type::Null | Type::Undefined => {
                decoder.set_position(decoder.position() + 1);
                Value::Null
            }
            Type::Bool => Value::Boolean(decoder.bool().map_err(broken)?),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int => {
                let number = i128::from(decoder.int().map_err(broken)?);
                i64::try_from(number).map_or(Value::Float(number as f64), Value::Integer)
            }
            Type::F16 | Type::F32 | Type::F64 => Value::Float(decoder.f64().map_err(broken)?),
            Type::Simple => {
                decoder.simple().map_err(broken)?;
                Value::Opaque
            }
            Type::Bytes | Type::BytesIndef => {
                for chunk in decoder.bytes_iter().map_err(broken)? {
                    chunk.map_err(broken)?;
                }
                Value::Opaque
            }
            Type::String | Type::StringIndef => Value::Text(self.text()?),
            Type::Array | Type::ArrayIndef => {
                let len = decoder.array().map_err(broken)?;
                let mut list = Vec::new();
                while self.has_more(len, list.len())? {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            Type::Map | Type::MapIndef => {
                let len = decoder.map().map_err(broken)?;
                let mut entries = Vec::new();
                while self.has_more(len, entries.len())? {
                    entries.push((self.text()?, self.value(depth + 1)?));
                }
                Value::Map(Map::new(entries))
            }
            Type::Tag => {
                let tag = decoder.tag().map_err(broken)?;
                // Other tags are for values, such as big numbers, that no member of the API has.
                match self.value(depth + 1)? {
                    number @ (Value::Integer(_) | Value::Float(_)) => number,
                    other if tag == Tag::new(TAG_TIME) => {
                        return Err(DecodeError(format!("it has {} as a time", other.kind())));
                    }
                    _ => Value::Opaque,
                }
            }
            Type::Break => return Err(DecodeError("it has a break outside of an indefinite length".into())),
            Type::Unknown(byte) => {
                return Err(DecodeError(format!("it has the reserved byte {byte:#04x}")));
            }
        })
    }

    /// Returns true if an array or map has more entries than `read`. A `len` of `None` is an indefinite length, whose
    /// break is consumed here.
    fn has_more(&mut self, len: Option<u64>, read: usize) -> Result<bool, DecodeError> {
        if let Some(len) = len {
            return Ok((read as u64) < len);
        }
        let ends = self.decoder.datatype().map_err(broken)? == Type::Break;
        if ends {
            self.decoder.set_position(self.decoder.position() + 1);
        }
        Ok(!ends)
    }

    fn text(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        match self.decoder.datatype().map_err(broken)? {
            Type::String => Ok(Cow::Borrowed(self.decoder.str().map_err(broken)?)),
            Type::StringIndef => {
                let chunks = self.decoder.str_iter().map_err(broken)?;
                Ok(Cow::Owned(chunks.collect::<Result<_, _>>().map_err(broken)?))
            }
            other => Err(DecodeError(format!("it has a key of type {other}"))),
        }
    }
}

fn broken(error: Error) -> DecodeError {
    DecodeError(error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json::Json;
    use super::super::value::{DEPTH_MAX, VALUES_MAX};
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// The CBOR of `{"a": item}`, from the item's CBOR in hexadecimal digits.
    fn body(item: &str) -> Vec<u8> {
        bytes(&format!("a16161{item}"))
    }

    fn integers(numbers: &[i64]) -> Vec<Value<'static>> {
        numbers.iter().map(|number| Value::Integer(*number)).collect()
    }

    #[test]
    fn the_examples_of_rfc_8949_are_decoded() {
        let cases = [
            ("00", Value::Integer(0)),
            ("17", Value::Integer(23)),
            ("1818", Value::Integer(24)),
            ("1903e8", Value::Integer(1000)),
            ("1a000f4240", Value::Integer(1_000_000)),
            ("1b000000e8d4a51000", Value::Integer(1_000_000_000_000)),
            ("1bffffffffffffffff", Value::Float(18446744073709551615.0)),
            ("3bffffffffffffffff", Value::Float(-18446744073709551616.0)),
            ("20", Value::Integer(-1)),
            ("3863", Value::Integer(-100)),
            ("38ff", Value::Integer(-256)),
            ("3903e7", Value::Integer(-1000)),
            ("f90000", Value::Float(0.0)),
            ("f93c00", Value::Float(1.0)),
            ("f93e00", Value::Float(1.5)),
            ("f97bff", Value::Float(65504.0)),
            ("fa47c35000", Value::Float(100000.0)),
            ("fb3ff199999999999a", Value::Float(1.1)),
            ("fbc010666666666666", Value::Float(-4.1)),
            ("f97c00", Value::Float(f64::INFINITY)),
            ("f4", Value::Boolean(false)),
            ("f5", Value::Boolean(true)),
            ("f0", Value::Opaque),
            ("f8ff", Value::Opaque),
            ("c074323031332d30332d32315432303a30343a30305a", Value::Opaque),
            ("c11a514b67b0", Value::Integer(1_363_896_240)),
            ("c1fb41d452d9ec200000", Value::Float(1_363_896_240.5)),
            ("c249010000000000000000", Value::Opaque),
            ("40", Value::Opaque),
            ("4401020304", Value::Opaque),
            ("5f42010243030405ff", Value::Opaque),
            ("60", Value::Text("".into())),
            ("6161", Value::Text("a".into())),
            ("62225c", Value::Text("\"\\".into())),
            ("62c3bc", Value::Text("ü".into())),
            ("64f0908591", Value::Text("𐅑".into())),
            ("7f657374726561646d696e67ff", Value::Text("streaming".into())),
            ("80", Value::List(vec![])),
            ("83010203", Value::List(integers(&[1, 2, 3]))),
            ("9fff", Value::List(vec![])),
            (
                "9f018202039f0405ffff",
                Value::List(vec![
                    Value::Integer(1),
                    Value::List(integers(&[2, 3])),
                    Value::List(integers(&[4, 5])),
                ]),
            ),
            ("a0", Value::Map(Map::default())),
            (
                "bf6346756ef563416d7421ff",
                Value::Map(Map::new(vec![
                    ("Fun".into(), Value::Boolean(true)),
                    ("Amt".into(), Value::Integer(-2)),
                ])),
            ),
            (
                "bf61610161629f0203ffff",
                Value::Map(Map::new(vec![
                    ("a".into(), Value::Integer(1)),
                    ("b".into(), Value::List(integers(&[2, 3]))),
                ])),
            ),
        ];
        for (item, value) in cases {
            assert_eq!(Cbor::decode(&body(item)).unwrap().get("a"), Some(&value), "{item}");
        }
        for absent in ["f6", "f7"] {
            assert_eq!(Cbor::decode(&body(absent)).unwrap().get("a"), None);
        }
        assert_eq!(Cbor::decode(b"").unwrap(), Map::default());
        assert_eq!(Cbor::decode(&bytes("a2616101616102")).unwrap().get("a"), Some(&Value::Integer(2)));
    }

    #[test]
    fn malformed_bodies_are_refused() {
        let bodies = [
            "80",
            "00",
            "6161",
            "a1",
            "a161",
            "a16161",
            "a10102",
            "a0a0",
            "a000",
            "bf6161ff",
            "bf",
            "ff",
            "fc",
            // Declared lengths of 2^64 - 1, without that many entries or bytes.
            "bbffffffffffffffff",
            "a161619bffffffffffffffff",
            "a161617bffffffffffffffff",
            "a161615bffffffffffffffff",
            // Reserved additional information, a break alone, chunks of another type, bad UTF-8, text as a time.
            "a161611c",
            "a16161ff",
            "a161617f4161ff",
            "a161615f6161ff",
            "a1616161ff",
            "a16161c16161",
            "a16161f8",
        ];
        for hex in bodies {
            assert!(Cbor::decode(&bytes(hex)).is_err(), "{hex}");
        }
    }

    #[test]
    fn depth_and_count_are_limited() {
        let nested = |depth: usize| body(&("81".repeat(depth - 2) + "80"));
        assert!(Cbor::decode(&nested(DEPTH_MAX)).is_ok());
        assert!(Cbor::decode(&nested(DEPTH_MAX + 1)).is_err());
        for byte in [0x81, 0x9f, 0xbf, 0xc1, 0xd8] {
            assert!(Cbor::decode(&vec![byte; 1 << 20]).is_err());
        }
        let wide = |count: usize| body(&("9f".to_string() + &"00".repeat(count - 2) + "ff"));
        assert!(Cbor::decode(&wide(VALUES_MAX)).is_ok());
        assert!(Cbor::decode(&wide(VALUES_MAX + 1)).is_err());
    }

    #[test]
    fn heads_have_the_shortest_form() {
        let cases = [
            (0, "00"),
            (23, "17"),
            (24, "1818"),
            (255, "18ff"),
            (256, "190100"),
            (65535, "19ffff"),
            (65536, "1a00010000"),
            (u64::from(u32::MAX), "1affffffff"),
            (1 << 32, "1b0000000100000000"),
            (u64::MAX, "1bffffffffffffffff"),
        ];
        for (number, hex) in cases {
            let mut out = Vec::new();
            Cbor::integer(&mut out, number);
            assert_eq!(out, bytes(hex));
        }
    }

    fn value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Boolean),
            any::<i64>().prop_map(Value::Integer),
            any::<i32>().prop_map(|number| Value::Float(f64::from(number) + 0.5)),
            ".{0,8}".prop_map(|text| Value::Text(text.into())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::vec((".{0,4}", inner), 0..4).prop_map(|entries| Value::Map(Map::new(
                    entries.into_iter().map(|(key, value)| (Cow::Owned(key), value)).collect()
                ))),
            ]
        })
    }

    fn encode(value: &Value<'_>, json: &mut Vec<u8>, cbor: &mut Vec<u8>) {
        match value {
            Value::Null | Value::Opaque => {
                json.extend_from_slice(b"null");
                cbor.push(0xf6);
            }
            Value::Boolean(boolean) => {
                json.extend_from_slice(boolean.to_string().as_bytes());
                cbor.push(0xf4 + u8::from(*boolean));
            }
            Value::Integer(number) => {
                json.extend_from_slice(number.to_string().as_bytes());
                match u64::try_from(*number) {
                    Ok(number) => Cbor::integer(cbor, number),
                    Err(_) => head(cbor, 1 << 5, !*number as u64),
                }
            }
            Value::Float(number) => {
                json.extend_from_slice(format!("{number:?}").as_bytes());
                cbor.push(FLOAT_64);
                cbor.extend_from_slice(&number.to_be_bytes());
            }
            Value::Text(text) => {
                Json::text(json, text);
                Cbor::text(cbor, text);
            }
            Value::List(list) => {
                Json::list_start(json, list.len());
                Cbor::list_start(cbor, list.len());
                for value in list {
                    Json::element(json);
                    encode(value, json, cbor);
                }
                Json::list_end(json);
            }
            Value::Map(map) => {
                Json::map_start(json, 0);
                Cbor::map_start(cbor, map.entries().len());
                for (key, value) in map.entries() {
                    Json::key(json, key);
                    Cbor::key(cbor, key);
                    encode(value, json, cbor);
                }
                Json::map_end(json);
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Cbor::decode(&bytes);
        }

        #[test]
        fn json_and_cbor_of_a_value_are_decoded_alike(value in value()) {
            let value = Value::Map(Map::new(vec![("a".into(), value)]));
            let (mut json, mut cbor) = (Vec::new(), Vec::new());
            encode(&value, &mut json, &mut cbor);
            let from_json = Json::decode(&json).unwrap();
            prop_assert_eq!(&from_json, &Cbor::decode(&cbor).unwrap());
            prop_assert_eq!(Value::Map(from_json), value);
        }
    }
}
