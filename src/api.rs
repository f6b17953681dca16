//! The Cloud Map HTTP API: all 30 operations over awsJson1.1 and Smithy RPC v2 CBOR, on one port.
//!
//! A request goes through five steps, none of which depends on a later one: `route` finds the protocol and the
//! [`Action`]; a `codec` (`json` or `cbor`) decodes the body into a protocol-independent value; `input` reads the value into
//! the action's type of `inputs` and reports every violation in AWS's words; `command` turns that input into a write of the
//! registry, or `query` answers it from the registry's state; `output` encodes the answer with the codec of the request.
//!
//! Callers: `app` runs [`serve`]; `admin` exports [`ApiMetrics`]; fuzzers validate bodies with [`check_input`], without a
//! server.
//!
//! Guarantees: AWS's JSON shapes do not leave this module. Every request costs bounded memory and time ([`Limits`],
//! [`VALUES_MAX`], [`DEPTH_MAX`]) and is answered in the protocol it was made in. Any host, path, region and signature
//! is accepted; signatures are not verified.
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
mod drained;
mod error;
mod failure;
mod input;
mod inputs;
mod json;
mod limits;
mod maintenance;
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
mod targets;
#[cfg(test)]
mod tests;
mod token;
mod value;
mod violation;
mod webhook;

pub use action::Action;
pub use codec::Protocol;
pub use limits::Limits;
pub use metrics::{ApiMetrics, Outcomes};
pub use request::{InputError, check_input};
pub use server::{Options, serve};
pub use value::{DEPTH_MAX, VALUES_MAX};
pub use webhook::AlertLabels;
