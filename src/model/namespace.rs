//! Namespaces.

use serde::{Deserialize, Serialize};

use super::{EpochMs, NamespaceId, Origin, Tags};

/// A Cloud Map namespace.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Namespace {
    /// Derived from kind and name.
    pub id: NamespaceId,
    /// As the user wrote it; for a DNS namespace the zone's name.
    pub name: String,
    /// HTTP, private DNS or public DNS.
    pub kind: NamespaceKind,
    /// What DiscoverInstances finds it by: the name, with a suffix when another namespace has it.
    pub http_name: String,
    /// Free text.
    pub description: Option<String>,
    /// Seconds that a resolver may keep a negative answer; the server's default when not set.
    pub soa_ttl: Option<u32>,
    /// The idempotency token of the creating request.
    pub creator_request_id: Option<String>,
    /// When it was created.
    pub created_ms: EpochMs,
    /// Its tags.
    pub tags: Tags,
    /// The number of the creating operation; also the place in creation order. One that is shadowed has no operation, and
    /// its place is after all others.
    pub operation: u64,
    /// Tells whether a request with the same token asks for the same.
    pub request_digest: u64,
    /// Who says that it exists.
    #[serde(skip)]
    pub origin: Origin,
}

/// What kind of namespace it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum NamespaceKind {
    /// Only for DiscoverInstances.
    Http,
    /// A private zone.
    DnsPrivate {
        /// Opaque here.
        vpc: String,
    },
    /// A public zone.
    DnsPublic,
}

impl NamespaceKind {
    /// The API's word.
    pub fn as_str(&self) -> &'static str {
        match self {
            NamespaceKind::Http => "HTTP",
            NamespaceKind::DnsPrivate { .. } => "DNS_PRIVATE",
            NamespaceKind::DnsPublic => "DNS_PUBLIC",
        }
    }
}

impl Namespace {
    /// Whether its services can be in DNS.
    pub fn is_dns(&self) -> bool {
        self.kind != NamespaceKind::Http
    }
}
