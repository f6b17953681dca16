//! Instances, packed: a million of them have to fit.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::CustomHealthStatus;

/// Longest attribute key, in octets (Cloud Map: 255 characters of ASCII).
pub const ATTRIBUTE_KEY_OCTETS_MAX: usize = 255;
/// Longest instance id and request id, in octets.
pub const INSTANCE_ID_OCTETS_MAX: usize = 64;

/// The IPv4 address of an instance.
pub const AWS_INSTANCE_IPV4: &str = "AWS_INSTANCE_IPV4";
/// The IPv6 address of an instance.
pub const AWS_INSTANCE_IPV6: &str = "AWS_INSTANCE_IPV6";
/// The port of an instance.
pub const AWS_INSTANCE_PORT: &str = "AWS_INSTANCE_PORT";
/// The canonical name that stands for an instance.
pub const AWS_INSTANCE_CNAME: &str = "AWS_INSTANCE_CNAME";
/// The load balancer that stands for an instance.
pub const AWS_ALIAS_DNS_NAME: &str = "AWS_ALIAS_DNS_NAME";
/// The EC2 machine of an instance; only in HTTP namespaces.
pub const AWS_EC2_INSTANCE_ID: &str = "AWS_EC2_INSTANCE_ID";
/// The status that an instance starts with.
pub const AWS_INIT_HEALTH_STATUS: &str = "AWS_INIT_HEALTH_STATUS";

/// An instance of a service: id, attributes and reported health in one allocation.
#[derive(Clone, Eq, PartialEq)]
pub struct Instance {
    /// The id, the request id if there is one, then the attributes as [`Attributes`] packs them.
    packed: Box<[u8]>,
    id_len: u8,
    /// `None` when no request id was given.
    creator_len: Option<u16>,
    custom_health: Option<CustomHealthStatus>,
    operation: u64,
}

impl Instance {
    /// Packs an instance. `operation` is the number of the registering operation. `None` when the id is
    /// longer than 255 octets or the request id than 65,535; the API accepts far less.
    pub fn new(
        id: &str,
        creator_request_id: Option<&str>,
        attributes: &Attributes,
        custom_health: Option<CustomHealthStatus>,
        operation: u64,
    ) -> Option<Instance> {
        let creator_len = creator_request_id.map(|creator| u16::try_from(creator.len())).transpose().ok()?;
        let packed =
            [id.as_bytes(), creator_request_id.unwrap_or_default().as_bytes(), &attributes.0].concat();
        let id_len = u8::try_from(id.len()).ok()?;
        Some(Instance { packed: packed.into(), id_len, creator_len, custom_health, operation })
    }

    /// The instance with another reported status.
    pub fn with_custom_health(&self, status: CustomHealthStatus) -> Instance {
        Instance { custom_health: Some(status), ..self.clone() }
    }

    /// Unique in its service.
    pub fn id(&self) -> &str {
        text(&self.packed[..self.id_len as usize])
    }

    /// The idempotency token of the registering request.
    pub fn creator_request_id(&self) -> Option<&str> {
        let start = self.id_len as usize;
        self.creator_len.map(|len| text(&self.packed[start..start + len as usize]))
    }

    /// All attributes, in order of their keys.
    pub fn attributes(&self) -> AttributePairs<'_> {
        let start = self.id_len as usize + self.creator_len.unwrap_or(0) as usize;
        AttributePairs(&self.packed[start..])
    }

    /// The value of one attribute.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    /// What was last reported of its health.
    pub fn custom_health(&self) -> Option<CustomHealthStatus> {
        self.custom_health
    }

    /// The number of the operation that registered it last.
    pub fn operation(&self) -> u64 {
        self.operation
    }

    /// AWS_INSTANCE_IPV4, when it is an address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.attribute(AWS_INSTANCE_IPV4)?.parse().ok()
    }

    /// AWS_INSTANCE_IPV6, when it is an address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.attribute(AWS_INSTANCE_IPV6)?.parse().ok()
    }

    /// AWS_INSTANCE_PORT, when it is a port.
    pub fn port(&self) -> Option<u16> {
        self.attribute(AWS_INSTANCE_PORT)?.parse().ok()
    }

    /// The packed octets and lengths, for the store: [`Instance::from_parts`] takes them back.
    pub fn parts(&self) -> (u8, Option<u16>, &[u8]) {
        (self.id_len, self.creator_len, &self.packed)
    }

    /// Takes back what [`Instance::parts`] gave, `None` when it is damaged.
    pub fn from_parts(
        (id_len, creator_len, packed): (u8, Option<u16>, &[u8]),
        custom_health: Option<CustomHealthStatus>,
        operation: u64,
    ) -> Option<Instance> {
        let (id, rest) = packed.split_at_checked(id_len as usize)?;
        let (creator, attributes) = rest.split_at_checked(creator_len.unwrap_or(0) as usize)?;
        std::str::from_utf8(id).ok()?;
        std::str::from_utf8(creator).ok()?;
        Attributes::check(attributes)?;
        Some(Instance { packed: packed.into(), id_len, creator_len, custom_health, operation })
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id())
            .field("creator_request_id", &self.creator_request_id())
            .field("attributes", &self.attributes().collect::<BTreeMap<_, _>>())
            .field("custom_health", &self.custom_health)
            .field("operation", &self.operation)
            .finish()
    }
}

/// An attribute map that keeps the limits of the packed form: for each pair in order of the keys the
/// key's length (one octet), the key, the value's length (two octets), the value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes(Box<[u8]>);

impl Attributes {
    /// Packs a map. `None` when a key is longer than 255 octets or a value than 65,535.
    pub fn new(map: &BTreeMap<String, String>) -> Option<Attributes> {
        let mut packed = Vec::with_capacity(map.iter().map(|(key, value)| key.len() + value.len() + 3).sum());
        for (key, value) in map {
            packed.push(u8::try_from(key.len()).ok()?);
            packed.extend_from_slice(key.as_bytes());
            packed.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
            packed.extend_from_slice(value.as_bytes());
        }
        Some(Attributes(packed.into()))
    }

    /// The pairs in order of their keys.
    pub fn pairs(&self) -> AttributePairs<'_> {
        AttributePairs(&self.0)
    }

    /// The value of one attribute.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    fn check(mut packed: &[u8]) -> Option<()> {
        while let Some((key_len, rest)) = packed.split_first() {
            let (key, rest) = rest.split_at_checked(*key_len as usize)?;
            let (value_len, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*value_len) as usize)?;
            std::str::from_utf8(key).ok()?;
            std::str::from_utf8(value).ok()?;
            packed = rest;
        }
        Some(())
    }
}

/// The attributes of an instance, in order of their keys.
#[derive(Clone, Debug)]
pub struct AttributePairs<'a>(&'a [u8]);

impl<'a> Iterator for AttributePairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (key_len, rest) = self.0.split_first()?;
        let (key, rest) = rest.split_at(*key_len as usize);
        let (value_len, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at(u16::from_be_bytes(*value_len) as usize);
        self.0 = rest;
        Some((text(key), text(value)))
    }
}

/// Packed octets are UTF-8 by construction: they come from `&str`, or were checked.
fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back() {
        let map = BTreeMap::from([
            (AWS_INSTANCE_IPV4.to_string(), "10.0.0.11".to_string()),
            ("stage".to_string(), String::new()),
        ]);
        let attributes = Attributes::new(&map).unwrap();
        for creator in [None, Some(""), Some("token-1")] {
            let instance =
                Instance::new("web-1", creator, &attributes, Some(CustomHealthStatus::Unhealthy), 7).unwrap();
            assert_eq!(instance.id(), "web-1");
            assert_eq!(instance.creator_request_id(), creator);
            assert_eq!(instance.ipv4(), Some(Ipv4Addr::new(10, 0, 0, 11)));
            assert_eq!(instance.attribute("stage"), Some(""));
            assert_eq!(instance.attribute("nope"), None);
            let again = Instance::from_parts(instance.parts(), instance.custom_health(), 7).unwrap();
            assert_eq!(again, instance);
        }
    }

    #[test]
    fn damaged_octets_are_refused() {
        for packed in [&b"\x05ab"[..], b"\x01a\x00", b"\x01a\x00\x02x", b"\x01\xff\x00\x00"] {
            assert!(Instance::from_parts((0, None, packed), None, 0).is_none());
        }
        assert!(Instance::from_parts((3, None, b"ab"), None, 0).is_none());
    }
}
