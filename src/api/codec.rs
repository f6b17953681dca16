//! What a protocol's encoding is, and the writer of structures on top of it.

use std::marker::PhantomData;

use crate::model::EpochMs;

use super::value::{DecodeError, Map};

/// The two protocols of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// awsJson1.1.
    Json,
    /// Smithy RPC v2 CBOR.
    Cbor,
}

impl Protocol {
    /// The media type of its bodies.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Protocol::Json => "application/x-amz-json-1.1",
            Protocol::Cbor => "application/cbor",
        }
    }

    /// Its short name, for logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Protocol::Json => "json",
            Protocol::Cbor => "cbor",
        }
    }
}

/// An encoding: decodes bodies into values, and writes the tokens of answers into octets.
///
/// The tokens of a structure are `structure_start`, for each member `member` and a value, `structure_end`;
/// those of lists and maps likewise. Callers use [`Structure`], which cannot leave one out.
pub(super) trait Codec {
    /// The protocol that it is the encoding of.
    const PROTOCOL: Protocol;

    /// The structure in a body. An empty body is an empty structure.
    fn decode(octets: &[u8]) -> Result<Map<'_>, DecodeError>;

    /// Returns where the structure starts, which `member` wants to know.
    fn structure_start(out: &mut Vec<u8>) -> usize;
    fn member(out: &mut Vec<u8>, start: usize, name: &str);
    fn structure_end(out: &mut Vec<u8>);

    fn list_start(out: &mut Vec<u8>, len: usize);
    fn element(out: &mut Vec<u8>);
    fn list_end(out: &mut Vec<u8>);

    fn map_start(out: &mut Vec<u8>, len: usize);
    fn key(out: &mut Vec<u8>, key: &str);
    fn map_end(out: &mut Vec<u8>);

    fn text(out: &mut Vec<u8>, text: &str);
    fn integer(out: &mut Vec<u8>, number: u64);
    fn time(out: &mut Vec<u8>, time: EpochMs);
}

/// Writes a structure into `out`, whose members `write` adds.
pub(super) fn structure<C: Codec>(out: &mut Vec<u8>, write: impl FnOnce(&mut Structure<'_, C>)) {
    let start = C::structure_start(out);
    write(&mut Structure { out, start, codec: PhantomData });
    C::structure_end(out);
}

/// A structure that is being written. Members that are `None` are left out.
pub(super) struct Structure<'o, C> {
    out: &'o mut Vec<u8>,
    start: usize,
    codec: PhantomData<C>,
}

impl<C: Codec> Structure<'_, C> {
    /// A string.
    pub(super) fn text<'t>(&mut self, name: &str, text: impl Into<Option<&'t str>>) {
        if let Some(text) = text.into() {
            C::member(self.out, self.start, name);
            C::text(self.out, text);
        }
    }

    /// An integer or a long.
    pub(super) fn integer(&mut self, name: &str, number: impl Into<Option<u64>>) {
        if let Some(number) = number.into() {
            C::member(self.out, self.start, name);
            C::integer(self.out, number);
        }
    }

    /// A timestamp.
    pub(super) fn time(&mut self, name: &str, time: EpochMs) {
        C::member(self.out, self.start, name);
        C::time(self.out, time);
    }

    /// A structure.
    pub(super) fn structure(&mut self, name: &str, write: impl FnOnce(&mut Structure<'_, C>)) {
        C::member(self.out, self.start, name);
        structure(self.out, write);
    }

    /// A list of structures.
    pub(super) fn structures<T>(
        &mut self,
        name: &str,
        items: impl ExactSizeIterator<Item = T>,
        write: impl Fn(&mut Structure<'_, C>, T),
    ) {
        C::member(self.out, self.start, name);
        C::list_start(self.out, items.len());
        for item in items {
            C::element(self.out);
            structure(self.out, |structure| write(structure, item));
        }
        C::list_end(self.out);
    }

    /// A map of strings.
    pub(super) fn map<'t>(&mut self, name: &str, pairs: impl Iterator<Item = (&'t str, &'t str)> + Clone) {
        C::member(self.out, self.start, name);
        C::map_start(self.out, pairs.clone().count());
        for (key, value) in pairs {
            C::key(self.out, key);
            C::text(self.out, value);
        }
        C::map_end(self.out);
    }
}
