//! Mnemonics of numbers in record data, in upper case.
//!
//! | table | numbers | source |
//! | --- | --- | --- |
//! | `ALGORITHMS` | DNSSEC algorithms, with BIND's other names for some | RFC 4034 §A.1, 5702, 5933, 6605, 8080 |
//! | `DIGESTS` | digest algorithms of DS, with BIND's names | RFC 3658, 4509, 5933, 6605 |
//! | `NAME_HASHES` | hash algorithms of NSEC3 | RFC 5155 §11 |
//! | `KEY_PROTOCOLS` | protocols of KEY | RFC 2535 §7.1 |
//! | `KEY_FLAGS` | flags of KEY, with BIND's names | RFC 2535 §7.1 |
//! | `CERTIFICATES` | certificate types of CERT | RFC 4398 §2.1 |
//! | `SCHEMES` | schemes of DSYNC | RFC 9859 §2.2 |
//! | `IP_PROTOCOLS` | IP protocols of WKS | RFC 1010 |
//! | `SERVICES` | services of WKS, and others that DNS servers read from `/etc/services` | RFC 1010 |

use super::reader::number;
use crate::zone::presentation::{TextError, Word};

pub(super) type Mnemonics = [(&'static str, u16)];

pub(super) const ALGORITHMS: &Mnemonics = &[
    ("RSAMD5", 1),
    ("DH", 2),
    ("DSA", 3),
    ("RSASHA1", 5),
    ("DSA-NSEC3-SHA1", 6),
    ("NSEC3DSA", 6),
    ("RSASHA1-NSEC3-SHA1", 7),
    ("NSEC3RSASHA1", 7),
    ("RSASHA256", 8),
    ("RSASHA512", 10),
    ("ECC-GOST", 12),
    ("ECCGOST", 12),
    ("ECDSAP256SHA256", 13),
    ("ECDSA256", 13),
    ("ECDSAP384SHA384", 14),
    ("ECDSA384", 14),
    ("ED25519", 15),
    ("ED448", 16),
    ("INDIRECT", 252),
    ("PRIVATEDNS", 253),
    ("PRIVATEOID", 254),
];

pub(super) const DIGESTS: &Mnemonics =
    &[("SHA-1", 1), ("SHA1", 1), ("SHA-256", 2), ("SHA256", 2), ("GOST", 3), ("SHA-384", 4), ("SHA384", 4)];

pub(super) const NAME_HASHES: &Mnemonics = &[("SHA-1", 1)];

pub(super) const KEY_PROTOCOLS: &Mnemonics =
    &[("NONE", 0), ("TLS", 1), ("EMAIL", 2), ("DNSSEC", 3), ("IPSEC", 4), ("ALL", 255)];

pub(super) const CERTIFICATES: &Mnemonics = &[
    ("PKIX", 1),
    ("SPKI", 2),
    ("PGP", 3),
    ("IPKIX", 4),
    ("ISPKI", 5),
    ("IPGP", 6),
    ("ACPKIX", 7),
    ("IACPKIX", 8),
    ("URI", 253),
    ("OID", 254),
];

pub(super) const SCHEMES: &Mnemonics = &[("NOTIFY", 1)];

pub(super) const IP_PROTOCOLS: &Mnemonics =
    &[("ICMP", 1), ("IGMP", 2), ("GGP", 3), ("TCP", 6), ("EGP", 8), ("UDP", 17), ("RDP", 27)];

pub(super) const SERVICES: &Mnemonics = &[
    ("ECHO", 7),
    ("DISCARD", 9),
    ("SYSTAT", 11),
    ("DAYTIME", 13),
    ("NETSTAT", 15),
    ("QOTD", 17),
    ("CHARGEN", 19),
    ("FTP-DATA", 20),
    ("FTP", 21),
    ("SSH", 22),
    ("TELNET", 23),
    ("SMTP", 25),
    ("TIME", 37),
    ("NAMESERVER", 42),
    ("NICNAME", 43),
    ("WHOIS", 43),
    ("TACACS", 49),
    ("DOMAIN", 53),
    ("BOOTPS", 67),
    ("BOOTPC", 68),
    ("TFTP", 69),
    ("GOPHER", 70),
    ("FINGER", 79),
    ("HTTP", 80),
    ("KERBEROS", 88),
    ("HOSTNAME", 101),
    ("HOSTNAMES", 101),
    ("ISO-TSAP", 102),
    ("POP2", 109),
    ("POP3", 110),
    ("SUNRPC", 111),
    ("AUTH", 113),
    ("SFTP", 115),
    ("UUCP-PATH", 117),
    ("NNTP", 119),
    ("NTP", 123),
    ("IMAP2", 143),
    ("IMAP", 143),
    ("SNMP", 161),
    ("SNMP-TRAP", 162),
    ("BGP", 179),
    ("IRC", 194),
    ("LDAP", 389),
    ("HTTPS", 443),
    ("SUBMISSION", 587),
    ("IMAPS", 993),
    ("POP3S", 995),
];

const KEY_FLAGS: &Mnemonics = &[
    ("NOCONF", 0x4000),
    ("NOAUTH", 0x8000),
    ("NOKEY", NO_KEY),
    ("FLAG2", 0x2000),
    ("EXTEND", 0x1000),
    ("FLAG4", 0x0800),
    ("FLAG5", 0x0400),
    ("USER", 0x0000),
    ("ZONE", 0x0100),
    ("HOST", 0x0200),
    ("NTYP3", 0x0300),
    ("FLAG8", 0x0080),
    ("FLAG9", 0x0040),
    ("FLAG10", 0x0020),
    ("FLAG11", 0x0010),
    ("SIG0", 0),
    ("SIG1", 1),
    ("SIG2", 2),
    ("SIG3", 3),
    ("SIG4", 4),
    ("SIG5", 5),
    ("SIG6", 6),
    ("SIG7", 7),
    ("SIG8", 8),
    ("SIG9", 9),
    ("SIG10", 10),
    ("SIG11", 11),
    ("SIG12", 12),
    ("SIG13", 13),
    ("SIG14", 14),
    ("SIG15", 15),
    ("KSK", 1),
];
/// Flags of a KEY record that has no key: both bits are set (RFC 2535 §3.1.2).
const NO_KEY: u16 = 0xc000;

pub(super) fn code(word: &Word<'_>, known: &Mnemonics, max: u16, what: &str) -> Result<u16, TextError> {
    if let Some((_, code)) = known.iter().find(|(mnemonic, _)| word.is(mnemonic)) {
        return Ok(*code);
    }
    number(word, max.into(), what).map(|code| code as u16).map_err(|error| match known.first() {
        Some((example, _)) => {
            let message = format!(
                "{what} must be a number from 0 to {max} or a word such as {example}, not `{}`",
                word.shown()
            );
            TextError::new(error.at, message)
        }
        None => error,
    })
}

pub(super) fn key_flags(word: &Word<'_>, what: &str) -> Result<u16, TextError> {
    let text = std::str::from_utf8(word.raw).unwrap_or_default();
    let hex = || {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
        u16::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let flags = || {
        text.split('|').try_fold(0, |flags, name| {
            let (_, flag) = KEY_FLAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
            Some(flags | flag)
        })
    };
    let decimal = number(word, u16::MAX.into(), what).ok().map(|flags| flags as u16);
    decimal.or_else(hex).or_else(flags).ok_or_else(|| {
        word.error(format!(
            "{what} must be a number from 0 to {} or words such as NOCONF|ZONE, not `{}`",
            u16::MAX,
            word.shown()
        ))
    })
}

pub(super) fn is_without_key(flags: u16) -> bool {
    flags & NO_KEY == NO_KEY
}
