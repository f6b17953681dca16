//! Records that are made from the attributes of an instance.
//!
//! A new record type needs a variant of [`LeafType`], an arm of [`Host::data`], which determines the attributes that an
//! instance needs for it, and a variant of [`Data`]. The compiler then reports all other code that has to change.

use std::cmp::Ordering;

use super::lower;
use crate::wire::Class;
use crate::zone::{Name, RecordType};

/// Priority of every SRV record (Cloud Map, RegisterInstance).
const SRV_PRIORITY: [u8; 2] = [0, 1];
/// Length in bytes of the five numbers at the end of a SOA's data, of which the first is the serial (RFC 1035 §3.3.13).
pub const SOA_NUMBERS_OCTETS: usize = 20;

/// Type of the records that a leaf makes from attributes of instances.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the variants are DNS record types")]
pub enum LeafType {
    A,
    Aaaa,
    Srv,
    Cname,
}

impl LeafType {
    /// All types of which a leaf can have records.
    pub const ALL: [LeafType; 4] = [LeafType::A, LeafType::Aaaa, LeafType::Srv, LeafType::Cname];
    /// Types of addresses, in the order of their records in the additional section.
    pub const ADDRESSES: [LeafType; 2] = [LeafType::A, LeafType::Aaaa];

    /// The variant for a record type; `None` for a type that no leaf has.
    #[inline]
    pub fn of(rtype: RecordType) -> Option<LeafType> {
        LeafType::ALL.into_iter().find(|own| own.record_type() == rtype)
    }

    /// Number of the type in messages (RFC 1035 §3.2.2).
    #[inline(always)]
    pub const fn record_type(self) -> RecordType {
        match self {
            LeafType::A => RecordType::A,
            LeafType::Aaaa => RecordType::AAAA,
            LeafType::Srv => RecordType::SRV,
            LeafType::Cname => RecordType::CNAME,
        }
    }

    /// True for the types whose queries an alias can answer (Cloud Map, AWS_ALIAS_DNS_NAME).
    pub const fn is_address(self) -> bool {
        match self {
            LeafType::A | LeafType::Aaaa => true,
            LeafType::Srv | LeafType::Cname => false,
        }
    }

    /// True for the types whose records point to names of instances, so that their addresses are additional records.
    pub const fn has_targets(self) -> bool {
        match self {
            LeafType::Srv => true,
            LeafType::A | LeafType::Aaaa | LeafType::Cname => false,
        }
    }
}

/// The attributes of one instance from which records are made. Addresses are in network byte order.
#[expect(missing_docs, reason = "the other methods are named after the attributes")]
pub trait Host<'a>: Copy {
    /// Labels of its name below the service's, each with its length byte; empty for an instance without such a name.
    fn labels(self) -> &'a [u8];
    fn ipv4(self) -> Option<[u8; 4]>;
    fn ipv6(self) -> Option<[u8; 16]>;
    fn port(self) -> Option<u16>;
    /// Weight of its SRV record, which is 1 on Cloud Map.
    fn weight(self) -> u8;
    /// Canonical name of the instance, or its alias in a service without CNAME records.
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
                Some(Data::Srv { weight: self.weight().into(), port, labels })
            }
            LeafType::Cname => self.target().map(|name| Data::Cname(name.as_wire())),
        }
    }
}

/// Data of one record, in the parts that its writers need. Addresses are in network byte order; canonical names and `rdata`
/// are in wire form with uncompressed names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[expect(missing_docs, reason = "the documents of the type and its variants explain the others")]
pub enum Data<'a> {
    A([u8; 4]),
    Aaaa([u8; 16]),
    /// SRV record (RFC 2782). `labels` are those of its target below the record's owner, each with its length byte.
    Srv {
        weight: u16,
        port: u16,
        labels: &'a [u8],
    },
    Cname(&'a [u8]),
    /// Data of a record from a zone file.
    Stored {
        rtype: RecordType,
        rdata: &'a [u8],
    },
    /// Data of the zone's SOA record, and the current serial, which replaces the one in the data.
    Soa {
        rdata: &'a [u8],
        serial: u32,
    },
    /// Version or id of the server, as a TXT record of class CHAOS (RFC 4892).
    Identity(&'a str),
}

/// Receives the data of a record, part by part.
pub trait DataWriter {
    /// Writes bytes without a change.
    fn put(&mut self, bytes: &[u8]);

    /// Writes a name in wire form, which may be compressed because it belongs to a type that RFC 3597 §4 lists.
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
    #[expect(missing_docs, reason = "the name says what is returned")]
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

    /// Class of the record: CHAOS for [`Data::Identity`], and IN for all others.
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

    /// Labels of the target below the record's owner, if the target is an instance, whose addresses are additional records.
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

    /// Canonical name of the record's owner in wire form, if this is a CNAME record.
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

    /// Order for sorting records of one type so that duplicates become adjacent. The case of names is ignored (RFC 4343).
    pub(super) fn compare(&self, other: &Data<'_>) -> Ordering {
        match (self, other) {
            (Data::Srv { port, labels, .. }, Data::Srv { port: other_port, labels: other_labels, .. }) => {
                lower(labels).cmp(lower(other_labels)).then(port.cmp(other_port))
            }
            (Data::Cname(one), Data::Cname(other)) => lower(one).cmp(lower(other)),
            (one, other) => one.cmp(other),
        }
    }

    /// Writes the data. `owner` is the record's owner in wire form. The target of an SRV record is written last.
    pub fn write(&self, owner: &[u8], out: &mut impl DataWriter) {
        match self {
            Data::A(address) => out.put(address),
            Data::Aaaa(address) => out.put(address),
            Data::Srv { weight, port, labels } => {
                out.put(&SRV_PRIORITY);
                out.put(&weight.to_be_bytes());
                out.put(&port.to_be_bytes());
                // The target of an SRV record may not be compressed (RFC 2782).
                out.put(labels);
                out.put(owner);
            }
            Data::Cname(name) => out.compressible_name(name),
            Data::Stored { rtype, rdata } => write_stored(*rtype, rdata, out),
            Data::Soa { rdata, serial } => {
                // The parser of zone files rejects data that is too short for the numbers.
                let Some(at) = rdata.len().checked_sub(SOA_NUMBERS_OCTETS) else { return out.put(rdata) };
                write_names(&rdata[..at], 2, out);
                out.put(&serial.to_be_bytes());
                out.put(&rdata[at + 4..]);
            }
            Data::Identity(text) => {
                // A character string has at most 255 bytes; all texts are shorter.
                let text = &text.as_bytes()[..text.len().min(255)];
                out.put(&[text.len() as u8]);
                out.put(text);
            }
        }
    }

    /// The data in wire form, with uncompressed names.
    pub fn to_wire(&self, owner: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        self.write(owner, &mut wire);
        wire
    }
}

/// Names in data of the types of RFC 1035 may be compressed (RFC 3597 §4).
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
    fn soa_record_has_the_current_serial() {
        let rdata = [&b"\x02ns\0\x01h\0"[..], &[9; SOA_NUMBERS_OCTETS]].concat();
        let wire = Data::Soa { rdata: &rdata, serial: 0x0102_0304 }.to_wire(b"\0");
        assert_eq!(wire, [&b"\x02ns\0\x01h\0\x01\x02\x03\x04"[..], &[9; SOA_NUMBERS_OCTETS - 4]].concat());
    }
}
