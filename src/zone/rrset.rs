//! Record types, and rrsets with their data in wire form.

use std::fmt;
use std::str::FromStr;

/// Number of a record type (RFC 1035 §3.2.2 and the IANA registry), displayed as its mnemonic or as `TYPEn` (RFC 3597 §5).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($name:ident $(as $text:literal)? = $number:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "the constants are the registry's own mnemonics")]
        impl RecordType {
            $(pub const $name: RecordType = RecordType($number);)*
        }

        const MNEMONICS: &[(&str, u16)] = &[$((record_types!(@mnemonic $name $($text)?), $number)),*];
    };
    (@mnemonic $name:ident $text:literal) => { $text };
    (@mnemonic $name:ident) => { stringify!($name) };
}

record_types! {
    A = 1, NS = 2, MD = 3, MF = 4, CNAME = 5, SOA = 6, MB = 7, MG = 8, MR = 9, NULL = 10, WKS = 11, PTR = 12, HINFO = 13,
    MINFO = 14, MX = 15, TXT = 16, RP = 17, AFSDB = 18, X25 = 19, ISDN = 20, RT = 21, NSAP = 22,
    NSAP_PTR as "NSAP-PTR" = 23, SIG = 24, KEY = 25, PX = 26, GPOS = 27, AAAA = 28, LOC = 29, NXT = 30, EID = 31,
    NIMLOC = 32, SRV = 33, ATMA = 34, NAPTR = 35, KX = 36, CERT = 37, A6 = 38, DNAME = 39, SINK = 40, OPT = 41, APL = 42,
    DS = 43, SSHFP = 44, IPSECKEY = 45, RRSIG = 46, NSEC = 47, DNSKEY = 48, DHCID = 49, NSEC3 = 50, NSEC3PARAM = 51,
    TLSA = 52, SMIMEA = 53, HIP = 55, NINFO = 56, RKEY = 57, TALINK = 58, CDS = 59, CDNSKEY = 60, OPENPGPKEY = 61,
    CSYNC = 62, ZONEMD = 63, SVCB = 64, HTTPS = 65, DSYNC = 66, HHIT = 67, BRID = 68, SPF = 99, UINFO = 100, UID = 101,
    GID = 102, UNSPEC = 103, NID = 104, L32 = 105, L64 = 106, LP = 107, EUI48 = 108, EUI64 = 109, IXFR = 251, AXFR = 252,
    ANY = 255, URI = 256, CAA = 257, AVC = 258, DOA = 259, AMTRELAY = 260, RESINFO = 261, WALLET = 262, TA = 32768,
    DLV = 32769,
}

/// BIND's mnemonics for types of the private range (RFC 6895 §3.1). They can be read, but the types are displayed as
/// `TYPEn`, because other software uses the numbers for other types.
const PRIVATE_MNEMONICS: &[(&str, u16)] = &[("KEYDATA", RecordType::KEYDATA.0)];

impl RecordType {
    /// Trust anchors that BIND maintains by RFC 5011.
    pub(super) const KEYDATA: RecordType = RecordType(65_533);
}

impl RecordType {
    /// True for types of queries and messages, which records of a zone never have (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        matches!(self.0, 0 | 41 | 128..=255)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match MNEMONICS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Error for a text that is neither a known mnemonic nor `TYPE` and a number.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no record type; use a mnemonic such as A or SRV, or TYPE and a number up to 65535")]
pub struct UnknownRecordType(pub String);

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    fn from_str(text: &str) -> Result<RecordType, UnknownRecordType> {
        let known =
            MNEMONICS.iter().chain(PRIVATE_MNEMONICS).find(|(name, _)| name.eq_ignore_ascii_case(text));
        let number = || {
            let (prefix, number) = text.split_at_checked(4)?;
            let digits = prefix.eq_ignore_ascii_case("TYPE") && number.bytes().all(|b| b.is_ascii_digit());
            number.parse().ok().filter(|_| digits)
        };
        known
            .map(|(_, number)| *number)
            .or_else(number)
            .map(RecordType)
            .ok_or_else(|| UnknownRecordType(text.into()))
    }
}

/// All records of one type at one owner, with one TTL in seconds for all (RFC 2181 §5.2) and without duplicates (§5).
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains both fields")]
pub struct Rrset {
    pub rtype: RecordType,
    count: u16,
    pub ttl: u32,
    packed: Packed,
}

/// Largest data, in bytes, that is stored within the rrset: one AAAA record or three A records with their lengths.
const INLINE_BYTES_MAX: usize = 22;

/// The records' data in wire form with uncompressed names, each after its length in two bytes. Most rrsets of a large zone
/// have one address and need no allocation for it.
#[derive(Clone)]
enum Packed {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Boxed(Box<[u8]>),
}

/// Number of records up to which duplicates are found by comparison with all records before; after it, by a hash set.
const FEW_RECORDS: usize = 8;

impl Rrset {
    /// Makes an rrset of record data in wire form, without duplicates. `None` if there is no record, or more than a message
    /// can ever contain: over 65,535 records, or a record over 65,535 octets.
    pub fn new<'a>(
        rtype: RecordType,
        ttl: u32,
        rdatas: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    ) -> Option<Rrset> {
        let rdatas = rdatas.into_iter();
        let mut packed = Packing::default();
        let mut count = 0u16;
        let mut seen = std::collections::HashSet::new();
        for (at, rdata) in rdatas.clone().enumerate() {
            let is_new = match at {
                ..FEW_RECORDS => rdatas.clone().take(at).all(|other| other != rdata),
                FEW_RECORDS => {
                    seen.extend(rdatas.clone().take(at));
                    seen.insert(rdata)
                }
                _ => seen.insert(rdata),
            };
            if is_new {
                count = count.checked_add(1)?;
                packed.push(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
                packed.push(rdata);
            }
        }
        (count > 0).then(|| Rrset { rtype, ttl, count, packed: packed.finish() })
    }

    /// Number of records, which is at least one.
    #[expect(clippy::len_without_is_empty, reason = "an rrset is never empty")]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// The data of each record in wire form.
    pub fn rdatas(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let mut rest = self.packed.bytes();
        std::iter::from_fn(move || {
            let (len, tail) = rest.split_first_chunk::<2>()?;
            let (rdata, tail) = tail.split_at(u16::from_be_bytes(*len) as usize);
            rest = tail;
            Some(rdata)
        })
    }
}

impl Packed {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Packed::Inline { len, bytes } => &bytes[..*len as usize],
            Packed::Boxed(bytes) => bytes,
        }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Packed) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}

#[derive(Default)]
struct Packing {
    len: usize,
    inline: [u8; INLINE_BYTES_MAX],
    heap: Vec<u8>,
}

impl Packing {
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        match self.inline.get_mut(self.len..end) {
            Some(room) if self.heap.is_empty() => room.copy_from_slice(bytes),
            _ => {
                if self.heap.is_empty() {
                    self.heap.extend_from_slice(&self.inline[..self.len]);
                }
                self.heap.extend_from_slice(bytes);
            }
        }
        self.len = end;
    }

    fn finish(self) -> Packed {
        if self.heap.is_empty() {
            Packed::Inline { len: self.len as u8, bytes: self.inline }
        } else {
            Packed::Boxed(self.heap.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_and_shown_as_rfc_3597_says() {
        for (text, rtype, shown) in [
            ("a", RecordType::A, "A"),
            ("TYPE1", RecordType::A, "A"),
            ("type65280", RecordType(65280), "TYPE65280"),
            ("HTTPS", RecordType::HTTPS, "HTTPS"),
            ("nsap-ptr", RecordType::NSAP_PTR, "NSAP-PTR"),
            ("KEYDATA", RecordType(65_533), "TYPE65533"),
        ] {
            assert_eq!(text.parse::<RecordType>().unwrap(), rtype);
            assert_eq!(rtype.to_string(), shown);
        }
        for bad in ["", "TYPE", "TYPE65536", "TYPE+1", "NOPE", "é"] {
            assert!(bad.parse::<RecordType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_rrset_keeps_each_record_once() {
        let rrset =
            Rrset::new(RecordType::A, 60, [&[10, 0, 0, 1][..], &[10, 0, 0, 2], &[10, 0, 0, 1]]).unwrap();
        assert_eq!(rrset.len(), 2);
        assert_eq!(rrset.rdatas().collect::<Vec<_>>(), [[10, 0, 0, 1], [10, 0, 0, 2]]);
        assert_eq!(Rrset::new(RecordType::A, 60, []), None);
    }

    #[test]
    fn records_are_kept_inline_and_on_the_heap_without_duplicates() {
        assert_eq!(size_of::<Rrset>(), 32);
        for count in 1..40u8 {
            let rdatas: Vec<[u8; 4]> = (0..count).chain(0..count).map(|number| [10, 0, 0, number]).collect();
            let rrset = Rrset::new(RecordType::A, 60, rdatas.iter().map(|rdata| &rdata[..])).unwrap();
            assert_eq!(rrset.rdatas().collect::<Vec<_>>(), rdatas[..count.into()]);
        }
        for octets in [0, 1, 19, 20, 21, 22, 23, 300] {
            let rdata = vec![7; octets];
            let rrset = Rrset::new(RecordType::TXT, 60, [&rdata[..], &[], &rdata]).unwrap();
            let expected: &[&[u8]] = if octets == 0 { &[&[]] } else { &[&rdata, &[]] };
            assert_eq!(rrset.rdatas().collect::<Vec<_>>(), expected);
        }
    }
}
