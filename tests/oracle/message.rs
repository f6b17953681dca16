//! Messages for comparisons, read by the letter of RFC 1035 §4 and RFC 6891 §6.

/// Types whose data has a fixed form (RFC 1035 §3.3 and its successors): number of octets before the names, of names, and
/// of octets behind them.
const FORMS: [(u16, [usize; 3]); 9] = [
    (1, [4, 0, 0]),
    (2, [0, 1, 0]),
    (5, [0, 1, 0]),
    (6, [0, 2, 20]),
    (12, [0, 1, 0]),
    (15, [2, 1, 0]),
    (28, [16, 0, 0]),
    (33, [6, 1, 0]),
    (39, [0, 1, 0]),
];
/// Types of which RFC 3597 §4 permits compressed names in data.
const COMPRESSIBLE: [u16; 5] = [2, 5, 6, 12, 15];

pub(crate) const OPT: u16 = 41;
pub(crate) const TSIG: u16 = 250;

/// A record with its names uncompressed, those in its data in lower case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Record {
    pub(crate) owner: Vec<u8>,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
    pub(crate) ttl: u32,
    pub(crate) rdata: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct Opt {
    pub(crate) size: u16,
    pub(crate) high_code: u8,
    pub(crate) version: u8,
    pub(crate) flags: u16,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

/// A message with the sections answer, authority and additional, without OPT. `question` is in wire form, and `trailing` is
/// the number of octets behind the last record.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: [u8; 2],
    pub(crate) flags: u16,
    pub(crate) question: Vec<u8>,
    pub(crate) sections: [Vec<Record>; 3],
    pub(crate) opt: Option<Opt>,
    pub(crate) trailing: usize,
}

#[derive(Debug)]
pub(crate) struct Malformed {
    pub(crate) question: Vec<u8>,
    pub(crate) what: &'static str,
}

impl Message {
    pub(crate) fn opcode(&self) -> u16 {
        self.flags >> 11 & 0xf
    }

    pub(crate) fn code(&self) -> u16 {
        self.flags & 0xf | self.opt.as_ref().map_or(0, |opt| u16::from(opt.high_code) << 4)
    }

    pub(crate) fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn kind(&self) -> Option<(u16, u16)> {
        let [t0, t1, c0, c1] = *self.question.last_chunk()?;
        Some((u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1])))
    }
}

pub(crate) fn read(octets: &[u8]) -> Result<Message, Malformed> {
    let number = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
    let mut malformed = Malformed { question: Vec::new(), what: "question" };
    let mut message = Message {
        id: [octets[0], octets[1]],
        flags: number(2),
        question: Vec::new(),
        sections: Default::default(),
        opt: None,
        trailing: 0,
    };
    let mut at = 12;
    match number(4) {
        0 => {}
        1 => {
            // No name precedes this one, so that a pointer has no valid target.
            let Some(end) = plain_name_end(octets, at).filter(|end| end + 4 <= octets.len()) else {
                return Err(malformed);
            };
            message.question = octets[at..end + 4].to_vec();
            malformed.question = message.question.clone();
            at = end + 4;
        }
        _ => {
            malformed.what = "QDCOUNT";
            return Err(malformed);
        }
    }
    for section in 0..3 {
        for _ in 0..number(6 + 2 * section) {
            let Some((record, end)) = record(octets, at) else {
                malformed.what = "record";
                return Err(malformed);
            };
            if record.rtype == OPT {
                let opt = opt(&record).filter(|_| section == 2 && octets[at] == 0 && message.opt.is_none());
                let Some(opt) = opt else {
                    malformed.what = "OPT";
                    return Err(malformed);
                };
                message.opt = Some(opt);
            } else {
                message.sections[section].push(record);
            }
            at = end;
        }
    }
    message.trailing = octets.len() - at;
    Ok(message)
}

fn plain_name_end(octets: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return Some(at + 1).filter(|end| end - start <= 255),
            len if len > 63 => return None,
            len => at += 1 + len,
        }
    }
}

/// The uncompressed name at `start`, whose pointers have to lead back, and the offset of its end.
fn name(octets: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut wire, mut at, mut end, mut lowest) = (Vec::new(), start, None, start);
    loop {
        let len = usize::from(*octets.get(at)?);
        match len {
            0 => {
                wire.push(0);
                return (wire.len() <= 255).then_some((wire, end.unwrap_or(at + 1)));
            }
            1..=63 => {
                wire.extend_from_slice(octets.get(at..at + 1 + len)?);
                at += 1 + len;
            }
            192.. => {
                let target = (len & 0x3f) << 8 | usize::from(*octets.get(at + 1)?);
                end = end.or(Some(at + 2));
                if target >= lowest {
                    return None;
                }
                (at, lowest) = (target, target);
            }
            _ => return None,
        }
        if wire.len() >= 255 {
            return None;
        }
    }
}

fn record(octets: &[u8], at: usize) -> Option<(Record, usize)> {
    let (owner, at) = name(octets, at)?;
    let [t0, t1, c0, c1, ttl0, ttl1, ttl2, ttl3, len0, len1] = *octets.get(at..)?.first_chunk()?;
    let rtype = u16::from_be_bytes([t0, t1]);
    let start = at + 10;
    let end = start + usize::from(u16::from_be_bytes([len0, len1]));
    let mut rdata = octets.get(start..end)?.to_vec();
    if let Some([before, names, _]) = form(rtype).filter(|_| COMPRESSIBLE.contains(&rtype)) {
        rdata = written_out(octets, start, end, before, names).unwrap_or(rdata);
    }
    let class = u16::from_be_bytes([c0, c1]);
    if class == 1 && !has_form(octets, rtype, start, end) {
        return None;
    }
    let ttl = u32::from_be_bytes([ttl0, ttl1, ttl2, ttl3]);
    Some((Record { owner, rtype, class, ttl, rdata }, end))
}

fn form(rtype: u16) -> Option<[usize; 3]> {
    FORMS.iter().find(|(other, _)| *other == rtype).map(|(_, form)| *form)
}

/// True if the data in `octets` from `start` to `end` has the form of its type.
fn has_form(octets: &[u8], rtype: u16, start: usize, end: usize) -> bool {
    if let Some([before, names, behind]) = form(rtype) {
        let mut at = Some(start + before);
        for _ in 0..names {
            at = at.and_then(|at| name(octets, at)).map(|(_, end)| end);
        }
        return at.map(|at| at + behind) == Some(end);
    }
    match rtype {
        16 => {
            let mut at = start;
            while at < end {
                at += 1 + usize::from(octets[at]);
            }
            at == end && start < end
        }
        251..=255 => false,
        _ => true,
    }
}

fn written_out(octets: &[u8], start: usize, end: usize, before: usize, names: usize) -> Option<Vec<u8>> {
    let mut rdata = octets.get(start..start + before)?.to_vec();
    let mut at = start + before;
    for _ in 0..names {
        let (wire, next) = name(octets, at)?;
        rdata.extend(wire.to_ascii_lowercase());
        at = next;
    }
    rdata.extend_from_slice(octets.get(at..end)?);
    Some(rdata)
}

fn opt(record: &Record) -> Option<Opt> {
    let [high_code, version, f0, f1] = record.ttl.to_be_bytes();
    let mut options = Vec::new();
    // Options of other EDNS versions have no known meaning.
    let mut rest = if version == 0 { &record.rdata[..] } else { &[] };
    while !rest.is_empty() {
        let [c0, c1, len0, len1] = *rest.first_chunk()?;
        let len = usize::from(u16::from_be_bytes([len0, len1]));
        options.push((u16::from_be_bytes([c0, c1]), rest.get(4..4 + len)?.to_vec()));
        rest = &rest[4 + len..];
    }
    Some(Opt { size: record.class, high_code, version, flags: u16::from_be_bytes([f0, f1]), options })
}
