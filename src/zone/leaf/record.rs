//! Records that are made from the attributes of an instance.
//!
//! A new type of such records is a variant of [`LeafType`], an arm of [`Host::data`], which says what an instance has to
//! have for it, and a variant of [`Data`] with its arms. The compiler names every other place.

use std::cmp::Ordering;

use super::lower;
use crate::wire::Class;
use crate::zone::{Name, RecordType};

/// Priority and weight of every SRV record (Cloud Map, RegisterInstance: both are 1).
const SRV_PRIORITY_AND_WEIGHT: [u8; 4] = [0, 1, 0, 1];
/// Length of the five numbers at the end of a SOA's data, of which the first is the serial (RFC 1035 §3.3.13).
pub const SOA_NUMBERS_OCTETS: usize = 20;

/// Type of the records that a leaf makes from attributes of instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeafType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Port at the name of the instance.
    Srv,
    /// Canonical name.
    Cname,
}

impl LeafType {
    /// Every type, in the order in which a service without a type of its own in the query is answered.
    pub const ALL: [LeafType; 4] = [LeafType::A, LeafType::Aaaa, LeafType::Srv, LeafType::Cname];
    /// Types of addresses, in the order in which additional records have them.
    pub const ADDRESSES: [LeafType; 2] = [LeafType::A, LeafType::Aaaa];

    /// The type of a leaf's records that a query asks for; `None` for a type that no leaf has.
    #[inline]
    pub fn of(rtype: RecordType) -> Option<LeafType> {
        LeafType::ALL.into_iter().find(|own| own.record_type() == rtype)
    }

    /// The number in messages and zone files.
    #[inline(always)]
    pub const fn record_type(self) -> RecordType {
        match self {
            LeafType::A => RecordType::A,
            LeafType::Aaaa => RecordType::AAAA,
            LeafType::Srv => RecordType::SRV,
            LeafType::Cname => RecordType::CNAME,
        }
    }

    /// True for the types that an alias of the service can stand in for (Cloud Map, AWS_ALIAS_DNS_NAME).
    pub const fn is_address(self) -> bool {
        match self {
            LeafType::A | LeafType::Aaaa => true,
            LeafType::Srv | LeafType::Cname => false,
        }
    }
}

/// One instance, as far as records are made from it.
pub trait Host<'a>: Copy {
    /// Labels of its name below the service's, each with its length octet; empty for an instance without such a name.
    fn labels(self) -> &'a [u8];
    /// IPv4 address in network order.
    fn ipv4(self) -> Option<[u8; 4]>;
    /// IPv6 address in network order.
    fn ipv6(self) -> Option<[u8; 16]>;
    /// Port.
    fn port(self) -> Option<u16>;
    /// Canonical name, or alias in a service without CNAME records.
    fn target(self) -> Option<&'a Name>;

    /// True for an instance with an address: only such an instance has a name of its own in DNS.
    #[inline]
    fn has_address(self) -> bool {
        self.ipv4().is_some() || self.ipv6().is_some()
    }

    /// Data of the instance's record of this type; `None` for an instance that lacks an attribute for it.
    #[inline(always)]
    fn data(self, rtype: LeafType) -> Option<Data<'a>> {
        match rtype {
            LeafType::A => self.ipv4().map(Data::A),
            LeafType::Aaaa => self.ipv6().map(Data::Aaaa),
            LeafType::Srv => {
                let labels = self.labels();
                let port = self.port().filter(|_| !labels.is_empty() && self.has_address())?;
                Some(Data::Srv { port, labels })
            }
            LeafType::Cname => self.target().map(|name| Data::Cname(name.as_wire())),
        }
    }
}

/// Data of one record, in the parts that its writers need.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Data<'a> {
    /// IPv4 address in network order.
    A([u8; 4]),
    /// IPv6 address in network order.
    Aaaa([u8; 16]),
    /// Service at the name of an instance (RFC 2782).
    Srv {
        /// Port.
        port: u16,
        /// Labels of the target below the record's owner, each with its length octet.
        labels: &'a [u8],
    },
    /// Canonical name in wire form.
    Cname(&'a [u8]),
    /// Data of a zone file's record in wire form, names uncompressed.
    Stored {
        /// Type.
        rtype: RecordType,
        /// Data.
        rdata: &'a [u8],
    },
    /// Data of the zone's SOA in wire form, and the serial that replaces the one in it.
    Soa {
        /// Data.
        rdata: &'a [u8],
        /// Serial of the zone now.
        serial: u32,
    },
    /// A text of the server about itself, of class CHAOS (RFC 4892).
    Identity(&'a str),
}

/// Receives the data of a record, part by part.
pub trait DataWriter {
    /// Bytes that are written as they are.
    fn put(&mut self, bytes: &[u8]);

    /// A name in wire form that may be compressed: those of the types that RFC 3597 §4 lists.
    fn compressible_name(&mut self, name: &[u8]);
}

impl DataWriter for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn compressible_name(&mut self, name: &[u8]) {
        self.extend_from_slice(name);
    }
}

impl<'a> Data<'a> {
    /// Type of the record.
    pub fn record_type(&self) -> RecordType {
        match self {
            Data::A(_) => LeafType::A.record_type(),
            Data::Aaaa(_) => LeafType::Aaaa.record_type(),
            Data::Srv { .. } => LeafType::Srv.record_type(),
            Data::Cname(_) => LeafType::Cname.record_type(),
            Data::Stored { rtype, .. } => *rtype,
            Data::Soa { .. } => RecordType::SOA,
            Data::Identity(_) => RecordType::TXT,
        }
    }

    /// Class of the record.
    pub fn class(&self) -> Class {
        match self {
            Data::Identity(_) => Class::CHAOS,
            Data::A(_)
            | Data::Aaaa(_)
            | Data::Srv { .. }
            | Data::Cname(_)
            | Data::Stored { .. }
            | Data::Soa { .. } => Class::IN,
        }
    }

    /// Labels below the owner of the name that the record points to, where that is an instance's name: its addresses
    /// are additional records.
    pub fn target_labels(&self) -> Option<&'a [u8]> {
        match self {
            Data::Srv { labels, .. } => Some(labels),
            Data::A(_)
            | Data::Aaaa(_)
            | Data::Cname(_)
            | Data::Stored { .. }
            | Data::Soa { .. }
            | Data::Identity(_) => None,
        }
    }

    /// The canonical name that the record gives its owner, in wire form.
    pub fn canonical_name(&self) -> Option<&'a [u8]> {
        match self {
            Data::Cname(name) => Some(name),
            Data::Stored { rtype: RecordType::CNAME, rdata } => Some(rdata),
            Data::A(_)
            | Data::Aaaa(_)
            | Data::Srv { .. }
            | Data::Stored { .. }
            | Data::Soa { .. }
            | Data::Identity(_) => None,
        }
    }

    /// Order in which equal records of one type become neighbours; names are equal whatever their case (RFC 4343).
    pub(super) fn compare(&self, other: &Data<'_>) -> Ordering {
        match (self, other) {
            (Data::Srv { port, labels }, Data::Srv { port: other_port, labels: other_labels }) => {
                lower(labels).cmp(lower(other_labels)).then(port.cmp(other_port))
            }
            (Data::Cname(one), Data::Cname(other)) => lower(one).cmp(lower(other)),
            (one, other) => one.cmp(other),
        }
    }

    /// Writes the data. `owner` is the record's owner in wire form. A target of an SRV record is the last that is written.
    pub fn write(&self, owner: &[u8], out: &mut impl DataWriter) {
        match self {
            Data::A(address) => out.put(address),
            Data::Aaaa(address) => out.put(address),
            Data::Srv { port, labels } => {
                out.put(&SRV_PRIORITY_AND_WEIGHT);
                out.put(&port.to_be_bytes());
                // Never compressed (RFC 2782).
                out.put(labels);
                out.put(owner);
            }
            Data::Cname(name) => out.compressible_name(name),
            Data::Stored { rtype, rdata } => write_stored(*rtype, rdata, out),
            Data::Soa { rdata, serial } => {
                // Data without room for the numbers can't come from a zone file.
                let Some(at) = rdata.len().checked_sub(SOA_NUMBERS_OCTETS) else { return out.put(rdata) };
                write_names(&rdata[..at], 2, out);
                out.put(&serial.to_be_bytes());
                out.put(&rdata[at + 4..]);
            }
            Data::Identity(text) => {
                // The texts are shorter than a character string may be: 255 bytes.
                let text = &text.as_bytes()[..text.len().min(255)];
                out.put(&[text.len() as u8]);
                out.put(text);
            }
        }
    }

    /// The data in wire form, names uncompressed.
    pub fn to_wire(&self, owner: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.write(owner, &mut wire);
        wire
    }
}

/// Writes data of a zone file's record; names of the types of RFC 1035 may be compressed (RFC 3597 §4).
fn write_stored(rtype: RecordType, rdata: &[u8], out: &mut impl DataWriter) {
    match rtype {
        RecordType::NS | RecordType::CNAME | RecordType::PTR => out.compressible_name(rdata),
        RecordType::MX if rdata.len() > 2 => {
            out.put(&rdata[..2]);
            out.compressible_name(&rdata[2..]);
        }
        RecordType::SOA => write_names(rdata, 2, out),
        _ => out.put(rdata),
    }
}

/// Writes data that begins with names.
fn write_names(mut rdata: &[u8], names: usize, out: &mut impl DataWriter) {
    for _ in 0..names {
        let (name, rest) = rdata.split_at(Name::wire_len(rdata).unwrap_or(rdata.len()));
        out.compressible_name(name);
        rdata = rest;
    }
    out.put(rdata);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::zone::HostSource;

    #[test]
    fn every_type_has_its_own_number() {
        for rtype in LeafType::ALL {
            assert_eq!(LeafType::of(rtype.record_type()), Some(rtype));
        }
        assert_eq!(LeafType::of(RecordType::TXT), None);
    }

    #[test]
    fn an_srv_record_needs_a_port_a_name_and_an_address() {
        let whole = HostSource {
            labels: b"\x01i".to_vec(),
            ipv4: Some(Ipv4Addr::LOCALHOST),
            port: Some(80),
            ..HostSource::default()
        };
        let wire = whole.data(LeafType::Srv).map(|data| data.to_wire(b"\x03web\0"));
        assert_eq!(wire.as_deref(), Some(&b"\0\x01\0\x01\0\x50\x01i\x03web\0"[..]));
        for lacking in [
            HostSource { labels: Vec::new(), ..whole.clone() },
            HostSource { ipv4: None, ..whole.clone() },
            HostSource { port: None, ..whole.clone() },
        ] {
            assert_eq!(lacking.data(LeafType::Srv), None);
        }
    }

    #[test]
    fn the_soa_has_the_serial_of_now() {
        let rdata = [&b"\x02ns\0\x01h\0"[..], &[9; SOA_NUMBERS_OCTETS]].concat();
        let wire = Data::Soa { rdata: &rdata, serial: 0x0102_0304 }.to_wire(b"\0");
        assert_eq!(wire, [&b"\x02ns\0\x01h\0\x01\x02\x03\x04"[..], &[9; SOA_NUMBERS_OCTETS - 4]].concat());
    }
}
