//! Invariants that hold for any input, shared by the fuzz targets in `../targets` and by `tests/fuzz_corpus.rs`.
//!
//! Each module has one `check(input)`, which panics if the product panics or if an invariant is broken.

pub mod answer;
pub mod api;
pub mod framer;
pub mod message;
pub mod name;
pub mod rdata;
pub mod world;
pub mod zone_file;

pub use api::{cbor, json};
