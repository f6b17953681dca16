//! The interface of the two encodings, and the writer of structures that is built on it.

use std::marker::PhantomData;

use crate::model::EpochMs;

use super::value::{DecodeError, Map};

/// The two protocols of the API: awsJson1.1 has JSON bodies and the operation in the header X-Amz-Target; Smithy
/// RPC v2 CBOR has CBOR bodies and the operation in the request's path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Protocol {
    Json,
    Cbor,
}

impl Protocol {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Protocol::Json => "application/x-amz-json-1.1",
            Protocol::Cbor => "application/cbor",
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Protocol::Json => "json",
            Protocol::Cbor => "cbor",
        }
    }
}

/// An encoding: decodes request bodies, and appends the tokens of answers to a buffer.
///
/// A structure is written as `structure_start`, then `member` and a value for each member, then `structure_end`; lists
/// and maps likewise. Callers use [`Structure`], which calls these functions in the right order.
pub(super) trait Codec {
    const PROTOCOL: Protocol;

    /// Decodes the structure that a body holds. An empty body is an empty structure.
    fn decode(bytes: &[u8]) -> Result<Map<'_>, DecodeError>;

    /// Returns the position of the structure's head in `out`. `member` needs it, because CBOR counts members there.
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

pub(super) fn structure<C: Codec>(out: &mut Vec<u8>, write: impl FnOnce(&mut Structure<'_, C>)) {
    let start = C::structure_start(out);
    write(&mut Structure { out, start, codec: PhantomData });
    C::structure_end(out);
}

/// A structure that is being written, with a function for each kind of member. Members that are `None` are left out.
pub(super) struct Structure<'o, C> {
    out: &'o mut Vec<u8>,
    start: usize,
    codec: PhantomData<C>,
}

impl<C: Codec> Structure<'_, C> {
    pub(super) fn text<'t>(&mut self, name: &str, text: impl Into<Option<&'t str>>) {
        if let Some(text) = text.into() {
            C::member(self.out, self.start, name);
            C::text(self.out, text);
        }
    }

    pub(super) fn integer(&mut self, name: &str, number: impl Into<Option<u64>>) {
        if let Some(number) = number.into() {
            C::member(self.out, self.start, name);
            C::integer(self.out, number);
        }
    }

    pub(super) fn time(&mut self, name: &str, time: EpochMs) {
        C::member(self.out, self.start, name);
        C::time(self.out, time);
    }

    pub(super) fn structure(&mut self, name: &str, write: impl FnOnce(&mut Structure<'_, C>)) {
        C::member(self.out, self.start, name);
        structure(self.out, write);
    }

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
