//! A strict parser of DNS messages, which shares no code with the server or with hickory.

pub const HEADER_OCTETS: usize = 12;

/// A message all of whose octets were parsed. The numbers of records are those of the answer, authority and additional
/// section, the last one without the OPT record. `opt` has the OPT record's class (the size), TTL (extended code, version,
/// flags) and data.
pub struct Message<'m> {
    octets: &'m [u8],
    pub question: Option<&'m [u8]>,
    pub records: [usize; 3],
    pub opt: Option<(u16, u32, &'m [u8])>,
}

impl<'m> Message<'m> {
    /// Parses a whole message. It is an error if the counts are wrong, octets are left over, a pointer does not point backwards,
    /// a label or name is too long, or an OPT record is repeated, not in the additional section or not at the root.
    pub fn read(octets: &'m [u8]) -> Result<Message<'m>, String> {
        if octets.len() < HEADER_OCTETS {
            return Err(format!("{} octets", octets.len()));
        }
        let count = |section: usize| usize::from(u16_at(octets, 4 + 2 * section).unwrap_or_default());
        let mut message = Message { octets, question: None, records: [0; 3], opt: None };
        let mut at = HEADER_OCTETS;
        match count(0) {
            0 => {}
            1 => {
                let end = name_end(octets, at)? + 4;
                message.question = Some(octets.get(at..end).ok_or("a question that is cut off")?);
                at = end;
            }
            more => return Err(format!("{more} questions")),
        }
        for section in 0..3 {
            for _ in 0..count(section + 1) {
                at = message.record(section, at)?;
            }
        }
        match octets.len() - at {
            0 => Ok(message),
            left => Err(format!("{left} octets after the message")),
        }
    }

    pub fn flags(&self) -> u16 {
        u16_at(self.octets, 2).unwrap_or_default()
    }

    pub fn code(&self) -> u16 {
        (self.flags() & 0xf) | self.opt.map_or(0, |(_, ttl, _)| (ttl >> 24) as u16) << 4
    }

    pub fn options(&self) -> Result<Vec<(u16, &'m [u8])>, String> {
        let mut rest = self.opt.map_or(&[][..], |(_, _, data)| data);
        let mut options = Vec::new();
        while !rest.is_empty() {
            let (Some(code), Some(len)) = (u16_at(rest, 0), u16_at(rest, 2)) else {
                return Err("half an option".into());
            };
            let end = 4 + usize::from(len);
            options.push((code, rest.get(4..end).ok_or("an option that is cut off")?));
            rest = &rest[end..];
        }
        Ok(options)
    }

    fn record(&mut self, section: usize, start: usize) -> Result<usize, String> {
        let octets = self.octets;
        let at = name_end(octets, start)?;
        let cut = || "a record that is cut off".to_string();
        let rtype = u16_at(octets, at).ok_or_else(cut)?;
        let class = u16_at(octets, at + 2).ok_or_else(cut)?;
        let ttl = u32::from(u16_at(octets, at + 4).ok_or_else(cut)?) << 16;
        let ttl = ttl | u32::from(u16_at(octets, at + 6).ok_or_else(cut)?);
        let len = usize::from(u16_at(octets, at + 8).ok_or_else(cut)?);
        let data = octets.get(at + 10..at + 10 + len).ok_or_else(cut)?;
        if rtype != OPT {
            self.records[section] += 1;
        } else if section != 2 || self.opt.is_some() || octets[start] != 0 {
            return Err("an OPT record that is out of place".into());
        } else {
            self.opt = Some((class, ttl, data));
        }
        Ok(at + 10 + len)
    }
}

const OPT: u16 = 41;

pub fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

/// Offset after a name that may be compressed. Each pointer has to point to before the name or the part that it ends.
fn name_end(octets: &[u8], start: usize) -> Result<usize, String> {
    let (mut at, mut limit, mut end, mut len) = (start, start, None, 1);
    loop {
        match octets.get(at).copied().map(usize::from) {
            None => return Err("a name that is cut off".into()),
            Some(0) => return Ok(end.unwrap_or(at + 1)),
            Some(label @ 1..=63) => {
                len += 1 + label;
                at += 1 + label;
                if len > 255 {
                    return Err("a name of more than 255 octets".into());
                }
            }
            Some(0xc0..) => {
                let pointer = usize::from(u16_at(octets, at).ok_or("half a pointer")? & 0x3fff);
                if pointer >= limit || pointer < HEADER_OCTETS {
                    return Err(format!("a pointer from {at} to {pointer}"));
                }
                end = end.or(Some(at + 2));
                (at, limit) = (pointer, pointer);
            }
            Some(label) => return Err(format!("label type {label:#x}")),
        }
    }
}
