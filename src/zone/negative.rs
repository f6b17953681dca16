//! The SOA record of negative answers, in a form that is copied into messages.
//!
//! A query for a name that does not exist, or that has no records of the type, is answered with the SOA of its zone
//! (RFC 2308 §3). The directory prepares the record whenever the apex changes, so that such an answer neither looks up the
//! apex nor parses a name.

use super::{Name, RecordType, Rrset};
use crate::wire::Pointer;

const TIMERS_OCTETS: usize = 16;
const NUMBERS_OCTETS: usize = 4 + TIMERS_OCTETS;

/// A zone's SOA for negative answers. `template` is the record's data with a two-byte compression pointer instead of the
/// apex's name in MNAME and RNAME; `apex_in_mname` and `apex_in_rname` are the offsets of these pointers, or `None` for a
/// name that does not end in the apex.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Negative {
    /// Time in seconds for which a negative answer may be cached: the smaller of the SOA's TTL and its MINIMUM (RFC 2308
    /// §5).
    pub ttl: u32,
    template: Box<[u8]>,
    apex_in_mname: Option<u16>,
    apex_in_rname: Option<u16>,
    record: Option<RecordTemplate>,
}

const RECORD_TEMPLATE_OCTETS: usize = 64;
const HEAD_OCTETS: usize = 12;

/// The whole record, if it is as short as most are, so that one copy of constant length writes it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct RecordTemplate {
    octets: [u8; RECORD_TEMPLATE_OCTETS],
    len: u8,
    /// Offsets of the pointers to the apex in MNAME and RNAME. A name without one has 0, the offset of the owner, which is a
    /// pointer to the apex too, so that the writer needs no condition.
    pointers: [u8; 2],
    serial_at: u8,
}

/// Number of bytes that [`Negative::write_record`] may overwrite: the template, and 4 bytes behind it, which is the longest
/// field that is written into the copy.
pub const WRITTEN_OCTETS: usize = RECORD_TEMPLATE_OCTETS + 4;

impl RecordTemplate {
    fn new(ttl: u32, template: &[u8], pointers: [Option<u16>; 2]) -> Option<RecordTemplate> {
        let len = HEAD_OCTETS + template.len();
        let mut octets = [0; RECORD_TEMPLATE_OCTETS];
        let (head, data) = octets.get_mut(..len)?.split_at_mut(HEAD_OCTETS);
        head[3] = RecordType::SOA.0 as u8;
        head[5] = 1;
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        head[11] = template.len() as u8;
        data.copy_from_slice(template);
        let pointers = pointers.map(|at| at.map_or(0, |at| HEAD_OCTETS as u8 + at as u8));
        Some(RecordTemplate { octets, len: len as u8, pointers, serial_at: (len - NUMBERS_OCTETS) as u8 })
    }
}

impl Negative {
    /// Prepares a SOA record. `None` if the rrset is empty or its data is no valid SOA.
    pub fn new(apex: &Name, soa: &Rrset) -> Option<Negative> {
        debug_assert_eq!(soa.rtype, RecordType::SOA);
        let rdata = soa.rdatas().next()?;
        let (mname, rest) = rdata.split_at_checked(Name::wire_len(rdata).ok()?)?;
        let (rname, numbers) = rest.split_at_checked(Name::wire_len(rest).ok()?)?;
        let minimum = numbers.last_chunk::<4>().filter(|_| numbers.len() == NUMBERS_OCTETS)?;
        let mut template = Vec::with_capacity(rdata.len());
        let mut push = |name: &[u8]| match prefix_len(name, apex) {
            Some(len) => {
                template.extend_from_slice(&name[..len]);
                template.extend_from_slice(&[0; 2]);
                Some(template.len() as u16 - 2)
            }
            None => {
                template.extend_from_slice(name);
                None
            }
        };
        let (apex_in_mname, apex_in_rname) = (push(mname), push(rname));
        template.extend_from_slice(numbers);
        let ttl = soa.ttl.min(u32::from_be_bytes(*minimum));
        let record = RecordTemplate::new(ttl, &template, [apex_in_mname, apex_in_rname]);
        Some(Negative { ttl, template: template.into(), apex_in_mname, apex_in_rname, record })
    }

    /// Writes the whole record at the start of `out`, with a pointer to the apex as its owner, and returns its length; for
    /// the parameters see [`Negative::write`]. `None` if the record has no template, or if `out` is shorter than
    /// [`WRITTEN_OCTETS`]. Bytes behind the record's end are overwritten without a meaning.
    #[inline(always)]
    pub fn write_record(&self, apex: Pointer, serial: u32, out: &mut [u8]) -> Option<usize> {
        let RecordTemplate { octets, len, pointers: [in_mname, in_rname], serial_at } =
            self.record.as_ref()?;
        let out = out.first_chunk_mut::<WRITTEN_OCTETS>()?;
        *out.first_chunk_mut()? = *octets;
        let mut patch = |at: u8, octets: &[u8]| {
            let at = usize::from(at) % RECORD_TEMPLATE_OCTETS;
            out[at..at + octets.len()].copy_from_slice(octets);
        };
        let pointer = apex.to_wire();
        patch(0, &pointer);
        patch(*in_mname, &pointer);
        patch(*in_rname, &pointer);
        patch(*serial_at, &serial.to_be_bytes());
        Some(usize::from(*len))
    }

    /// Number of bytes that [`Negative::write`] writes.
    pub fn rdata_len(&self) -> usize {
        self.template.len()
    }

    /// Writes the SOA's data with this serial at the start of `out`, and returns its length. MNAME and RNAME are compressed,
    /// which RFC 3597 §4 permits, with `apex` as the pointer to the apex's name in the message. If `out` is too short,
    /// `None` is returned and nothing is written.
    pub fn write(&self, apex: Pointer, serial: u32, out: &mut [u8]) -> Option<usize> {
        let len = self.template.len();
        let out = out.get_mut(..len)?;
        out.copy_from_slice(&self.template);
        let pointer = apex.to_wire();
        for at in [self.apex_in_mname, self.apex_in_rname].into_iter().flatten() {
            out.get_mut(at as usize..at as usize + 2)?.copy_from_slice(&pointer);
        }
        let (_, numbers) = out.split_last_chunk_mut::<NUMBERS_OCTETS>()?;
        numbers[..4].copy_from_slice(&serial.to_be_bytes());
        Some(len)
    }
}

fn prefix_len(name: &[u8], apex: &Name) -> Option<usize> {
    let mut len = 0;
    while name.len() - len > apex.as_wire().len() {
        len += 1 + name[len] as usize;
    }
    name[len..].eq_ignore_ascii_case(apex.as_wire()).then_some(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soa(mname: &str, rname: &str, ttl: u32, minimum: u32) -> Rrset {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let mut rdata = [name(mname).as_wire(), name(rname).as_wire()].concat();
        for number in [1, 7200, 900, 1_209_600, minimum] {
            rdata.extend_from_slice(&u32::to_be_bytes(number));
        }
        Rrset::new(RecordType::SOA, ttl, [&rdata[..]]).unwrap()
    }

    #[test]
    fn names_at_or_below_the_apex_are_compressed_and_others_are_not() {
        let apex: Name = "svc.local".parse().unwrap();
        let numbers = [&[0, 0, 0, 9][..], &[0, 0, 28, 32, 0, 0, 3, 132, 0, 18, 117, 0, 0, 0, 0, 5]].concat();
        for (mname, rname, names) in [
            ("ns.dns.SVC.local", "svc.local", &b"\x02ns\x03dns\xc0\x15\xc0\x15"[..]),
            ("ns.other", "host.svc.local", b"\x02ns\x05other\0\x04host\xc0\x15"),
            // `xsvc.local` ends with the characters of the apex, but is no name below it.
            ("svc.local", "xsvc.local", b"\xc0\x15\x04xsvc\x05local\0"),
            (".", "local", b"\0\x05local\0"),
        ] {
            let negative = Negative::new(&apex, &soa(mname, rname, 60, 5)).unwrap();
            let expected = [names, &numbers].concat();
            let mut out = vec![0xff; expected.len() + 1];
            assert_eq!(
                negative.write(Pointer::to_near(21), 9, &mut out),
                Some(expected.len()),
                "{mname} {rname}"
            );
            assert_eq!((&out[..expected.len()], out[expected.len()]), (&expected[..], 0xff));
            assert_eq!(negative.rdata_len(), expected.len());
            let mut record = [0xff; WRITTEN_OCTETS];
            let len = negative.write_record(Pointer::to_near(21), 9, &mut record).unwrap();
            assert_eq!(record[..6], [0xc0, 21, 0, 6, 0, 1]);
            assert_eq!(record[6..12], [0, 0, 0, 5, 0, expected.len() as u8]);
            assert_eq!(record[12..len], expected);
            assert_eq!(negative.write_record(Pointer::to_near(21), 9, &mut record[1..]), None);
            let mut small = vec![0xff; expected.len() - 1];
            assert_eq!(negative.write(Pointer::to_near(21), 9, &mut small), None);
            assert!(small.iter().all(|octet| *octet == 0xff));
        }
    }

    #[test]
    fn ttl_is_the_smaller_of_the_soas_ttl_and_minimum() {
        let apex: Name = "svc.local".parse().unwrap();
        for (ttl, minimum) in [(60, 5), (5, 60)] {
            assert_eq!(Negative::new(&apex, &soa("ns", "host", ttl, minimum)).map(|soa| soa.ttl), Some(5));
        }
    }

    #[test]
    fn invalid_soa_data_is_rejected() {
        let apex: Name = "svc.local".parse().unwrap();
        for rdata in [&[0; 21][..], &[0; 23], b"\x05short", &[]] {
            let rrset = Rrset::new(RecordType::SOA, 60, [rdata]).unwrap();
            assert_eq!(Negative::new(&apex, &rrset), None, "{rdata:?}");
        }
    }
}
