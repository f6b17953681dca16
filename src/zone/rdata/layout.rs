//! Table of the fields in the data of each known type, which `reader` and `writer` follow.

use super::mnemonics::{
    ALGORITHMS, CERTIFICATES, DIGESTS, IP_PROTOCOLS, KEY_PROTOCOLS, Mnemonics, NAME_HASHES, SCHEMES,
};
use crate::zone::RecordType;

pub(super) type Field = (&'static str, Kind);

/// Format of a field, in wire form and in presentation format.
///
/// Octets in hex or base64, sets, and addresses other than IP go to the end of the data; blanks may split hex and base64
/// anywhere. There is at least one octet, unless the format's name says otherwise. The last formats are the whole data of
/// their types: A6 (`AddressInParts`), APL (`Prefixes`), HIP (`HostIdentity`) and LOC (`Location`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Name,
    U8,
    U16,
    U32,
    /// Seconds in 32 bits, written as a number or with units as in `1h30m`.
    Seconds,
    /// A number of 8 or 16 bits, written as a number or as one of these mnemonics.
    Code8(&'static Mnemonics),
    Code16(&'static Mnemonics),
    /// Flags of a key in 16 bits, written as a number or as mnemonics with `|` between them. `NoKeyFlags` must be 0.
    KeyFlags,
    NoKeyFlags,
    /// A time in 32 bits, written as `YYYYMMDDHHmmSS` or as seconds since 1970 (RFC 4034 §3.2), and shown as seconds.
    Moment,
    /// A time as `Moment`, but shown as `YYYYMMDDHHmmSS`, because BIND reads nothing else in a SIG record.
    Date,
    Type,
    Ipv4,
    Ipv6,
    /// A character string (RFC 1035 §3.3): a length octet and up to 255 octets.
    String,
    OptionalString,
    Strings,
    /// A CAA property's tag: a length octet, then letters and digits (RFC 8659 §4.1).
    Tag,
    /// One word without a length octet, to the end of the data. `Text` may be empty, `FullText` must not.
    Text,
    FullText,
    Hex,
    HexOrNone,
    Base64,
    Base64OrNone,
    /// Octets in base64, or `-` for none.
    Base64OrDash,
    /// Octets in base64 as `Base64`, or nothing if the flags at the start of the data say that there is no key.
    PublicKey,
    /// A set of record types in windows (RFC 4034 §4.1.2), or of types from 1 to 127 in one bitmap (RFC 2535 §5.2).
    Types,
    LowTypes,
    Ports,
    X121,
    Nsap,
    Atm,
    Eui48,
    Eui64,
    /// A node id or a locator of ILNP, in 64 bits (RFC 6742).
    Locator,
    GatewayType,
    /// The discovery flag of a relay, in the highest bit of the octet in which `RelayType` follows.
    Discovery,
    RelayType,
    /// A gateway or relay of the type that the second octet of the data says.
    Gateway,
    /// A salt of at most 255 octets in hex, or `-` for none.
    Salt,
    /// A hash of a name by the algorithm that the first octet of the data says.
    NameHash,
    AddressInParts,
    Prefixes,
    HostIdentity,
    Location,
    Parameters,
}

const DIGEST: &[Field] = &[
    ("the key tag", Kind::U16),
    ("the algorithm", Kind::Code8(ALGORITHMS)),
    ("the digest type", Kind::Code8(DIGESTS)),
    ("the digest", Kind::Hex),
];
const KEY: &[Field] = &key(Kind::KeyFlags, Kind::Base64);
const OLD_KEY: &[Field] = &key(Kind::KeyFlags, Kind::PublicKey);
const RKEY: &[Field] = &key(Kind::NoKeyFlags, Kind::Base64);
const SIGNATURE: &[Field] = &signature(Kind::Moment);
/// Fields of a SIG record, whose times have no form but calendar time (RFC 2535 §7.2), unlike RRSIG's (RFC 4034 §3.2).
const OLD_SIGNATURE: &[Field] = &signature(Kind::Date);
const TEXT: &[Field] = &[("the text", Kind::Strings)];
const ASSOCIATION: &[Field] = &[
    ("the certificate usage", Kind::U8),
    ("the selector", Kind::U8),
    ("the matching type", Kind::U8),
    ("the certificate data", Kind::Hex),
];
const EXCHANGE: &[Field] = &[("the preference", Kind::U16), ("the host", Kind::Name)];
const SERVICE: &[Field] =
    &[("the priority", Kind::U16), ("the target", Kind::Name), ("the service parameters", Kind::Parameters)];

const fn key(flags: Kind, public_key: Kind) -> [Field; 4] {
    [
        ("the flags field", flags),
        ("the protocol", Kind::Code8(KEY_PROTOCOLS)),
        ("the algorithm", Kind::Code8(ALGORITHMS)),
        ("the public key", public_key),
    ]
}

const fn signature(time: Kind) -> [Field; 9] {
    [
        ("the type covered", Kind::Type),
        ("the algorithm", Kind::Code8(ALGORITHMS)),
        ("the number of labels", Kind::U8),
        ("the original TTL", Kind::Seconds),
        ("the expiration", time),
        ("the inception", time),
        ("the key tag", Kind::U16),
        ("the signer", Kind::Name),
        ("the signature", Kind::Base64),
    ]
}

pub(super) fn fields(rtype: RecordType) -> Option<&'static [Field]> {
    Some(match rtype {
        RecordType::A => &[("the IPv4 address", Kind::Ipv4)],
        RecordType::AAAA => &[("the IPv6 address", Kind::Ipv6)],
        RecordType::NS => &[("the name server", Kind::Name)],
        RecordType::CNAME | RecordType::DNAME => &[("the target", Kind::Name)],
        RecordType::PTR | RecordType::MB | RecordType::NSAP_PTR => &[("the host", Kind::Name)],
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
        RecordType::MX | RecordType::KX | RecordType::RT | RecordType::LP => EXCHANGE,
        RecordType::AFSDB => &[("the subtype", Kind::U16), ("the host", Kind::Name)],
        RecordType::TXT
        | RecordType::SPF
        | RecordType::NINFO
        | RecordType::AVC
        | RecordType::RESINFO
        | RecordType::WALLET => TEXT,
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
        RecordType::DS | RecordType::CDS | RecordType::TA | RecordType::DLV => DIGEST,
        RecordType::DNSKEY | RecordType::CDNSKEY => KEY,
        RecordType::SSHFP => &[
            ("the algorithm", Kind::U8),
            ("the fingerprint type", Kind::U8),
            ("the fingerprint", Kind::HexOrNone),
        ],
        RecordType::RRSIG => SIGNATURE,
        RecordType::SIG => OLD_SIGNATURE,
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
        RecordType::MG | RecordType::MR => &[("the mailbox", Kind::Name)],
        RecordType::MINFO => {
            &[("the responsible mailbox", Kind::Name), ("the mailbox of errors", Kind::Name)]
        }
        RecordType::WKS => &[
            ("the IPv4 address", Kind::Ipv4),
            ("the protocol", Kind::Code8(IP_PROTOCOLS)),
            ("a service", Kind::Ports),
        ],
        RecordType::X25 => &[("the PSDN address", Kind::X121)],
        RecordType::ISDN => &[("the ISDN address", Kind::String), ("the subaddress", Kind::OptionalString)],
        RecordType::NSAP => &[("the NSAP address", Kind::Nsap)],
        RecordType::KEY => OLD_KEY,
        RecordType::RKEY => RKEY,
        RecordType::KEYDATA => &[
            ("the refresh time", Kind::Moment),
            ("the time of addition", Kind::Moment),
            ("the time of removal", Kind::Moment),
            ("the flags field", Kind::KeyFlags),
            ("the protocol", Kind::Code8(KEY_PROTOCOLS)),
            ("the algorithm", Kind::Code8(ALGORITHMS)),
            ("the public key", Kind::Base64OrNone),
        ],
        RecordType::PX => &[
            ("the preference", Kind::U16),
            ("the RFC 822 domain", Kind::Name),
            ("the X.400 domain", Kind::Name),
        ],
        RecordType::GPOS => {
            &[("the longitude", Kind::String), ("the latitude", Kind::String), ("the altitude", Kind::String)]
        }
        RecordType::NXT => &[("the next name", Kind::Name), ("a type", Kind::LowTypes)],
        RecordType::EID => &[("the endpoint identifier", Kind::Hex)],
        RecordType::NIMLOC => &[("the Nimrod locator", Kind::Hex)],
        RecordType::ATMA => &[("the ATM address", Kind::Atm)],
        RecordType::CERT => &[
            ("the certificate type", Kind::Code16(CERTIFICATES)),
            ("the key tag", Kind::U16),
            ("the algorithm", Kind::Code8(ALGORITHMS)),
            ("the certificate", Kind::Base64),
        ],
        RecordType::A6 => &[("the prefix length", Kind::AddressInParts)],
        RecordType::SINK => &[
            ("the meaning", Kind::U8),
            ("the coding", Kind::U8),
            ("the subcoding", Kind::U8),
            ("the contents", Kind::Base64OrNone),
        ],
        RecordType::APL => &[("the prefixes", Kind::Prefixes)],
        RecordType::IPSECKEY => &[
            ("the precedence", Kind::U8),
            ("the gateway type", Kind::GatewayType),
            ("the algorithm", Kind::U8),
            ("the gateway", Kind::Gateway),
            ("the public key", Kind::Base64),
        ],
        RecordType::AMTRELAY => &[
            ("the precedence", Kind::U8),
            ("the discovery flag", Kind::Discovery),
            ("the relay type", Kind::RelayType),
            ("the relay", Kind::Gateway),
        ],
        RecordType::DHCID => &[("the client identifier", Kind::Base64)],
        RecordType::HHIT => &[("the host identity tag", Kind::Base64)],
        RecordType::BRID => &[("the broadcast identifier", Kind::Base64)],
        RecordType::NSEC3 => &[
            ("the hash algorithm", Kind::Code8(NAME_HASHES)),
            ("the flags field", Kind::U8),
            ("the number of iterations", Kind::U16),
            ("the salt", Kind::Salt),
            ("the next hashed owner", Kind::NameHash),
            ("the types", Kind::Types),
        ],
        RecordType::NSEC3PARAM => &[
            ("the hash algorithm", Kind::Code8(NAME_HASHES)),
            ("the flags field", Kind::U8),
            ("the number of iterations", Kind::U16),
            ("the salt", Kind::Salt),
        ],
        RecordType::HIP => &[("the algorithm", Kind::HostIdentity)],
        RecordType::TALINK => &[("the previous name", Kind::Name), ("the next name", Kind::Name)],
        RecordType::DSYNC => &[
            ("the type", Kind::Type),
            ("the scheme", Kind::Code8(SCHEMES)),
            ("the port", Kind::U16),
            ("the target", Kind::Name),
        ],
        RecordType::NID => &[("the preference", Kind::U16), ("the node id", Kind::Locator)],
        RecordType::L32 => &[("the preference", Kind::U16), ("the locator", Kind::Ipv4)],
        RecordType::L64 => &[("the preference", Kind::U16), ("the locator", Kind::Locator)],
        RecordType::EUI48 => &[("the address", Kind::Eui48)],
        RecordType::EUI64 => &[("the address", Kind::Eui64)],
        RecordType::DOA => &[
            ("the enterprise", Kind::U32),
            ("the type", Kind::U32),
            ("the location", Kind::U8),
            ("the media type", Kind::String),
            ("the object", Kind::Base64OrDash),
        ],
        _ => return None,
    })
}

/// True for types whose records may have no data, and then no text for it (APL, RFC 3123 §4).
pub(super) fn may_be_empty(rtype: RecordType) -> bool {
    rtype == RecordType::APL
}

/// The type that replaced an obsolete one, whose records are refused (RFC 1035 §3.3.4 and §3.3.5).
pub(super) fn successor(rtype: RecordType) -> Option<RecordType> {
    matches!(rtype, RecordType::MD | RecordType::MF).then_some(RecordType::MX)
}
