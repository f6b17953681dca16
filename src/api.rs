//! The Cloud Map HTTP API: all 30 operations over awsJson1.1 and Smithy RPC v2 CBOR, on one port.
//!
//! A request goes through five steps, each of which knows nothing of the ones after it: `route` finds the
//! protocol and the [`Action`]; a `codec` (`json`, `cbor`) decodes the body into one kind of value; `input`
//! checks it against the action's shape and names everything that is wrong in AWS's words;
//! `command` turns it into a write of the registry, or `query` answers it from the registry's state;
//! `output` writes the answer through the same codec, straight into the response's octets.
//!
//! Who calls it: `main` runs [`serve`]; `admin` reads [`ApiMetrics`]; [`check_input`] is for who wants to know what a
//! body is worth without sending it, as fuzzers do.
//!
//! What it promises: AWS's JSON shapes do not leave this module. Whatever arrives costs bounded memory and time
//! ([`Limits`], [`VALUES_MAX`], [`DEPTH_MAX`]) and gets an answer in the protocol it came in. Any host,
//! path, region and signature is accepted; signatures are not verified.
//!
//! Sources: the Cloud Map API reference and service model, version 2017-03-14; the Smithy specifications of
//! awsJson1_1 and rpcv2Cbor; RFC 8949.

mod action;
mod activity;
mod answers;
mod body;
mod caller;
mod cbor;
mod codec;
mod command;
mod connection;
mod error;
mod input;
mod inputs;
mod json;
mod limits;
mod metrics;
mod output;
mod pattern;
mod query;
mod request;
mod route;
mod server;
mod shape;
mod sought;
mod stream;
#[cfg(test)]
mod tests;
mod token;
mod value;
mod violation;

pub use action::Action;
pub use codec::Protocol;
pub use limits::Limits;
pub use metrics::{ApiMetrics, Outcomes};
pub use request::{Refusal, check_input};
pub use server::serve;
pub use value::{DEPTH_MAX, VALUES_MAX};
