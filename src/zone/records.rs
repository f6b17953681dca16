//! Names of nodes and instances, and the SOA of a zone, for whatever lists the records of a zone ([`super::walk`]) or
//! explains an answer.

use super::leaf::Data;
use super::{Directory, Name, Node, QueryName, RecordType, Rrset, Zone};

/// The name of these labels below the service at `owner`.
pub fn name_below(labels: &[u8], owner: &Name) -> Option<Name> {
    Name::from_wire(&[labels, owner.as_wire()].concat()).ok()
}

/// The labels of a name without the last `without`, in lower case with dots between, as Cloud Map writes names; `.`
/// when none are left. Nothing when they are not text.
pub fn dotted(name: &Name, without: usize) -> Option<String> {
    let count = name.label_count().checked_sub(without)?;
    let labels: Vec<&[u8]> = name.labels().take(count).collect();
    let text = String::from_utf8(labels.join(&b'.')).ok()?.to_ascii_lowercase();
    Some(if text.is_empty() { ".".into() } else { text })
}

/// The name that a node stands for.
pub fn node_name(node: &Node) -> Name {
    Name::from_wire(node.name()).unwrap_or_else(|_| Name::root())
}

/// The node that is the name, or the closest one above it, and how many labels the name has more.
pub fn closest<'v>(directory: &'v Directory, zone: &Zone, name: &QueryName) -> Option<(usize, &'v Node)> {
    (0..=name.label_count()).find_map(|skipped| Some((skipped, directory.node(zone, name, skipped)?)))
}

/// The zone's SOA record with the serial of now, which the directory keeps apart.
pub fn live_soa(directory: &Directory, zone: &Zone) -> Option<Rrset> {
    soa_with_serial(directory, zone, zone.serial())
}

/// The zone's SOA record with this serial.
pub fn soa_with_serial(directory: &Directory, zone: &Zone, serial: u32) -> Option<Rrset> {
    let soa = directory.node(zone, &QueryName::from(&zone.apex), 0)?.rrset(RecordType::SOA)?;
    with_serial(soa, serial)
}

/// The SOA record of negative answers: its TTL is no more than the last of its numbers (RFC 2308 §3).
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
