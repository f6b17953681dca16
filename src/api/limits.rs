//! What clients of the API may use.

use super::answers::ANSWER_OCTETS_IN_FLIGHT_MAX;

/// How long a new connection may take for the headers of its first request.
const FIRST_HEADER_TIMEOUT_MS: u64 = 10_000;

/// How long a client may take no octet of its answer.
const WRITE_STALL_MS: u64 = 15_000;

/// What clients may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Octets of a request's body; more is answered with 413.
    pub body_bytes_max: usize,
    /// Connections at a time; for another, the one that is idle longest is closed, or it waits for one to end.
    pub connections_max: usize,
    /// Milliseconds for a body to arrive, and again for a change to be confirmed.
    pub request_timeout_ms: u64,
    /// Octets of a request's line and headers, at least 8 KiB; twice as much is always answered with 431.
    pub header_bytes_max: usize,
    /// Octets of all answers that clients have not read yet, those up to 16 KiB aside; an answer for which there is
    /// no room waits up to `request_timeout_ms`, then it is 503.
    pub answer_octets_in_flight_max: usize,
    /// Milliseconds for the headers of a connection's first request to arrive.
    pub first_header_timeout_ms: u64,
    /// Milliseconds in which a client takes no octet of its answer before its connection is cut.
    pub write_stall_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 1 << 20,
            connections_max: 1024,
            request_timeout_ms: 30_000,
            header_bytes_max: 64 << 10,
            answer_octets_in_flight_max: ANSWER_OCTETS_IN_FLIGHT_MAX,
            first_header_timeout_ms: FIRST_HEADER_TIMEOUT_MS,
            write_stall_ms: WRITE_STALL_MS,
        }
    }
}
