//! The DNS protocol: from a query to a reply.
//!
//! [`resolve`] follows canonical names through a zone and collects additional records; it knows no
//! transport and no message format. [`handler`] makes hickory's messages of it and is the only place that
//! knows hickory-server. [`udp`] receives and sends, limited by [`rate_limit`]; [`server`] binds the sockets; all count in
//! [`metrics`].
//!
//! | RFC | what |
//! | --- | --- |
//! | 1034, 1035 | algorithm, messages, UDP and TCP |
//! | 2181 | rrsets, truncation, zone cuts |
//! | 2308 | negative answers |
//! | 2782 | SRV and its additional records |
//! | 4592, 6672, 8020 | wildcards, DNAME, empty non-terminals |
//! | 6891, 8914 | EDNS(0), extended errors |
//! | 8482 | one rrset for ANY |
//!
//! Who calls it: `app` starts [`DnsServer`] on a [`crate::snapshot::Snapshot`].

pub mod answer;
pub mod deferred;
pub mod handler;
pub mod metrics;
pub mod rate_limit;
pub mod resolve;
pub mod server;
pub mod udp;

pub use answer::{Common, Limits, Reply, Transport, Verdict, View, Worker, answer};
pub use deferred::Deferred;
pub use handler::{Handler, UDP_OCTETS_MAX};
pub use metrics::{DnsMetrics, WorkerMetrics};
pub use rate_limit::RateLimit;
pub use server::{BoundSockets, DnsServer, DnsSettings};
pub use udp::UdpLoop;
