//! Instances in packed form, because a server may hold a million of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::{CustomHealthStatus, Readiness, Uid, uuid};

/// Longest attribute key, in bytes (Cloud Map: 255 characters of ASCII).
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 255;
/// Longest instance id and request id in bytes, a limit of the Cloud Map API.
pub const INSTANCE_ID_BYTES_MAX: usize = 64;

/// Attribute with the instance's IPv4 address, from which its A record is made.
pub const AWS_INSTANCE_IPV4: &str = "AWS_INSTANCE_IPV4";
/// Attribute with the instance's IPv6 address, from which its AAAA record is made.
pub const AWS_INSTANCE_IPV6: &str = "AWS_INSTANCE_IPV6";
/// Attribute with the instance's port, from which its SRV record is made.
pub const AWS_INSTANCE_PORT: &str = "AWS_INSTANCE_PORT";
/// Attribute with a domain name, from which the instance's CNAME record is made.
pub const AWS_INSTANCE_CNAME: &str = "AWS_INSTANCE_CNAME";
/// Attribute with the DNS name of the load balancer that serves the instance, as an alias of Route 53.
pub const AWS_ALIAS_DNS_NAME: &str = "AWS_ALIAS_DNS_NAME";
/// Attribute with the id of the EC2 machine behind the instance; allowed in HTTP namespaces only.
pub const AWS_EC2_INSTANCE_ID: &str = "AWS_EC2_INSTANCE_ID";
/// Attribute with the custom health status that the instance has until a client reports one.
pub const AWS_INIT_HEALTH_STATUS: &str = "AWS_INIT_HEALTH_STATUS";
/// Custom attribute with the instance's weight, from 0 to 255.
pub const WEIGHT: &str = "WEIGHT";

/// Attributes that Cloud Map itself defines. Other keys that start with `AWS_` are custom (KECS has AWS_INSTANCE_ID).
pub const OWN_KEYS: [&str; 7] = [
    AWS_INSTANCE_IPV4,
    AWS_INSTANCE_IPV6,
    AWS_INSTANCE_PORT,
    AWS_INSTANCE_CNAME,
    AWS_ALIAS_DNS_NAME,
    AWS_EC2_INSTANCE_ID,
    AWS_INIT_HEALTH_STATUS,
];
/// Keys that are packed as a number: those of Cloud Map, and those that ECS gives to its instances. A number is part of the
/// stored form, so it never changes, and is never given to another key.
const KEY_NUMBERS: [(&str, u8); 12] = [
    (AWS_INSTANCE_IPV4, 0),
    (AWS_INSTANCE_IPV6, 1),
    (AWS_INSTANCE_PORT, 2),
    (AWS_INSTANCE_CNAME, 3),
    (AWS_ALIAS_DNS_NAME, 4),
    (AWS_EC2_INSTANCE_ID, 5),
    (AWS_INIT_HEALTH_STATUS, 6),
    ("AVAILABILITY_ZONE", 7),
    ("REGION", 8),
    ("ECS_SERVICE_NAME", 9),
    ("ECS_CLUSTER_NAME", 10),
    ("ECS_TASK_DEFINITION_FAMILY", 11),
];

/// An instance of a service: id, attributes and reported health in one allocation, which clones share.
///
/// The packed form is also the stored form:
///
/// | bytes | contents |
/// | --- | --- |
/// | 8 | number of the registering operation, big endian |
/// | 1 | reported health: 0 none, 1 healthy, 2 unhealthy |
/// | 1 | form of the request id: 0 none, 1 text, 2 a UUID as 16 bytes |
/// | 2 | length of the request id, big endian |
/// | 1 | length of the instance id |
/// | | instance id, request id, then the attributes as [`Attributes`] packs them |
///
/// A watched instance represents a pod. It is never stored, because Kubernetes is the source of truth for it. No operation
/// registered it, so the first half of the pod's uid replaces the operation's number. Its readiness is in the two bits above
/// the reported health (1 ready, 2 never ready, 3 not ready), and the second half of the uid and the pod's name replace the
/// request id (form 3).
#[derive(Clone, Eq, PartialEq)]
pub struct Instance(Arc<[u8]>);

const HEALTH_AT: usize = 8;
const REPORTED_BITS: u8 = 0b11;
const READINESS_SHIFT: u32 = 2;
const CREATOR_FORM_AT: usize = 9;
const CREATOR_LEN_AT: usize = 10;
const ID_LEN_AT: usize = 12;
const ID_AT: usize = 13;
const FORM_POD: u8 = 3;
const UID_HALF_BYTES: usize = 8;

impl Instance {
    /// Packs an instance. `operation` is the number of the registering operation. `None` when the id is longer than
    /// 255 bytes or the request id than 65,535; the API accepts far less.
    pub fn new(
        id: &str,
        creator_request_id: Option<&str>,
        attributes: &Attributes,
        custom_health: Option<CustomHealthStatus>,
        operation: u64,
    ) -> Option<Instance> {
        let uuid = creator_request_id.and_then(uuid::parse);
        let (form, creator) = match (creator_request_id, &uuid) {
            (None, _) => (0, &[][..]),
            (Some(_), Some(uuid)) => (2, &uuid[..]),
            (Some(text), None) => (1, text.as_bytes()),
        };
        pack(operation, [health_byte(custom_health), form], id, creator, attributes)
    }

    /// Packs an instance that represents the pod `pod`, as `namespace/name`. `None` when the id is longer than 255 bytes or
    /// the pod's name than 65,527; Kubernetes allows no such names.
    pub fn watched(
        id: &str,
        pod: &str,
        uid: Uid,
        attributes: &Attributes,
        readiness: Readiness,
    ) -> Option<Instance> {
        let (first, second) = uid.as_bytes().split_at(UID_HALF_BYTES);
        let first = first.first_chunk().copied().map_or(0, u64::from_be_bytes);
        let creator = [second, pod.as_bytes()].concat();
        pack(first, [readiness_bits(readiness), FORM_POD], id, &creator, attributes)
    }

    /// The instance with another reported status, or with none. It shares memory with `self` if the status is unchanged.
    pub fn with_custom_health(&self, status: Option<CustomHealthStatus>) -> Instance {
        if self.custom_health() == status {
            return self.clone();
        }
        let mut packed = self.0.to_vec();
        packed[HEALTH_AT] = (packed[HEALTH_AT] & !REPORTED_BITS) | health_byte(status);
        Instance(packed.into())
    }

    /// True for an instance that represents a pod: it comes from a watch of Kubernetes and is not in the store.
    pub fn is_watched(&self) -> bool {
        self.0[HEALTH_AT] >> READINESS_SHIFT != 0
    }

    /// The readiness of the pod behind a watched instance; `None` for a stored instance.
    pub fn readiness(&self) -> Option<Readiness> {
        match self.0[HEALTH_AT] >> READINESS_SHIFT {
            0 => None,
            1 => Some(Readiness::Ready),
            2 => Some(Readiness::NeverReady),
            _ => Some(Readiness::NotReady),
        }
    }

    /// The `namespace/name` of the pod behind a watched instance; `None` for a stored instance.
    pub fn pod(&self) -> Option<&str> {
        self.is_watched().then(|| text(&self.0[self.id_end() + UID_HALF_BYTES..self.creator_end()]))
    }

    /// The uid of the pod behind a watched instance; `None` for a stored instance.
    pub fn pod_uid(&self) -> Option<Uid> {
        let second =
            self.0.get(self.id_end()..)?.first_chunk::<UID_HALF_BYTES>().filter(|_| self.is_watched())?;
        let mut bytes = [0; 2 * UID_HALF_BYTES];
        bytes[..UID_HALF_BYTES].copy_from_slice(&self.0[..UID_HALF_BYTES]);
        bytes[UID_HALF_BYTES..].copy_from_slice(second);
        Some(Uid::from_bytes(bytes))
    }

    /// True for instances that are equal, or differ in reported health or readiness alone.
    pub fn is_same_but_for_health(&self, other: &Instance) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        one[..HEALTH_AT] == other[..HEALTH_AT] && one[HEALTH_AT + 1..] == other[HEALTH_AT + 1..]
    }

    /// The instance id, which is unique within the service.
    pub fn id(&self) -> &str {
        text(&self.0[ID_AT..self.id_end()])
    }

    /// The idempotency token of the request that registered the instance; `None` for a watched instance.
    pub fn creator_request_id(&self) -> Option<Cow<'_, str>> {
        let bytes = &self.0[self.id_end()..self.creator_end()];
        match self.0[CREATOR_FORM_AT] {
            0 | FORM_POD => None,
            2 => Some(Cow::Owned(uuid::text(bytes))),
            _ => Some(Cow::Borrowed(text(bytes))),
        }
    }

    /// All attributes, in order of their keys.
    pub fn attributes(&self) -> AttributePairs<'_> {
        AttributePairs(&self.0[self.creator_end()..])
    }

    /// The value of the attribute `key`.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    /// The custom health status that was set last, at registration or by a client's report.
    pub fn custom_health(&self) -> Option<CustomHealthStatus> {
        match self.0[HEALTH_AT] & REPORTED_BITS {
            1 => Some(CustomHealthStatus::Healthy),
            2 => Some(CustomHealthStatus::Unhealthy),
            _ => None,
        }
    }

    /// The number of the operation that registered the instance last; 0 for a watched instance.
    pub fn operation(&self) -> u64 {
        let number = self.0.first_chunk::<8>().filter(|_| !self.is_watched());
        number.map_or(0, |number| u64::from_be_bytes(*number))
    }

    /// The attribute AWS_INSTANCE_IPV4, if it is an address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.attribute(AWS_INSTANCE_IPV4)?.parse().ok()
    }

    /// The attribute AWS_INSTANCE_IPV6, if it is an address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.attribute(AWS_INSTANCE_IPV6)?.parse().ok()
    }

    /// The attribute AWS_INSTANCE_PORT, if it is a port.
    pub fn port(&self) -> Option<u16> {
        self.attribute(AWS_INSTANCE_PORT)?.parse().ok()
    }

    /// The packed form, which the store keeps and [`Instance::from_bytes`] reads.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the packed form of a stored instance. `None` for damaged data, and for watched instances, which are not stored.
    pub fn from_bytes(packed: &[u8]) -> Option<Instance> {
        let (head, rest) = packed.split_at_checked(ID_AT)?;
        let creator_len = u16::from_be_bytes([head[CREATOR_LEN_AT], head[CREATOR_LEN_AT + 1]]);
        let (id, rest) = rest.split_at_checked(head[ID_LEN_AT] as usize)?;
        let (creator, attributes) = rest.split_at_checked(creator_len as usize)?;
        std::str::from_utf8(id).ok()?;
        match head[CREATOR_FORM_AT] {
            0 if creator.is_empty() => {}
            1 => drop(std::str::from_utf8(creator).ok()?),
            2 if creator.len() == 16 => {}
            _ => return None,
        }
        Attributes::check(attributes)?;
        (head[HEALTH_AT] <= 2).then(|| Instance(packed.into()))
    }

    fn id_end(&self) -> usize {
        ID_AT + self.0[ID_LEN_AT] as usize
    }

    fn creator_end(&self) -> usize {
        self.id_end() + u16::from_be_bytes([self.0[CREATOR_LEN_AT], self.0[CREATOR_LEN_AT + 1]]) as usize
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("id", &self.id())
            .field("creator_request_id", &self.creator_request_id())
            .field("attributes", &self.attributes().collect::<BTreeMap<_, _>>())
            .field("custom_health", &self.custom_health())
            .field("readiness", &self.readiness())
            .field("pod", &self.pod())
            .field("pod_uid", &self.pod_uid())
            .field("operation", &self.operation())
            .finish()
    }
}

/// Attributes of an instance in packed form, in order of their keys.
///
/// Each pair is the key's length (one byte) and the key, or 0 and the key's number in `KEY_NUMBERS`; then the value's length
/// (two bytes, big endian) and the value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attributes(Box<[u8]>);

impl Attributes {
    /// Packs a map. `None` when a key is empty or longer than 255 bytes, or a value longer than 65,535.
    pub fn new(map: &BTreeMap<String, String>) -> Option<Attributes> {
        let mut packed = Vec::with_capacity(map.iter().map(|(key, value)| key.len() + value.len() + 3).sum());
        for (key, value) in map {
            match KEY_NUMBERS.iter().find(|(known, _)| known == key) {
                Some((_, number)) => packed.extend_from_slice(&[0, *number]),
                None => {
                    packed.push(u8::try_from(key.len()).ok().filter(|len| *len > 0)?);
                    packed.extend_from_slice(key.as_bytes());
                }
            }
            packed.extend_from_slice(&u16::try_from(value.len()).ok()?.to_be_bytes());
            packed.extend_from_slice(value.as_bytes());
        }
        Some(Attributes(packed.into()))
    }

    /// All pairs, in order of their keys.
    pub fn pairs(&self) -> AttributePairs<'_> {
        AttributePairs(&self.0)
    }

    /// The value of the attribute `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(candidate, _)| *candidate == key).map(|(_, value)| value)
    }

    fn check(mut packed: &[u8]) -> Option<()> {
        while !packed.is_empty() {
            let (key, rest) = split_key(packed)?;
            let (value_len, rest) = rest.split_first_chunk::<2>()?;
            let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*value_len) as usize)?;
            std::str::from_utf8(key).ok()?;
            std::str::from_utf8(value).ok()?;
            packed = rest;
        }
        Some(())
    }
}

/// Iterator over an instance's attributes, in order of their keys.
#[derive(Clone, Debug)]
pub struct AttributePairs<'a>(&'a [u8]);

impl<'a> Iterator for AttributePairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let (key, rest) = split_key(self.0)?;
        let (value_len, rest) = rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes(*value_len) as usize)?;
        self.0 = rest;
        Some((text(key), text(value)))
    }
}

fn split_key(packed: &[u8]) -> Option<(&[u8], &[u8])> {
    match packed.split_first()? {
        (0, rest) => {
            let (number, rest) = rest.split_first()?;
            let (key, _) = KEY_NUMBERS.iter().find(|(_, known)| known == number)?;
            Some((key.as_bytes(), rest))
        }
        (len, rest) => rest.split_at_checked(*len as usize),
    }
}

/// Packed bytes are always UTF-8: they come from a `&str`, or [`Instance::from_bytes`] checked them.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn pack(
    operation: u64,
    [health, form]: [u8; 2],
    id: &str,
    creator: &[u8],
    attributes: &Attributes,
) -> Option<Instance> {
    let packed = [
        &operation.to_be_bytes()[..],
        &[health, form],
        &u16::try_from(creator.len()).ok()?.to_be_bytes(),
        &[u8::try_from(id.len()).ok()?],
        id.as_bytes(),
        creator,
        &attributes.0,
    ];
    Some(Instance(packed.concat().into()))
}

fn readiness_bits(readiness: Readiness) -> u8 {
    let number = match readiness {
        Readiness::Ready => 1,
        Readiness::NeverReady => 2,
        Readiness::NotReady => 3,
    };
    number << READINESS_SHIFT
}

fn health_byte(status: Option<CustomHealthStatus>) -> u8 {
    match status {
        None => 0,
        Some(CustomHealthStatus::Healthy) => 1,
        Some(CustomHealthStatus::Unhealthy) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_key_numbers_keep_their_meaning() {
        // A row of version 0.1.0: 0, the key's number, the value's length and the value.
        let stored = b"\0\x07\0\x01z\0\x06\0\x07HEALTHY\0\x02\0\x0280";
        let pairs: Vec<_> = AttributePairs(stored).collect();
        let expected =
            [("AVAILABILITY_ZONE", "z"), (AWS_INIT_HEALTH_STATUS, "HEALTHY"), (AWS_INSTANCE_PORT, "80")];
        assert_eq!(pairs, expected);
        let numbers: std::collections::BTreeSet<u8> = KEY_NUMBERS.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers.len(), KEY_NUMBERS.len());
        assert!(OWN_KEYS.iter().all(|own| KEY_NUMBERS.iter().any(|(key, _)| key == own)));
    }

    #[test]
    fn packing_keeps_ids_attributes_and_health() {
        let map = BTreeMap::from([
            (AWS_INSTANCE_IPV4.to_string(), "10.0.0.11".to_string()),
            ("stage".to_string(), String::new()),
        ]);
        let attributes = Attributes::new(&map).unwrap();
        for creator in [
            None,
            Some(""),
            Some("token-1"),
            Some("6248e0fe-4773-49bb-8a54-b569d4ab769d"),
            Some("6248E0FE-4773-49bb-8a54-b569d4ab769d"),
            Some("6248e0fe-4773-49bb-8a54+b569d4ab769d"),
        ] {
            let instance =
                Instance::new("web-1", creator, &attributes, Some(CustomHealthStatus::Unhealthy), 7).unwrap();
            assert_eq!(instance.id(), "web-1");
            assert_eq!(instance.creator_request_id().as_deref(), creator);
            assert_eq!(instance.operation(), 7);
            assert_eq!(instance.custom_health(), Some(CustomHealthStatus::Unhealthy));
            assert_eq!(instance.ipv4(), Some(Ipv4Addr::new(10, 0, 0, 11)));
            assert_eq!(instance.attribute("stage"), Some(""));
            assert_eq!(instance.attribute("nope"), None);
            assert_eq!(Instance::from_bytes(instance.as_bytes()).unwrap(), instance);
            let healthy = instance.with_custom_health(Some(CustomHealthStatus::Healthy));
            assert_eq!(healthy.custom_health(), Some(CustomHealthStatus::Healthy));
            assert_eq!((healthy.id(), healthy.attribute("stage")), ("web-1", Some("")));
        }
    }

    #[test]
    fn a_watched_instance_has_a_pod_and_a_readiness_and_cannot_be_read_from_a_store() {
        let map = BTreeMap::from([(AWS_INSTANCE_IPV4.to_string(), "10.42.0.24".to_string())]);
        let attributes = Attributes::new(&map).unwrap();
        for readiness in [Readiness::Ready, Readiness::NeverReady, Readiness::NotReady] {
            let uid = Uid::of("0c47a3a6-5f0f-4f5e-9d8e-0123456789ab");
            let instance = Instance::watched("i-1", "default/web-1", uid, &attributes, readiness).unwrap();
            assert_eq!(instance.pod_uid(), Some(uid));
            assert_eq!((instance.id(), instance.pod()), ("i-1", Some("default/web-1")));
            assert_eq!((instance.readiness(), instance.creator_request_id()), (Some(readiness), None));
            assert_eq!((instance.custom_health(), instance.operation()), (None, 0));
            assert_eq!(instance.attribute(AWS_INSTANCE_IPV4), Some("10.42.0.24"));
            assert_eq!(Instance::from_bytes(instance.as_bytes()), None);
            let unhealthy = instance.with_custom_health(Some(CustomHealthStatus::Unhealthy));
            assert_eq!((unhealthy.readiness(), unhealthy.pod()), (Some(readiness), Some("default/web-1")));
            assert_eq!(unhealthy.custom_health(), Some(CustomHealthStatus::Unhealthy));
            assert!(unhealthy.is_same_but_for_health(&instance));
            let healthy = unhealthy.with_custom_health(Some(CustomHealthStatus::Healthy));
            assert_eq!(healthy.custom_health(), Some(CustomHealthStatus::Healthy));
        }
        let stored = Instance::new("i-1", None, &attributes, None, 7).unwrap();
        assert_eq!((stored.is_watched(), stored.readiness(), stored.pod()), (false, None, None));
        assert_eq!((stored.pod_uid(), stored.operation()), (None, 7));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let map =
            BTreeMap::from([("a".to_string(), "b".to_string()), ("REGION".to_string(), "r".to_string())]);
        let instance = Instance::new("i", Some("t"), &Attributes::new(&map).unwrap(), None, 1).unwrap();
        let whole = instance.as_bytes();
        let head = ID_AT + 2;
        for end in 0..whole.len() {
            // A cut between two attributes leaves a valid instance with fewer attributes.
            let is_boundary = end == head || end == head + 5;
            assert_eq!(Instance::from_bytes(&whole[..end]).is_some(), is_boundary, "{end}");
        }
        for (at, byte) in
            [(HEALTH_AT, 3), (CREATOR_FORM_AT, 3), (CREATOR_FORM_AT, 2), (ID_AT, 0xff), (head + 1, 99)]
        {
            let mut damaged = whole.to_vec();
            damaged[at] = byte;
            assert!(Instance::from_bytes(&damaged).is_none(), "{at}");
        }
    }
}
