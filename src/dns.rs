//! The DNS protocol: from a query to a reply.
//!
//! [`answer()`] turns the bytes of a query into the bytes of its reply, for every transport. The general path reads the
//! query, [`resolve`]s its name (which follows canonical names through a zone, collects additional records, and knows
//! neither transports nor messages), writes the records section by section, and finishes with OPT record and header. An
//! optional `short_path` gives identical replies to the most frequent queries, at a lower cost. [`udp`] and [`tcp`] receive
//! and send, limited by [`rate_limit`]; [`server`] binds the sockets; all of them count in [`metrics`].
//!
//! | RFC | what |
//! | --- | --- |
//! | 1034, 1035 | algorithm, messages, UDP and TCP |
//! | 2181 | rrsets, truncation, zone cuts |
//! | 2308 | negative answers |
//! | 2782 | SRV and its additional records |
//! | 4592, 6672, 8020 | wildcards, DNAME, empty non-terminals |
//! | 6891, 8914 | EDNS(0), extended errors |
//! | 7873, 9018 | cookies, see [`cookie`] |
//! | 5001 | NSID: the server's id, and the number of the newest change |
//! | 8945 | TSIG: no key is known, so signed queries get NOTAUTH with the error BADKEY |
//! | 9471 | glue addresses, without which a referral can't be followed, or TC |
//! | 7766, 7828 | DNS over TCP, see [`tcp`] |
//! | 7858, 8484, 9250 | DNS over TLS, HTTPS and QUIC, see [`tcp`], `https` and `quic`; certificates: [`tls`] |
//! | 7830, 8467 | padding of replies over TLS and HTTPS |
//! | 5936, 1995 | zone transfers, see [`transfer`] |
//! | 1996 | NOTIFY to secondaries |
//! | 8482 | one rrset for ANY |
//!
//! Used by `app`, which starts [`DnsServer`] on a [`crate::snapshot::Snapshot`].

pub mod answer;
pub mod cookie;
mod draft;
mod https;
pub mod metrics;
mod notify;
mod options;
mod place;
mod query;
mod quic;
pub mod rate_limit;
mod reply;
pub mod resolve;
mod sections;
pub mod server;
mod short_path;
pub mod tcp;
pub mod tls;
pub mod transfer;
pub mod udp;
mod writer;

pub use answer::{Common, Limits, Transport, Verdict, View, Worker, answer, prefetch};
pub use cookie::{CookieSecret, CookieSecrets};
pub use metrics::{DnsCollector, DnsMetrics, WorkerMetrics};
pub use rate_limit::RateLimit;
pub use reply::{PLAIN_UDP_OCTETS_MAX, Reply, TCP_OCTETS_MAX, UDP_OCTETS_MAX};
pub use server::{BoundSockets, DnsServer, DnsSettings, Encrypted, EncryptedSockets};
pub use tcp::{StreamProtocol, TcpCounts, TcpGauge, TcpLimits, TcpServer};
pub use tls::{Certificate, TlsError};
pub use transfer::Transfers;
pub use udp::UdpLoop;
