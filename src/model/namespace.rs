//! Namespaces: the first level of Cloud Map, each one a DNS zone or for DiscoverInstances alone.

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, Origin, Tags};

/// A Cloud Map namespace, in the form that is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the other fields have the API's names and meanings")]
pub struct Namespace {
    /// The id, which is a hash of kind and name ([`Identity::namespace_id`](super::Identity::namespace_id)).
    pub id: NamespaceId,
    /// The name as the user wrote it; for a DNS namespace, the name of its zone.
    pub name: String,
    pub kind: NamespaceKind,
    /// The name that DiscoverInstances takes: the namespace's name, with a suffix when another namespace has it already.
    pub http_name: String,
    pub description: Option<String>,
    /// Seconds for which a resolver may cache a negative answer (RFC 2308); the server's default when not set.
    pub soa_ttl: Option<u32>,
    pub creator_request_id: Option<String>,
    pub created_ms: EpochMs,
    pub tags: Tags,
    /// The number of the creating operation; also the position in creation order. A shadowed namespace has no operation,
    /// and its position is after all others.
    pub operation: u64,
    /// Digest of the creating request. Another request with its idempotency token (`creator_request_id`) is a repetition only
    /// if the digest is equal too.
    pub request_digest: u64,
    /// The registry that defines the namespace; not stored, because only own namespaces are.
    #[serde(skip)]
    pub origin: Origin,
}

/// Kind of a namespace. The services of an `Http` namespace have no DNS records and are found with DiscoverInstances alone;
/// the other kinds are a zone, on AWS a hosted zone of Route 53. The VPC is stored and compared, and has no other effect.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum NamespaceKind {
    Http,
    DnsPrivate { vpc: String },
    DnsPublic,
}

impl NamespaceKind {
    /// The kind as the API writes it, such as `DNS_PRIVATE`.
    pub fn as_str(&self) -> &'static str {
        match self {
            NamespaceKind::Http => "HTTP",
            NamespaceKind::DnsPrivate { .. } => "DNS_PRIVATE",
            NamespaceKind::DnsPublic => "DNS_PUBLIC",
        }
    }
}

impl Namespace {
    /// True for a namespace that is a DNS zone, so that its services can have records.
    pub fn is_dns(&self) -> bool {
        self.kind != NamespaceKind::Http
    }
}
