//! Names of nodes and instances, and the SOA of a zone, for code that lists the records of a zone ([`super::walk`]) or
//! explains an answer.

use super::leaf::Data;
use super::{Directory, Name, Node, QueryName, RecordType, Rrset, Zone};

/// The name with these labels below the service at `owner`; `None` if it is too long.
pub fn name_below(labels: &[u8], owner: &Name) -> Option<Name> {
    Name::from_wire(&[labels, owner.as_wire()].concat()).ok()
}

/// The labels of a name except the last `without`, in lower case and separated by dots, as Cloud Map writes names; `.` if no
/// labels are left. `None` if they are not UTF-8.
pub fn dotted(name: &Name, without: usize) -> Option<String> {
    let count = name.label_count().checked_sub(without)?;
    let labels: Vec<&[u8]> = name.labels().take(count).collect();
    let text = String::from_utf8(labels.join(&b'.')).ok()?.to_ascii_lowercase();
    Some(if text.is_empty() { ".".into() } else { text })
}

/// Name of a node, or the root's name if the bytes of the node are no valid name.
pub fn node_name(node: &Node) -> Name {
    Name::from_wire(node.name()).unwrap_or_else(|_| Name::root())
}

/// The closest node at or above the name, and the number of labels that the name has below it.
pub fn closest<'v>(directory: &'v Directory, zone: &Zone, name: &QueryName) -> Option<(usize, &'v Node)> {
    (0..=name.label_count()).find_map(|skipped| Some((skipped, directory.node(zone, name, skipped)?)))
}

/// The zone's SOA record with the current serial, which the directory stores separately.
pub fn live_soa(directory: &Directory, zone: &Zone) -> Option<Rrset> {
    soa_with_serial(directory, zone, zone.serial())
}

/// The zone's SOA record with this serial; `None` if the zone has no SOA.
pub fn soa_with_serial(directory: &Directory, zone: &Zone, serial: u32) -> Option<Rrset> {
    let soa = directory.node(zone, &QueryName::from(&zone.apex), 0)?.rrset(RecordType::SOA)?;
    with_serial(soa, serial)
}

/// The SOA record of negative answers, whose TTL is at most its MINIMUM field (RFC 2308 §3).
pub fn negative_soa(directory: &Directory, zone: &Zone) -> Option<Rrset> {
    let mut soa = live_soa(directory, zone)?;
    let minimum = soa.rdatas().next()?.last_chunk::<4>().map(|octets| u32::from_be_bytes(*octets))?;
    soa.ttl = soa.ttl.min(minimum);
    Some(soa)
}

fn with_serial(soa: &Rrset, serial: u32) -> Option<Rrset> {
    let data = Data::Soa { rdata: soa.rdatas().next()?, serial }.to_wire(&[]);
    Rrset::new(RecordType::SOA, soa.ttl, [&data[..]])
}
