//! Records that the zone of every namespace has before its services: SOA, NS, and the addresses of the name server.

use std::net::IpAddr;

use crate::model::{Namespace, Service};
use crate::zone::{Name, NameError, RecordType, Rrset};

/// TTL in seconds of the apex's NS records and of the name server's addresses. Short, because addresses of pods change.
const NAME_SERVER_TTL: u32 = 60;
/// REFRESH, RETRY and EXPIRE of the SOA record in seconds, as Route 53 has them.
const SOA_REFRESH_RETRY_EXPIRE: [u32; 3] = [7200, 900, 1_209_600];

/// Name of a namespace's zone. The namespace's name has no escapes, because the API's pattern does not define any.
pub(super) fn apex_of(namespace: &Namespace) -> Result<Name, NameError> {
    let name = namespace.name.strip_suffix('.').unwrap_or(&namespace.name);
    Name::from_labels(name.split('.').map(str::as_bytes))
}

/// Owner name of a service in its zone; the service `.` is at the apex.
pub(super) fn service_name(service: &Service, apex: &Name) -> Result<Name, NameError> {
    if service.name == "." {
        return Ok(apex.clone());
    }
    let labels = service.name.split('.').map(str::as_bytes);
    Name::from_labels(labels.chain(apex.labels()))
}

/// Wire form of a dotted name without the root label. The registry has checked the lengths of the labels.
pub(super) fn labels(name: &str) -> Vec<u8> {
    let mut labels = Vec::with_capacity(name.len() + 1);
    for label in name.split('.').map(str::as_bytes) {
        labels.push(label.len() as u8);
        labels.extend_from_slice(label);
    }
    labels
}

pub(super) fn name_server(apex: &Name) -> Result<Name, NameError> {
    Name::from_labels([&b"ns"[..], b"dns"].into_iter().chain(apex.labels()))
}

pub(super) fn base_records(
    apex: &Name,
    negative_ttl: u32,
    addresses: &[IpAddr],
) -> Result<Vec<(Name, Vec<Rrset>)>, NameError> {
    let server = name_server(apex)?;
    let contact = apex.child(b"hostmaster")?;
    let mut soa = [server.as_wire(), contact.as_wire(), &[0; 4]].concat();
    for field in SOA_REFRESH_RETRY_EXPIRE.into_iter().chain([negative_ttl]) {
        soa.extend_from_slice(&field.to_be_bytes());
    }
    let soa = Rrset::new(RecordType::SOA, negative_ttl, [&soa[..]]);
    let ns = Rrset::new(RecordType::NS, NAME_SERVER_TTL, [server.as_wire()]);
    let rdata = |address: &IpAddr| match address {
        IpAddr::V4(address) => (RecordType::A, address.octets().to_vec()),
        IpAddr::V6(address) => (RecordType::AAAA, address.octets().to_vec()),
    };
    let addresses: Vec<_> = addresses.iter().map(rdata).collect();
    let of_type = |wanted| {
        let matching = addresses.iter().filter(|(rtype, _)| *rtype == wanted).map(|(_, rdata)| &rdata[..]);
        Rrset::new(wanted, NAME_SERVER_TTL, matching)
    };
    let server_records: Vec<_> =
        [of_type(RecordType::A), of_type(RecordType::AAAA)].into_iter().flatten().collect();
    Ok(vec![(apex.clone(), [soa, ns].into_iter().flatten().collect()), (server, server_records)])
}
