//! What the data of each known type is made of. `reader` and `writer` follow this table.

use crate::zone::RecordType;

/// One field: what it is called in errors, and how it is written.
pub(super) type Field = (&'static str, Kind);

/// How a field looks in wire form and in presentation format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// A domain name.
    Name,
    /// A number of 8 bits.
    U8,
    /// A number of 16 bits.
    U16,
    /// A number of 32 bits.
    U32,
    /// Seconds in 32 bits, with or without units.
    Seconds,
    /// A DNSSEC algorithm: 8 bits, a number or a mnemonic (RFC 4034 §A.1).
    Algorithm,
    /// A moment in 32 bits, `YYYYMMDDHHmmSS` or seconds since 1970 (RFC 4034 §3.2).
    Moment,
    /// A record type's mnemonic, 16 bits.
    Type,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A character string: a length octet and up to 255 octets.
    String,
    /// One or more character strings, to the end.
    Strings,
    /// A CAA property's tag: a length octet, letters and digits.
    Tag,
    /// One word, to the end of the data, which may be empty.
    Text,
    /// The same, of at least one octet.
    FullText,
    /// Octets in hex, to the end, at least one; words may be split anywhere.
    Hex,
    /// Octets in base64, to the end, at least one; words may be split anywhere.
    Base64,
    /// A set of record types, to the end (RFC 4034 §4.1.2).
    Types,
    /// All of a LOC record.
    Location,
    /// Service parameters, to the end.
    Parameters,
}

const DIGEST: &[Field] = &[
    ("the key tag", Kind::U16),
    ("the algorithm", Kind::Algorithm),
    ("the digest type", Kind::U8),
    ("the digest", Kind::Hex),
];
const KEY: &[Field] = &[
    ("the flags field", Kind::U16),
    ("the protocol", Kind::U8),
    ("the algorithm", Kind::Algorithm),
    ("the public key", Kind::Base64),
];
const ASSOCIATION: &[Field] = &[
    ("the certificate usage", Kind::U8),
    ("the selector", Kind::U8),
    ("the matching type", Kind::U8),
    ("the certificate data", Kind::Hex),
];
const EXCHANGE: &[Field] = &[("the preference", Kind::U16), ("the host", Kind::Name)];
const SERVICE: &[Field] =
    &[("the priority", Kind::U16), ("the target", Kind::Name), ("the service parameters", Kind::Parameters)];

/// The fields of a type's data; `None` for a type that is not known.
pub(super) fn fields(rtype: RecordType) -> Option<&'static [Field]> {
    Some(match rtype {
        RecordType::A => &[("the IPv4 address", Kind::Ipv4)],
        RecordType::AAAA => &[("the IPv6 address", Kind::Ipv6)],
        RecordType::NS => &[("the name server", Kind::Name)],
        RecordType::CNAME | RecordType::DNAME => &[("the target", Kind::Name)],
        RecordType::PTR => &[("the host", Kind::Name)],
        RecordType::SOA => &[
            ("the primary name server", Kind::Name),
            ("the mailbox", Kind::Name),
            ("the serial", Kind::U32),
            ("the refresh time", Kind::Seconds),
            ("the retry time", Kind::Seconds),
            ("the expire time", Kind::Seconds),
            ("the minimum TTL", Kind::Seconds),
        ],
        RecordType::HINFO => &[("the CPU", Kind::String), ("the operating system", Kind::String)],
        RecordType::MX | RecordType::KX => EXCHANGE,
        RecordType::AFSDB => &[("the subtype", Kind::U16), ("the host", Kind::Name)],
        RecordType::TXT | RecordType::SPF => &[("the text", Kind::Strings)],
        RecordType::RP => &[("the mailbox", Kind::Name), ("the TXT name", Kind::Name)],
        RecordType::LOC => &[("the latitude", Kind::Location)],
        RecordType::SRV => &[
            ("the priority", Kind::U16),
            ("the weight", Kind::U16),
            ("the port", Kind::U16),
            ("the target", Kind::Name),
        ],
        RecordType::NAPTR => &[
            ("the order", Kind::U16),
            ("the preference", Kind::U16),
            ("the flags field", Kind::String),
            ("the services field", Kind::String),
            ("the regular expression", Kind::String),
            ("the replacement", Kind::Name),
        ],
        RecordType::DS | RecordType::CDS => DIGEST,
        RecordType::DNSKEY | RecordType::CDNSKEY => KEY,
        RecordType::SSHFP => {
            &[("the algorithm", Kind::U8), ("the fingerprint type", Kind::U8), ("the fingerprint", Kind::Hex)]
        }
        RecordType::RRSIG => &[
            ("the type covered", Kind::Type),
            ("the algorithm", Kind::Algorithm),
            ("the number of labels", Kind::U8),
            ("the original TTL", Kind::Seconds),
            ("the expiration", Kind::Moment),
            ("the inception", Kind::Moment),
            ("the key tag", Kind::U16),
            ("the signer", Kind::Name),
            ("the signature", Kind::Base64),
        ],
        RecordType::NSEC => &[("the next name", Kind::Name), ("the types", Kind::Types)],
        RecordType::TLSA | RecordType::SMIMEA => ASSOCIATION,
        RecordType::OPENPGPKEY => &[("the public key", Kind::Base64)],
        RecordType::CSYNC => {
            &[("the serial", Kind::U32), ("the flags field", Kind::U16), ("the types", Kind::Types)]
        }
        RecordType::ZONEMD => &[
            ("the serial", Kind::U32),
            ("the scheme", Kind::U8),
            ("the hash algorithm", Kind::U8),
            ("the digest", Kind::Hex),
        ],
        RecordType::SVCB | RecordType::HTTPS => SERVICE,
        RecordType::URI => {
            &[("the priority", Kind::U16), ("the weight", Kind::U16), ("the target", Kind::FullText)]
        }
        RecordType::CAA => {
            &[("the flags field", Kind::U8), ("the tag", Kind::Tag), ("the value", Kind::Text)]
        }
        _ => return None,
    })
}
