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
    /// The idempotency token of the creating request.
    pub creator_request_id: Option<String>,
    pub created_ms: EpochMs,
    pub tags: Tags,
    /// The number of the creating operation; also the position in creation order. A shadowed namespace has no operation,
    /// and its position is after all others.
    pub operation: u64,
    /// Digest of the creating request. A repeated request with the idempotency token must have the digest too, otherwise it
    /// asks for something else.
    pub request_digest: u64,
    /// The registry that defines the namespace; not stored, because only own namespaces are.
    #[serde(skip)]
    pub origin: Origin,
}

/// Kind of a namespace, which decides whether its services can have DNS records.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum NamespaceKind {
    /// The namespace has no zone; its instances are found with DiscoverInstances alone.
    Http,
    /// The namespace is a private zone, on AWS a private hosted zone of Route 53.
    DnsPrivate {
        /// The VPC of the creating request, which this server only stores and compares.
        vpc: String,
    },
    /// The namespace is a public zone, on AWS a public hosted zone of Route 53.
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
