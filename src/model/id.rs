//! Ids and ARNs of namespaces, services and operations.
//!
//! Namespace and service ids are a hash of account, region, kind and name: a service created again under
//! its name keeps its id, as on AWS, and ARNs written into pod annotations survive the loss of all state.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id, without an ARN around it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> $name {
                $name(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Id of a namespace: `ns-` and 16 lower-case alphanumerics.
    NamespaceId,
    /// Id of a service: `srv-` and 16 lower-case alphanumerics.
    ServiceId,
    /// Id of an operation: 32 lower-case alphanumerics, a hyphen, and 8 more, which are the operation's number.
    OperationId
}

/// The AWS account (12 digits) and region (such as `us-east-1`) that this server acts as. Both are part of every ARN and go
/// into the hash of every id.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are AWS's own words")]
pub struct Identity {
    pub account_id: Arc<str>,
    pub region: Arc<str>,
}

impl Identity {
    /// The id of the namespace of this kind (`HTTP`, `DNS_PRIVATE`, `DNS_PUBLIC`) and name.
    pub fn namespace_id(&self, kind: &str, name: &str) -> NamespaceId {
        NamespaceId(format!("ns-{}", self.hash(&["namespace", kind, name], 16)).into())
    }

    /// The id of the service of this name in a namespace.
    pub fn service_id(&self, namespace: &NamespaceId, name: &str) -> ServiceId {
        ServiceId(format!("srv-{}", self.hash(&["service", namespace.as_str(), name], 16)).into())
    }

    /// The id that the failed creation of a namespace reports as its target. No namespace ever has it.
    pub fn failed_namespace_id(&self, operation: u64) -> NamespaceId {
        NamespaceId(format!("ns-{}", self.hash(&["failed-namespace", &operation.to_string()], 16)).into())
    }

    /// The id of the Route 53 hosted zone that a DNS namespace would have on AWS, made up for the API's answers.
    pub fn hosted_zone_id(&self, namespace: &NamespaceId) -> String {
        format!("Z{}", self.hash(&["hosted-zone", namespace.as_str()], 20).to_ascii_uppercase())
    }

    /// The id of the operation with this number; [`operation_number`] reads the number back.
    pub fn operation_id(&self, number: u64) -> OperationId {
        let hash = self.hash(&["operation", &number.to_string()], 32);
        OperationId(format!("{hash}-{}", base36(number, 8)).into())
    }

    /// The ARN of a namespace: `arn:aws:servicediscovery:{region}:{account}:namespace/{id}`.
    pub fn namespace_arn(&self, id: &NamespaceId) -> String {
        format!("{}namespace/{id}", self.arn_prefix())
    }

    /// The ARN of a service: `arn:aws:servicediscovery:{region}:{account}:service/{id}`.
    pub fn service_arn(&self, id: &ServiceId) -> String {
        format!("{}service/{id}", self.arn_prefix())
    }

    fn arn_prefix(&self) -> String {
        format!("arn:aws:servicediscovery:{}:{}:", self.region, self.account_id)
    }

    /// The first `len` base-36 digits of a hash of account, region and `parts`. `len` is at most 48.
    fn hash(&self, parts: &[&str], len: usize) -> String {
        let mut hasher = Sha256::new();
        for part in [&*self.account_id, &*self.region].iter().chain(parts) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        let digest = hasher.finalize();
        let mut text = String::with_capacity(52);
        for chunk in digest.chunks_exact(8) {
            let word = chunk.iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            text.push_str(&base36(word, 12));
        }
        text.truncate(len);
        text
    }
}

/// Digest of a request from the text of its `Debug` form, to recognise another request with the same idempotency token.
pub fn request_digest(request: &impl std::fmt::Debug) -> u64 {
    let digest = Sha256::digest(format!("{request:?}").as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The last `width` base-36 digits, at most 12, of the number in the first eight bytes of the text's SHA-256.
pub fn digest36(text: &str, width: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    base36(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)), width)
}

/// The id in `text`, which is that id or the ARN of a `resource` (`namespace` or `service`).
///
/// Region and account of the ARN are not compared, because the id is a hash that includes both.
pub fn id_in<'a>(text: &'a str, resource: &str) -> &'a str {
    let id = text.strip_prefix("arn:").and_then(|arn| {
        // The fields after `arn:` are partition:servicediscovery:region:account:resource/id.
        let mut fields = arn.splitn(5, ':');
        let service = fields.nth(1)?;
        let path = fields.nth(2)?;
        let (kind, id) = path.split_once('/')?;
        (service == "servicediscovery" && kind == resource).then_some(id)
    });
    id.unwrap_or(text)
}

/// The number in an operation's id. Clients can send any number with any hash before it, so the caller must compare the id of
/// the operation that it finds.
pub fn operation_number(id: &str) -> Option<u64> {
    let (_, digits) = id.split_once('-')?;
    u64::from_str_radix(digits, 36).ok()
}

fn base36(mut number: u64, width: usize) -> String {
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { account_id: "000000000000".into(), region: "us-east-1".into() }
    }

    #[test]
    fn ids_have_the_forms_of_aws_and_never_change() {
        let namespace = identity().namespace_id("DNS_PRIVATE", "production.local");
        // Users write ids into manifests and pod annotations, so a change of the hash breaks them.
        assert_eq!(namespace.as_str(), "ns-g61rarbzx9y340bp");
        assert_eq!(identity().service_id(&namespace, "backend").as_str(), "srv-1sgswo70tefehjdt");
        assert_ne!(namespace, identity().namespace_id("HTTP", "production.local"));
        let operation = identity().operation_id(1295);
        assert_eq!(operation.as_str().len(), 41);
        assert!(operation.as_str().ends_with("-000000zz"));
        assert_eq!(operation_number(operation.as_str()), Some(1295));
        assert_eq!(operation_number("x"), None);
    }

    #[test]
    fn an_id_is_found_alone_and_in_its_arn() {
        let id = ServiceId::from("srv-1");
        let arn = identity().service_arn(&id);
        assert_eq!(arn, "arn:aws:servicediscovery:us-east-1:000000000000:service/srv-1");
        assert_eq!(id_in(&arn, "service"), "srv-1");
        assert_eq!(id_in("srv-1", "service"), "srv-1");
        assert_eq!(id_in("arn:aws-cn:servicediscovery:r:a:service/srv-1", "service"), "srv-1");
        assert_eq!(id_in(&arn, "namespace"), arn);
        assert_eq!(id_in("arn:aws:ecs:r:a:service/srv-1", "service"), "arn:aws:ecs:r:a:service/srv-1");
    }
}
