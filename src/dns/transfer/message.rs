//! Writer for the messages of a zone transfer.

use crate::wire::{
    Class, ExtendedError, Flags, HEADER_OCTETS, Header, Pointer, QUESTION_FIXED_OCTETS, Rcode, option,
};
use crate::zone::{Name, RecordType};

const LENGTH_OCTETS: usize = 2;
const RECORD_FIXED_OCTETS: usize = 10;
/// Length in bytes at which a message is full, chosen so that a compression pointer reaches every name in it.
const MESSAGE_OCTETS: usize = Pointer::OFFSETS_END;
/// UDP size in the OPT record; it is mandatory, although it has no meaning for TCP (RFC 6891 §6.2.3).
const UDP_OCTETS: u16 = crate::dns::UDP_OCTETS_MAX;

/// Fields of the query that all messages of its reply repeat: the question in wire form, as the client sent it, and the DO
/// bit of the OPT record, or `None` for a query without one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Head {
    pub(super) id: u16,
    pub(super) recursion_desired: bool,
    pub(super) question: Box<[u8]>,
    pub(super) opt: Option<bool>,
}

pub(super) type Extended = (ExtendedError, &'static str);

pub(super) struct Message {
    octets: Vec<u8>,
    header: Header,
    previous: Previous,
}

/// The owner that was written last, with the offset of each suffix in `wire` and a pointer to that suffix in the message.
/// Most owners end with a suffix of the previous one.
#[derive(Default)]
struct Previous {
    wire: Vec<u8>,
    suffixes: Vec<(usize, Pointer)>,
}

impl Message {
    pub(super) fn first(head: &Head) -> Message {
        let mut message = Message::next(head);
        message.header.questions = 1;
        message.octets.extend_from_slice(&head.question);
        let name = &head.question[..head.question.len().saturating_sub(QUESTION_FIXED_OCTETS)];
        message.previous.set(name, name.len(), HEADER_OCTETS, &[]);
        message
    }

    /// Begins a later message of a reply, which need not have the question (RFC 5936 §2.2.1).
    pub(super) fn next(head: &Head) -> Message {
        let mut octets = Vec::with_capacity(LENGTH_OCTETS + MESSAGE_OCTETS);
        octets.extend_from_slice(&[0; LENGTH_OCTETS + HEADER_OCTETS]);
        let mut flags = Flags::QR.with(Flags::AA);
        if head.recursion_desired {
            flags = flags.with(Flags::RD);
        }
        let header = Header { id: head.id, flags, ..Header::default() };
        Message { octets, header, previous: Previous::default() }
    }

    pub(super) fn error(head: &Head, code: Rcode, extended: Option<Extended>) -> Vec<u8> {
        let mut message = Message::first(head);
        // AA is cleared, because the reply has no authoritative data.
        message.header.flags = message.header.flags.without(Flags::AA).with_rcode(code);
        message.end(head.opt, extended).split_off(LENGTH_OCTETS)
    }

    pub(super) fn truncated(head: &Head) -> Vec<u8> {
        let mut message = Message::first(head);
        message.header.flags = message.header.flags.with(Flags::TC);
        message.end(head.opt, None).split_off(LENGTH_OCTETS)
    }

    /// Adds a record. Returns false if the message is full; the first record of a message always fits.
    pub(super) fn push(&mut self, owner: &Name, rtype: RecordType, ttl: u32, rdata: &[u8]) -> bool {
        let octets_max = owner.as_wire().len() + RECORD_FIXED_OCTETS + rdata.len();
        if self.header.answers > 0 && self.octets.len() + octets_max > MESSAGE_OCTETS {
            return false;
        }
        self.push_name(owner.as_wire());
        self.octets.extend_from_slice(&rtype.0.to_be_bytes());
        self.octets.extend_from_slice(&Class::IN.0.to_be_bytes());
        self.octets.extend_from_slice(&ttl.to_be_bytes());
        self.octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        self.octets.extend_from_slice(rdata);
        self.header.answers += 1;
        true
    }

    /// Finishes the message: adds an OPT record with the DO bit `opt`, if there is one (RFC 5936 §2.2.5), and writes the
    /// header and the length field.
    pub(super) fn end(mut self, opt: Option<bool>, extended: Option<Extended>) -> Vec<u8> {
        if let Some(is_dnssec_ok) = opt {
            self.header.additionals = 1;
            self.octets.push(0);
            self.octets.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
            self.octets.extend_from_slice(&UDP_OCTETS.to_be_bytes());
            self.octets.extend_from_slice(&[0, 0, if is_dnssec_ok { 0x80 } else { 0 }, 0]);
            let option = extended.map_or_else(Vec::new, |(code, text)| {
                let length = (2 + text.len()) as u16;
                let numbers = [option::EXTENDED_ERROR, length, code.0].map(u16::to_be_bytes).concat();
                [&numbers, text.as_bytes()].concat()
            });
            self.octets.extend_from_slice(&(option.len() as u16).to_be_bytes());
            self.octets.extend_from_slice(&option);
        }
        self.octets[LENGTH_OCTETS..][..HEADER_OCTETS].copy_from_slice(&self.header.to_wire());
        let length = (self.octets.len() - LENGTH_OCTETS) as u16;
        self.octets[..LENGTH_OCTETS].copy_from_slice(&length.to_be_bytes());
        self.octets
    }

    /// Writes a name, with a pointer to the longest suffix that it shares with the previous name.
    fn push_name(&mut self, wire: &[u8]) {
        let at = self.octets.len() - LENGTH_OCTETS;
        let (own, shared) = self.previous.shared(wire);
        self.octets.extend_from_slice(&wire[..own]);
        match shared {
            Some(number) => {
                self.octets.extend_from_slice(&self.previous.suffixes[number].1.to_wire());
            }
            None => self.octets.push(0),
        }
        let kept: Vec<_> = shared.map_or_else(Vec::new, |number| self.previous.suffixes[number..].to_vec());
        self.previous.set(wire, own, at, &kept);
    }
}

impl Previous {
    /// Length in bytes of the name before the suffix that it shares with the previous name, and the index of that suffix.
    fn shared(&self, wire: &[u8]) -> (usize, Option<usize>) {
        let mut start = 0;
        while let Some(length) =
            wire.get(start).map(|length| usize::from(*length)).filter(|length| *length > 0)
        {
            let suffix = &wire[start..];
            let number = self.suffixes.iter().position(|(at, _)| self.wire[*at..] == *suffix);
            if number.is_some() {
                return (start, number);
            }
            start += 1 + length;
        }
        (start, None)
    }

    /// Replaces the previous name by one whose first `own` bytes were written at `at`. Its other suffixes are `kept`, whose
    /// offsets refer to the old previous name.
    fn set(&mut self, wire: &[u8], own: usize, at: usize, kept: &[(usize, Pointer)]) {
        let before = self.wire.len();
        self.wire.clear();
        self.wire.extend_from_slice(wire);
        self.suffixes.clear();
        let mut start = 0;
        while start < own && wire[start] > 0 {
            if let Some(pointer) = Pointer::to(at + start) {
                self.suffixes.push((start, pointer));
            }
            start += 1 + usize::from(wire[start]);
        }
        self.suffixes.extend(kept.iter().map(|(start, pointer)| (start + wire.len() - before, *pointer)));
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op;

    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn head(opt: Option<bool>) -> Head {
        let question = [name("svc.local").as_wire(), &[0, 252, 0, 1]].concat();
        Head { id: 7, recursion_desired: true, question: question.into(), opt }
    }

    fn read(octets: &[u8]) -> op::Message {
        assert_eq!(usize::from(u16::from_be_bytes([octets[0], octets[1]])), octets.len() - 2);
        op::Message::from_vec(&octets[2..]).unwrap()
    }

    const OWNERS: [&str; 8] = [
        "svc.local",
        "a.web.svc.local",
        "a.web.svc.local",
        "b.web.svc.local",
        "web.svc.local",
        "_tcp.web.svc.local",
        "other.local",
        ".",
    ];

    #[test]
    fn owners_point_to_the_suffix_that_they_share_with_the_previous_owner() {
        for (mut message, extra) in [(Message::first(&head(None)), 0), (Message::next(&head(None)), 9)] {
            let before = message.octets.len();
            for owner in OWNERS {
                assert!(message.push(&name(owner), RecordType::A, 60, &[10, 0, 0, 1]));
            }
            // Bytes of each owner: labels that it does not share with the one before, and a pointer or the root.
            let names = 2 + (6 + 2) + 2 + (2 + 2) + 2 + (5 + 2) + (6 + 2) + 1;
            assert_eq!(message.octets.len() - before, names + extra + 8 * 14);
            let read = read(&message.end(None, None));
            let owners: Vec<_> = read.answers.iter().map(|record| record.name.to_ascii()).collect();
            assert_eq!(owners, OWNERS.map(|owner| name(owner).to_string()));
        }
    }

    #[test]
    fn message_is_full_at_16_kib_but_its_first_record_always_fits() {
        let mut message = Message::next(&head(None));
        assert!(message.push(&name("big.svc.local"), RecordType::TXT, 60, &[1; 65_000]));
        assert!(!message.push(&name("svc.local"), RecordType::A, 60, &[10, 0, 0, 1]));
        assert_eq!(message.end(None, None).len(), 2 + 12 + 15 + 10 + 65_000);
        let mut message = Message::first(&head(None));
        while message.push(&name("svc.local"), RecordType::A, 60, &[10, 0, 0, 1]) {}
        let octets = message.end(Some(false), None);
        assert!(octets.len() <= MESSAGE_OCTETS && octets.len() > MESSAGE_OCTETS - 100);
        assert_eq!(read(&octets).answers.len(), 1021);
    }

    #[test]
    fn names_beyond_the_reach_of_a_pointer_are_not_pointed_to() {
        let mut message = Message::next(&head(None));
        message.octets.resize(Pointer::OFFSETS_END + LENGTH_OCTETS, 0);
        message.push_name(name("a.b").as_wire());
        message.push_name(name("b").as_wire());
        assert_eq!(message.octets[Pointer::OFFSETS_END + LENGTH_OCTETS..], *b"\x01a\x01b\0\x01b\0");
    }

    #[test]
    fn errors_repeat_the_question_and_have_an_extended_error_if_the_query_has_edns() {
        let plain = op::Message::from_vec(&Message::error(
            &head(None),
            Rcode::NOTAUTH,
            Some((ExtendedError::NOT_AUTHORITATIVE, "x")),
        ))
        .unwrap();
        assert_eq!((plain.metadata.response_code, plain.queries.len()), (op::ResponseCode::NotAuth, 1));
        assert!(plain.edns.is_none() && !plain.metadata.authoritative && plain.metadata.recursion_desired);
        let octets =
            Message::error(&head(Some(true)), Rcode::REFUSED, Some((ExtendedError::PROHIBITED, "no")));
        let edns = op::Message::from_vec(&octets).unwrap();
        assert!(edns.edns.is_some_and(|edns| edns.flags().dnssec_ok));
        assert!(octets.ends_with(&[0, 15, 0, 4, 0, 18, b'n', b'o']));
    }
}
