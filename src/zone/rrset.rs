//! Record types, record data and rrsets.

use std::fmt;
use std::str::FromStr;

/// A record type's number (RFC 1035 §3.2.2 and the IANA registry).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordType(pub u16);

macro_rules! record_types {
    ($($name:ident $(as $text:literal)? = $number:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "the constants are the registry's own mnemonics")]
        impl RecordType {
            $(pub const $name: RecordType = RecordType($number);)*
        }

        /// The mnemonics that are known, with their numbers.
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

/// Mnemonics of BIND for numbers of the private range (RFC 6895 §3.1): read, and shown as `TYPEn`, because the number
/// means something else elsewhere.
const PRIVATE_MNEMONICS: &[(&str, u16)] = &[("KEYDATA", RecordType::KEYDATA.0)];

impl RecordType {
    /// Keys that BIND follows (RFC 5011), with its times for each.
    pub(super) const KEYDATA: RecordType = RecordType(65_533);
}

impl RecordType {
    /// Whether the number is for queries and messages only, never for a record of a zone (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        matches!(self.0, 0 | 41 | 128..=255)
    }
}

impl fmt::Display for RecordType {
    /// The mnemonic, or `TYPEn` (RFC 3597 §5).
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

/// Text that names no record type.
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

/// All records of one type at one owner: one TTL for all (RFC 2181 §5.2), no record twice (§5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rrset {
    /// The type of every record.
    pub rtype: RecordType,
    count: u16,
    /// Seconds that an answer may be kept.
    pub ttl: u32,
    /// Each record's data with its length in two bytes before it, names uncompressed.
    packed: Packed,
}

/// Most bytes that are kept in an rrset itself: one AAAA record and its length, or three A records and theirs.
const INLINE_BYTES_MAX: usize = 22;

/// The data of an rrset. Most rrsets of a large zone have one address, and no allocation of their own for it.
#[derive(Clone)]
enum Packed {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Boxed(Box<[u8]>),
}

/// Records up to which a new record is compared with each one before it; more are looked up by hash.
const FEW_RECORDS: usize = 8;

impl Rrset {
    /// Makes an rrset of record data in wire form; equal data is kept once. `None` when there is no
    /// record, or more than a message could ever carry (65,535 records or one over 65,535 octets).
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

    /// How many records there are; at least one.
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

/// Packed data that grows, and moves to the heap when it has to.
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
    fn few_records_and_many_are_kept_alike() {
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
