//! Services.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, Origin, ServiceId, Tags};

/// A Cloud Map service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Service {
    /// Derived from namespace and name.
    pub id: ServiceId,
    /// The namespace it is in.
    pub namespace_id: NamespaceId,
    /// As the user wrote it.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// Whether it is found by the API alone (`HTTP`) or by DNS too (`DNS_HTTP`).
    pub api_only: bool,
    /// How it stands in DNS; none for API-only services and for services whose records were removed.
    pub dns: Option<DnsConfig>,
    /// The check that AWS would run.
    pub health_check: Option<HealthCheck>,
    /// Present when clients report health themselves.
    pub custom_health_check: Option<CustomHealthCheck>,
    /// The idempotency token of the creating request.
    pub creator_request_id: Option<String>,
    /// When it was created.
    pub created_ms: EpochMs,
    /// Its tags.
    pub tags: Tags,
    /// Its service attributes.
    pub attributes: BTreeMap<String, String>,
    /// The place in creation order; that of one that is shadowed is after all others.
    pub sequence: u64,
    /// Tells whether a request with the same token asks for the same.
    pub request_digest: u64,
    /// Who says that it exists.
    #[serde(skip)]
    pub origin: Origin,
}

impl Service {
    /// The number of the change that made it: a service that is made again under its id has another one.
    pub fn made_at(&self) -> u64 {
        match self.origin {
            Origin::Own => self.sequence,
            Origin::Shadowed { number } => number,
        }
    }

    /// The TTL of the record of this type, when the service has one.
    pub fn ttl_of(&self, rtype: DnsRecordType) -> Option<u32> {
        self.dns.as_ref()?.records.iter().find(|record| record.rtype == rtype).map(|record| record.ttl)
    }
}

/// How a service stands in DNS.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DnsConfig {
    /// How many instances an answer names.
    pub routing: RoutingPolicy,
    /// At least one.
    pub records: Vec<DnsRecord>,
}

/// A record that each instance gets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DnsRecord {
    /// Its type.
    pub rtype: DnsRecordType,
    /// Seconds, 0 to 2,147,483,647.
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
            /// The API's word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),*
                }
            }

            /// The variant of an API word.
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
    /// The types of record that Cloud Map creates.
    DnsRecordType { Srv = "SRV", A = "A", Aaaa = "AAAA", Cname = "CNAME" }
    /// How many of a service's instances an answer names: up to eight, or one.
    RoutingPolicy { Multivalue = "MULTIVALUE", Weighted = "WEIGHTED" }
    /// The protocol of a health check.
    HealthCheckType { Http = "HTTP", Https = "HTTPS", Tcp = "TCP" }
}

/// A check that AWS would run.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HealthCheck {
    /// Its protocol.
    pub check_type: HealthCheckType,
    /// The path to ask for, for HTTP and HTTPS.
    pub resource_path: Option<String>,
    /// Consecutive results that change the status, 1 to 10.
    pub failure_threshold: Option<u8>,
}

/// That clients report health themselves.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CustomHealthCheck {
    /// Deprecated by AWS and without effect; echoed, 1 when not given.
    pub failure_threshold: Option<u8>,
}
