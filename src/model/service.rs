//! Services: named groups of instances within a namespace.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, Origin, ServiceId, Tags};

/// A Cloud Map service, in the form that is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the other fields have the API's names and meanings")]
pub struct Service {
    /// The id, which is a hash of namespace and name ([`Identity::service_id`](super::Identity::service_id)).
    pub id: ServiceId,
    pub namespace_id: NamespaceId,
    /// The name in the case in which the user wrote it.
    pub name: String,
    pub description: Option<String>,
    /// True for a service of type `HTTP`, which has no DNS records; false for `DNS_HTTP`.
    pub api_only: bool,
    /// The DNS records of the instances; `None` for API-only services and for services whose records were removed.
    pub dns: Option<DnsConfig>,
    /// The health check that AWS runs with Route 53, and this server with [`crate::checks`].
    pub health_check: Option<HealthCheck>,
    pub custom_health_check: Option<CustomHealthCheck>,
    pub creator_request_id: Option<String>,
    pub created_ms: EpochMs,
    pub tags: Tags,
    pub attributes: BTreeMap<String, String>,
    /// The position in creation order; shadowed services are after all others.
    pub sequence: u64,
    /// Digest of the creating request. Another request with its idempotency token (`creator_request_id`) is a repetition only
    /// if the digest is equal too.
    pub request_digest: u64,
    /// The registry that defines the service; not stored, because only own services are.
    #[serde(skip)]
    pub origin: Origin,
}

impl Service {
    /// The number of the change that created the service, which distinguishes it from an earlier service with the same id.
    pub fn made_at(&self) -> u64 {
        match self.origin {
            Origin::Own => self.sequence,
            Origin::Shadowed { number } => number,
        }
    }

    /// The TTL in seconds of the service's records of this type; `None` when it has none.
    pub fn ttl_of(&self, rtype: DnsRecordType) -> Option<u32> {
        self.dns.as_ref()?.records.iter().find(|record| record.rtype == rtype).map(|record| record.ttl)
    }
}

/// DNS settings of a service (`DnsConfig` of the API): a routing policy, and one or more record types with their TTLs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct DnsConfig {
    pub routing: RoutingPolicy,
    pub records: Vec<DnsRecord>,
}

/// Type and TTL of a record that each instance gets. The TTL is in seconds, from 0 to 2,147,483,647.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct DnsRecord {
    pub rtype: DnsRecordType,
    pub ttl: u32,
}

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub enum $name {
            $(#[doc = concat!("`", $word, "`")] $variant),*
        }

        impl $name {
            /// All variants as the API writes them, in their order.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The variant as the API writes it, in capitals.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),*
                }
            }

            /// The variant that the API writes as `word`; `None` for any other text.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }
        }
    )*};
}

words! {
    /// Types of the records that Cloud Map creates for instances.
    DnsRecordType { Srv = "SRV", A = "A", Aaaa = "AAAA", Cname = "CNAME" }
    /// Number of instances in a DNS answer: up to eight (`MULTIVALUE`), or one (`WEIGHTED`).
    RoutingPolicy { Multivalue = "MULTIVALUE", Weighted = "WEIGHTED" }
    /// Protocols of the health checks that Route 53 runs.
    HealthCheckType { Http = "HTTP", Https = "HTTPS", Tcp = "TCP" }
}

/// Active health check (`HealthCheckConfig` of the API), which AWS runs with Route 53.
///
/// `resource_path` is for HTTP and HTTPS alone; `failure_threshold` is the number of consecutive results, from 1 to 10, that
/// change the status.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct HealthCheck {
    pub check_type: HealthCheckType,
    pub resource_path: Option<String>,
    pub failure_threshold: Option<u8>,
}

/// Setting of a service whose clients report the health of instances themselves (`HealthCheckCustomConfig` of the API). The
/// threshold is deprecated by AWS and without effect; it is returned unchanged, or as 1 if the request had none.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the field is the API's")]
pub struct CustomHealthCheck {
    pub failure_threshold: Option<u8>,
}
