//! Constants and basic types of DNS messages: header, flags, codes, classes, compression pointers and EDNS option codes.
//!
//! Every number of the message format is defined here once. Record types are in [`crate::zone::RecordType`], because zone
//! files contain them too.
//!
//! | RFC | defines |
//! | --- | --- |
//! | 1035 §4.1.1 | the header; its bits AD and CD: RFC 4035 §3.2 |
//! | 1035 §4.1.4 | compression pointers |
//! | 6895 §2.2, §2.3 | opcodes and response codes |
//! | 6895 §3.2 | classes |
//! | 6891 §9 | EDNS option codes |
//! | 8914 §4 | extended errors |
//!
//! Used by [`crate::zone`], which prepares some records in wire form, and by [`crate::dns`], which reads and writes
//! messages.

use std::fmt;

/// Length of a message's header in bytes (RFC 1035 §4.1.1).
pub const HEADER_OCTETS: usize = 12;

/// Length in bytes of type and class, which follow the name of a question (RFC 1035 §4.1.2).
pub const QUESTION_FIXED_OCTETS: usize = 4;

/// The header of a message (RFC 1035 §4.1.1). The four counts are QDCOUNT, ANCOUNT, NSCOUNT and ARCOUNT; the last one
/// includes the OPT record.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document and the RFC explain the fields")]
pub struct Header {
    pub id: u16,
    pub flags: Flags,
    pub questions: u16,
    pub answers: u16,
    pub authorities: u16,
    pub additionals: u16,
}

impl Header {
    /// Reads the header of a message. `None` for a message of less than 12 bytes.
    pub fn read(message: &[u8]) -> Option<Header> {
        let header = message.first_chunk::<HEADER_OCTETS>()?;
        let field = |number: usize| u16::from_be_bytes([header[2 * number], header[2 * number + 1]]);
        Some(Header {
            id: field(0),
            flags: Flags(field(1)),
            questions: field(2),
            answers: field(3),
            authorities: field(4),
            additionals: field(5),
        })
    }

    /// The header in wire form.
    pub fn to_wire(self) -> [u8; HEADER_OCTETS] {
        let Header { id, flags, questions, answers, authorities, additionals } = self;
        let mut wire = [0; HEADER_OCTETS];
        let fields = [id, flags.0, questions, answers, authorities, additionals];
        for (octets, field) in wire.as_chunks_mut::<2>().0.iter_mut().zip(fields) {
            *octets = field.to_be_bytes();
        }
        wire
    }
}

/// Third and fourth byte of a header: flags, opcode and the low four bits of the response code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u16);

#[expect(missing_docs, reason = "the constants are the RFCs' own names")]
impl Flags {
    pub const QR: Flags = Flags(0x8000);
    pub const AA: Flags = Flags(0x0400);
    pub const TC: Flags = Flags(0x0200);
    pub const RD: Flags = Flags(0x0100);
    pub const CD: Flags = Flags(0x0010);
}

#[expect(missing_docs, reason = "the names of these operations on sets of bits say it all")]
impl Flags {
    pub const fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    pub const fn with(self, flags: Flags) -> Flags {
        Flags(self.0 | flags.0)
    }

    pub const fn masked(self, mask: Flags) -> Flags {
        Flags(self.0 & mask.0)
    }

    pub const fn without(self, flags: Flags) -> Flags {
        Flags(self.0 & !flags.0)
    }
}

impl Flags {
    /// Mask of the four bits of the opcode.
    pub const OPCODE: Flags = Flags(0x7800);

    /// Opcode in bits 11 to 14.
    pub const fn opcode(self) -> Opcode {
        Opcode((self.0 >> 11 & 0xf) as u8)
    }

    /// Low four bits of the response code; an OPT record carries the others (RFC 6891 §6.1.3).
    pub const fn rcode_low(self) -> u8 {
        (self.0 & 0xf) as u8
    }

    /// These flags with the low four bits of a response code, which were 0.
    pub const fn with_rcode(self, rcode: Rcode) -> Flags {
        Flags(self.0 | rcode.0 & 0xf)
    }
}

/// Kind of a message (RFC 6895 §2.2): a standard query, a NOTIFY (RFC 1996) or a dynamic update (RFC 2136).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Opcode(pub u8);

#[expect(missing_docs, reason = "the constants are the registry's own mnemonics")]
impl Opcode {
    pub const QUERY: Opcode = Opcode(0);
    pub const NOTIFY: Opcode = Opcode(4);
    pub const UPDATE: Opcode = Opcode(5);
}

impl Opcode {
    /// Flags of a message with this opcode, without any other bits.
    pub const fn flags(self) -> Flags {
        Flags((self.0 as u16) << 11)
    }
}

/// Response code, with the upper eight bits that only EDNS can carry (RFC 6895 §2.3, RFC 6891 §6.1.3).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rcode(pub u16);

#[expect(missing_docs, reason = "the constants are the registry's own mnemonics")]
impl Rcode {
    pub const NOERROR: Rcode = Rcode(0);
    pub const FORMERR: Rcode = Rcode(1);
    pub const NXDOMAIN: Rcode = Rcode(3);
    pub const NOTIMP: Rcode = Rcode(4);
    pub const REFUSED: Rcode = Rcode(5);
    pub const YXDOMAIN: Rcode = Rcode(6);
    pub const NOTAUTH: Rcode = Rcode(9);
    pub const BADVERS: Rcode = Rcode(16);
}

impl Rcode {
    const MNEMONICS: [&'static str; 11] = [
        "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
        "NOTAUTH", "NOTZONE",
    ];

    /// Upper eight of the twelve bits, which are in the TTL of an OPT record (RFC 6891 §6.1.3).
    pub const fn high(self) -> u8 {
        (self.0 >> 4) as u8
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Rcode::MNEMONICS.get(usize::from(self.0)) {
            Some(mnemonic) => f.write_str(mnemonic),
            None if *self == Rcode::BADVERS => f.write_str("BADVERS"),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Extended error (RFC 8914 §4), which an option of the OPT record carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExtendedError(pub u16);

#[expect(missing_docs, reason = "the constants are the registry's own names")]
impl ExtendedError {
    pub const OTHER: ExtendedError = ExtendedError(0);
    pub const STALE_ANSWER: ExtendedError = ExtendedError(3);
    pub const PROHIBITED: ExtendedError = ExtendedError(18);
    pub const STALE_NXDOMAIN_ANSWER: ExtendedError = ExtendedError(19);
    pub const NOT_AUTHORITATIVE: ExtendedError = ExtendedError(20);
}

/// Code of a class (RFC 6895 §3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Class(pub u16);

impl Class {
    /// The Internet, the class of all zones here.
    pub const IN: Class = Class(1);
    /// Chaosnet, whose names servers use to identify themselves (RFC 4892).
    pub const CHAOS: Class = Class(3);
    /// Class of TSIG records (RFC 8945 §4.2), and of deletions in updates (RFC 2136 §2.4).
    pub const ANY: Class = Class(255);
}

/// Codes of EDNS options (IANA, DNS EDNS0 Option Codes): server identifier (RFC 5001), cookie (RFC 7873), idle timeout of a
/// TCP connection (RFC 7828), padding of messages over encrypted transports (RFC 7830), extended error (RFC 8914).
#[expect(missing_docs, reason = "the module's document explains the constants")]
pub mod option {
    pub const NSID: u16 = 3;
    pub const COOKIE: u16 = 10;
    pub const TCP_KEEPALIVE: u16 = 11;
    pub const PADDING: u16 = 12;
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Compression pointer: a name in a message, given as its offset from the message's start (RFC 1035 §4.1.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pointer(u16);

impl Pointer {
    /// End of the offsets that a pointer can express, which has 14 bits for them.
    pub const OFFSETS_END: usize = 1 << 14;
    const PREFIX: u16 = 0xc000;
    /// Smallest value of a pointer's first byte.
    pub const FIRST_OCTET_MIN: u8 = 0xc0;

    /// Pointer to the question's name, which begins directly behind the header.
    pub const QUESTION: Pointer = Pointer::to_near(HEADER_OCTETS as u16);

    /// Pointer to an offset; `None` for an offset that needs more than 14 bits.
    #[inline]
    pub fn to(offset: usize) -> Option<Pointer> {
        (offset < Pointer::OFFSETS_END).then_some(Pointer(Pointer::PREFIX | offset as u16))
    }

    /// Pointer to an offset that the caller knows to be below [`Pointer::OFFSETS_END`].
    #[inline(always)]
    pub const fn to_near(offset: u16) -> Pointer {
        Pointer(Pointer::PREFIX | offset)
    }

    /// Reads the two bytes of a pointer; `None` if they begin with the length of a label.
    #[inline]
    pub fn read(octets: [u8; 2]) -> Option<Pointer> {
        (octets[0] >= Pointer::FIRST_OCTET_MIN).then_some(Pointer(u16::from_be_bytes(octets)))
    }

    /// Offset of the name in bytes from the start of the message.
    #[inline]
    pub const fn offset(self) -> usize {
        (self.0 & !Pointer::PREFIX) as usize
    }

    /// The pointer as a number, whose big-endian bytes are its wire form.
    #[inline(always)]
    pub const fn value(self) -> u16 {
        self.0
    }

    /// The pointer in wire form.
    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_unchanged_when_read_and_written() {
        let wire = [0x12, 0x34, 0xa5, 0x93, 0, 1, 0, 2, 0, 3, 0, 4];
        let header = Header::read(&wire).unwrap();
        assert_eq!(header.to_wire(), wire);
        assert_eq!((header.id, header.questions, header.additionals), (0x1234, 1, 4));
        assert_eq!((header.flags.opcode(), header.flags.rcode_low()), (Opcode::NOTIFY, 3));
        assert!(header.flags.has(Flags::QR) && header.flags.has(Flags::RD) && !header.flags.has(Flags::TC));
        assert_eq!(Header::read(&wire[..11]), None);
    }

    #[test]
    fn pointer_has_14_bits_for_its_offset() {
        assert_eq!(Pointer::to(0x3fff).map(|pointer| pointer.to_wire()), Some([0xff, 0xff]));
        assert_eq!(Pointer::to(0x4000), None);
        assert_eq!(Pointer::read([0xc1, 2]).map(Pointer::offset), Some(0x102));
        assert_eq!(Pointer::read([0x3f, 2]), None);
        assert_eq!(Pointer::QUESTION.to_wire(), [0xc0, 12]);
    }

    #[test]
    fn response_codes_show_their_mnemonics() {
        let shown = [Rcode::NOERROR, Rcode::NOTAUTH, Rcode::BADVERS, Rcode(15), Rcode(23)]
            .map(|code| code.to_string());
        assert_eq!(shown, ["NOERROR", "NOTAUTH", "BADVERS", "15", "23"]);
    }
}
