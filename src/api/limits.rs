//! The limits on what clients of the API may use, with their defaults.

/// Limits on the memory, time and connections that clients of the API may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Longest body of a request in bytes; a longer one is answered with 413.
    pub body_bytes_max: usize,
    /// Number of connections at a time. For another one, the longest-idle connection is closed; if none is idle, the new
    /// one waits for a connection to end.
    pub connections_max: usize,
    /// Milliseconds in which a body has to arrive, and again in which the registry has to confirm a change.
    pub request_timeout_ms: u64,
    /// Longest request line with headers in bytes, at least 8 KiB. The limit is not exact; twice as much is always answered
    /// with 431.
    pub header_bytes_max: usize,
    /// Bytes of all answers that clients have not read yet, without answers of up to 16 KiB. An answer that has no room
    /// waits up to `request_timeout_ms`, and is then replaced by a 503.
    pub answer_bytes_in_flight_max: usize,
    /// Milliseconds in which the headers of a connection's first request have to arrive.
    pub first_header_timeout_ms: u64,
    /// Milliseconds after which the connection of a client that reads nothing of its answer is closed.
    pub write_stall_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 1 << 20,
            connections_max: 1024,
            request_timeout_ms: 30_000,
            header_bytes_max: 64 << 10,
            answer_bytes_in_flight_max: 256 << 20,
            first_header_timeout_ms: 10_000,
            write_stall_ms: 15_000,
        }
    }
}
