//! The uid of the pod behind an instance.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::uuid;

/// The uid of a pod or another object of Kubernetes, which distinguishes it from every other one that had or will have its
/// name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uid([u8; 16]);

impl Uid {
    /// The uid that Kubernetes wrote as `text`. Kubernetes uses UUIDs; any other text is hashed to 16 bytes.
    pub fn of(text: &str) -> Uid {
        let hash = || Sha256::digest(text.as_bytes()).first_chunk::<16>().copied().unwrap_or_default();
        Uid(uuid::parse(text).unwrap_or_else(hash))
    }

    /// The uid in its binary form, from which [`Uid::from_bytes`] restores it.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The uid whose binary form is `bytes`.
    pub fn from_bytes(bytes: [u8; 16]) -> Uid {
        Uid(bytes)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid::text(&self.0))
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Uid, D::Error> {
        Ok(Uid::of(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uids_are_distinct_and_written_as_kubernetes_writes_them() {
        let text = "0c47a3a6-5f0f-4f5e-9d8e-0123456789ab";
        assert_eq!(Uid::of(text).to_string(), text);
        assert_eq!(Uid::from_bytes(*Uid::of(text).as_bytes()), Uid::of(text));
        assert_ne!(Uid::of("one"), Uid::of("two"));
        // Reading a stored uid must not hash it a second time: its text is a UUID.
        let written = serde_json::to_string(&Uid::of("one")).unwrap();
        assert_eq!(serde_json::from_str::<Uid>(&written).unwrap(), Uid::of("one"));
    }
}
