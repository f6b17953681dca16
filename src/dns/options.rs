//! EDNS options of a reply: those that are known before the records, so that space can be reserved for them, and their
//! wire form in the OPT record.

#![forbid(unsafe_code)]

use std::fmt;

use crate::wire::option;

use super::cookie::COOKIE_OCTETS;
use super::reply::OPT_OCTETS;

/// Length limit of a server's id in bytes; a longer one is cut.
pub(super) const SERVER_ID_OCTETS_MAX: usize = 64;
const OPTION_HEADER_OCTETS: usize = 4;
const KEEPALIVE_OCTETS: usize = OPTION_HEADER_OCTETS + 2;
/// Length limit in bytes of a [`Text`]: a server's id, a space and a generation, or the text of an extended error.
const TEXT_OCTETS_MAX: usize = SERVER_ID_OCTETS_MAX + 24;

pub(super) struct Opt<'b> {
    pub(super) out: &'b mut [u8],
    pub(super) at: usize,
}

impl Opt<'_> {
    pub(super) fn put(&mut self, octets: &[u8]) {
        if let Some(room) = self.out.get_mut(self.at..self.at + octets.len()) {
            room.copy_from_slice(octets);
            self.at += octets.len();
        }
    }

    pub(super) fn option(&mut self, code: u16, data: &[&[u8]]) {
        let len: usize = data.iter().map(|part| part.len()).sum();
        if self.at + OPTION_HEADER_OCTETS + len <= self.out.len() {
            self.put(&code.to_be_bytes());
            self.put(&(len as u16).to_be_bytes());
            data.iter().for_each(|part| self.put(part));
        }
    }
}

impl Opt<'_> {
    /// Pads the message, which ends here, to a multiple of `block` bytes, or to its longest length if that is shorter.
    pub(super) fn pad(&mut self, block: usize) {
        let start = self.at + OPTION_HEADER_OCTETS;
        let end = start.next_multiple_of(block).min(self.out.len());
        if let Some(room) = self.out.get_mut(start..end) {
            room.fill(0);
            let len = room.len() as u16;
            self.put(&option::PADDING.to_be_bytes());
            self.put(&len.to_be_bytes());
            self.at = end;
        }
    }
}

/// Options of a reply. `keepalive` is the idle timeout in units of 100 milliseconds (RFC 7828 §3.1). A padded reply does
/// not reveal its content by its length (RFC 7830).
#[derive(Default)]
pub(super) struct Options {
    pub(super) cookie: Option<[u8; COOKIE_OCTETS]>,
    pub(super) is_cookie_good: bool,
    pub(super) server_id: Text,
    pub(super) keepalive: Option<u16>,
    pub(super) is_padded: bool,
}

impl Options {
    /// Length in bytes of the OPT record with these options, without padding and an extended error.
    pub(super) fn octets(&self) -> usize {
        let server_id = match self.server_id.as_bytes().len() {
            0 => 0,
            len => OPTION_HEADER_OCTETS + len,
        };
        OPT_OCTETS
            + self.cookie.map_or(0, |_| OPTION_HEADER_OCTETS + COOKIE_OCTETS)
            + server_id
            + self.keepalive.map_or(0, |_| KEEPALIVE_OCTETS)
    }
}

pub(super) struct Text {
    octets: [u8; TEXT_OCTETS_MAX],
    len: usize,
}

impl Default for Text {
    fn default() -> Text {
        Text { octets: [0; TEXT_OCTETS_MAX], len: 0 }
    }
}

impl Text {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.octets[self.len..];
        let len = text.len().min(room.len());
        room[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}
