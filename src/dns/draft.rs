//! The parts of a reply around its records: header and OPT record (RFC 6891 §6.1.2), and the reply to a signed query.

use std::fmt::Write;

use crate::wire::{Class, ExtendedError, Flags, HEADER_OCTETS, Header, Rcode, option};
use crate::zone::{QueryName, RecordSet, RecordType, leaf::Data};

use super::answer::Verdict;
use super::options::{Opt, Options, Text};
use super::place::ReplyPlace;
use super::query::{Edns, TSIG, Tsig};
use super::reply::{OPT_OCTETS, Reply, UDP_OCTETS_MAX};
use super::resolve::{Ending, Note, Owner, Section, Sink};
use super::sections::{Fit, Sections};
use super::writer::Writer;

const VERSION: &str = concat!("cloudmap-dns ", env!("CARGO_PKG_VERSION"));
/// Replies over encrypted transports are padded to a multiple of this length, in bytes (RFC 8467 §4.1).
const PADDING_BLOCK_OCTETS: usize = 468;

/// Header and extended error of a reply, collected until the length of its records is known.
pub(super) struct Draft {
    id: u16,
    flags: Flags,
    pub(super) code: Rcode,
    pub(super) rtype: RecordType,
    /// Lasting number of the zone that answers.
    pub(super) zone: Option<u8>,
    /// The second element is the number of instances that health withholds, for the error's text.
    pub(super) explanation: Option<(ExtendedError, Option<Note>)>,
}

impl Draft {
    /// Begins the reply to the query with this header, from which it copies RD and CD (RFC 1035 §4.1.1, RFC 4035 §3.1.6).
    pub(super) fn new(query: &Header) -> Draft {
        let repeated = Flags::OPCODE.with(Flags::RD).with(Flags::CD);
        let flags = Flags::QR.with(query.flags.masked(repeated));
        Draft {
            id: query.id,
            flags,
            code: Rcode::NOERROR,
            rtype: RecordType(0),
            zone: None,
            explanation: None,
        }
    }

    /// Begins the reply to a query with an unknown opcode, for which even the flags have no known meaning.
    pub(super) fn of_unknown_opcode(query: &Header) -> Draft {
        let flags = Flags::QR.with(query.flags.masked(Flags::OPCODE));
        Draft { flags, ..Draft::new(query) }
    }

    pub(super) fn without_records(mut self, code: Rcode, question: &[u8], out: &mut [u8]) -> Verdict {
        self.code = code;
        let len = HEADER_OCTETS + question.len();
        if let Some(room) = out.get_mut(HEADER_OCTETS..len) {
            room.copy_from_slice(question);
        }
        self.write_header(!question.is_empty(), [0; 3], out);
        let place = ReplyPlace::of(self.zone, self.rtype, code);
        Verdict::Reply(Reply { len, code, place, is_truncated: false, has_good_cookie: false })
    }

    /// Answers a query of class CHAOS with the server's version or id (RFC 4892), or refuses it.
    pub(super) fn identity<'b>(
        &mut self,
        writer: Writer<'b>,
        name: &QueryName,
        server_id: &str,
    ) -> Writer<'b> {
        let text = match name.as_wire() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => VERSION,
            b"\x08hostname\x04bind\0" | b"\x02id\x06server\0" => server_id,
            _ => {
                self.code = Rcode::REFUSED;
                return writer;
            }
        };
        self.flags = self.flags.with(Flags::AA);
        let mut sections = Sections::new(writer);
        let owner = Owner { name, skipped: 0, is_question: true };
        sections.records(Section::Answer, owner, &RecordSet::one(0, Data::Identity(text)));
        sections.writer
    }

    /// Sets response code, flags and extended error from the result of the resolution. Stale data are reported only if
    /// there is no other extended error (RFC 8914 §4.4, §4.20).
    pub(super) fn end(&mut self, ending: Ending, fit: Fit, is_stale: bool) {
        let is_authoritative = match ending {
            Ending::NoError { authoritative, note } => {
                self.explanation = note.map(|note| (ExtendedError::OTHER, Some(note)));
                authoritative
            }
            Ending::NoName => {
                self.code = Rcode::NXDOMAIN;
                true
            }
            Ending::NameTooLong => {
                self.code = Rcode::YXDOMAIN;
                true
            }
            Ending::NotAuthoritative => {
                self.code = Rcode::REFUSED;
                self.explanation = Some((ExtendedError::NOT_AUTHORITATIVE, None));
                false
            }
        };
        if is_authoritative {
            self.flags = self.flags.with(Flags::AA);
        }
        if fit != Fit::Whole {
            self.flags = self.flags.with(Flags::TC);
        }
        if is_stale && self.explanation.is_none() {
            let error = if self.code == Rcode::NXDOMAIN {
                ExtendedError::STALE_NXDOMAIN_ANSWER
            } else {
                ExtendedError::STALE_ANSWER
            };
            self.explanation = Some((error, None));
        }
    }

    pub(super) fn finish(self, writer: Writer<'_>, edns: Option<Edns<'_>>, options: &Options) -> Verdict {
        let mut counts = writer.counts();
        let has_question = writer.has_question();
        let (out, mut len) = writer.finish();
        if let Some(edns) = edns {
            len = self.write_opt(edns, options, out, len);
            counts[2] += 1;
        }
        self.write_header(has_question, counts, out);
        self.reply(len, options)
    }

    /// Finishes the reply to a signed query. The server knows no key, which an unsigned TSIG record with BADKEY reports if
    /// it fits (RFC 8945 §5.2.1, §5.3.2).
    #[cold]
    pub(super) fn finish_unsigned(
        mut self,
        writer: Writer<'_>,
        edns: Option<Edns<'_>>,
        options: &Options,
        signature: &Tsig<'_>,
    ) -> Verdict {
        const BADKEY: u16 = 17;
        self.code = Rcode::NOTAUTH;
        let mut counts = writer.counts();
        let has_question = writer.has_question();
        let (out, at) = writer.finish();
        let mut len = edns.map_or(at, |edns| self.write_opt(edns, options, out, at));
        counts[2] += u16::from(edns.is_some());
        let mut record = Opt { out, at: len };
        signature.key().for_each(|label| record.put(label));
        record.put(&TSIG.0.to_be_bytes());
        record.put(&Class::ANY.0.to_be_bytes());
        record.put(&[0; 4]);
        let data: [&[u8]; 6] = [
            signature.algorithm,
            signature.time,
            // The length of the signature: an unsigned TSIG record has none.
            &[0; 2],
            &signature.original_id,
            &BADKEY.to_be_bytes(),
            &[0; 2],
        ];
        let data_len: usize = data.iter().map(|part| part.len()).sum();
        record.put(&(data_len as u16).to_be_bytes());
        data.iter().for_each(|part| record.put(part));
        let wanted: usize = signature.key().map(<[u8]>::len).sum::<usize>() + 10 + data_len;
        let Opt { out, at } = record;
        if at == len + wanted {
            (len, counts[2]) = (at, counts[2] + 1);
        }
        self.write_header(has_question, counts, out);
        self.reply(len, options)
    }

    fn reply(&self, len: usize, options: &Options) -> Verdict {
        Verdict::Reply(Reply {
            len,
            code: self.code,
            place: ReplyPlace::of(self.zone, self.rtype, self.code),
            is_truncated: self.flags.has(Flags::TC),
            has_good_cookie: options.is_cookie_good,
        })
    }

    fn write_header(
        &self,
        has_question: bool,
        [answers, authorities, additionals]: [u16; 3],
        out: &mut [u8],
    ) {
        let flags = self.flags.with_rcode(self.code);
        let questions = has_question.into();
        let header = Header { id: self.id, flags, questions, answers, authorities, additionals };
        if let Some(room) = out.first_chunk_mut() {
            *room = header.to_wire();
        }
    }

    /// Writes the OPT record at `at`, and returns its end. Space for [`Options::octets`] was reserved; an extended error and
    /// padding are left out if they do not fit.
    fn write_opt(&self, edns: Edns<'_>, options: &Options, out: &mut [u8], at: usize) -> usize {
        let [size0, size1] = UDP_OCTETS_MAX.to_be_bytes();
        let dnssec_ok = if edns.is_dnssec_ok { 0x80 } else { 0 };
        let fixed = [0, 0, RecordType::OPT.0 as u8, size0, size1, self.code.high(), 0, dnssec_ok, 0, 0, 0];
        let mut opt = Opt { out, at };
        opt.put(&fixed);
        if let Some(cookie) = &options.cookie {
            opt.option(option::COOKIE, &[cookie]);
        }
        if !options.server_id.as_bytes().is_empty() {
            opt.option(option::NSID, &[options.server_id.as_bytes()]);
        }
        if let Some(timeout) = options.keepalive {
            opt.option(option::TCP_KEEPALIVE, &[&timeout.to_be_bytes()]);
        }
        if let Some((error, note)) = self.explanation {
            let mut text = Text::default();
            // A text that is too long is cut.
            let _ = match note {
                Some(Note::Withheld(1)) => write!(text, "1 instance, 0 healthy"),
                Some(Note::Withheld(instances)) => write!(text, "{instances} instances, 0 healthy"),
                Some(Note::UnhealthyInstance) => write!(text, "this instance is UNHEALTHY"),
                None => Ok(()),
            };
            opt.option(option::EXTENDED_ERROR, &[&error.0.to_be_bytes(), text.as_bytes()]);
        }
        if options.is_padded {
            opt.pad(PADDING_BLOCK_OCTETS);
        }
        let Opt { out, at: end } = opt;
        if let Some(len) = out.get_mut(at + OPT_OCTETS - 2..at + OPT_OCTETS) {
            len.copy_from_slice(&((end - at - OPT_OCTETS) as u16).to_be_bytes());
        }
        end
    }
}
