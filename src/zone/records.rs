//! Record data of services and zones, as it is answered.
//!
//! Who calls it: whatever lists a zone's records ([`super::walk`]) or explains an answer.

use super::leaf::HostRef;
use super::{Directory, Name, Node, QueryName, RecordType, Rrset, Zone};

/// Priority and weight of every SRV record (Cloud Map, RegisterInstance).
const SRV_PRIORITY_AND_WEIGHT: [u8; 4] = [0, 1, 0, 1];
/// Octets of the five numbers at the end of a SOA's data, of which the first is the serial (RFC 1035 §3.3.13).
const SOA_NUMBERS_OCTETS: usize = 20;

/// The data of an instance's record in the service at `owner`; nothing when it has none of this type.
pub fn rdata(host: HostRef<'_>, rtype: RecordType, owner: &Name) -> Option<Vec<u8>> {
    match rtype {
        RecordType::A => host.ipv4().map(|address| address.to_vec()),
        RecordType::AAAA => host.ipv6().map(|address| address.to_vec()),
        RecordType::SRV => {
            let target = target_name(host, owner)?;
            Some([&SRV_PRIORITY_AND_WEIGHT[..], &host.port().to_be_bytes(), target.as_wire()].concat())
        }
        RecordType::CNAME => host.target().map(|target| target.as_wire().to_vec()),
        _ => None,
    }
}

/// The name that an instance's SRV record in the service at `owner` points to; nothing when it has none.
pub fn target_name(host: HostRef<'_>, owner: &Name) -> Option<Name> {
    name_below(host.labels(), owner).filter(|_| !host.labels().is_empty())
}

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
    let mut data = soa.rdatas().next()?.to_vec();
    let at = data.len().checked_sub(SOA_NUMBERS_OCTETS)?;
    data[at..at + 4].copy_from_slice(&serial.to_be_bytes());
    Rrset::new(RecordType::SOA, soa.ttl, [&data[..]])
}
