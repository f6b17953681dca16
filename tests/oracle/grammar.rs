//! Grammar of queries for the names of a directory, with mutations.

use cloudmap_dns::zone::{Directory, Name};
use fastrand::Rng;

/// Labels that are put in front of names, or replace their first label.
const LABELS: [&str; 22] = [
    "*",
    "a",
    "b",
    "x",
    "y",
    "z",
    "www",
    "web",
    "_tcp",
    "_http",
    "ns",
    "i-1",
    "I-2",
    "i-4",
    "i",
    "sub",
    "dn",
    "wild",
    "nope",
    "ent",
    "target",
    "a-label-of-sixty-three-octets-012345678901234567890123456789012",
];
/// Types of queries; the first ones are frequent.
const TYPES: [u16; 34] = [
    1, 1, 1, 1, 28, 28, 33, 33, 5, 255, 2, 6, 15, 16, 65, 64, 39, 43, 12, 257, 65_280, 666, 46, 47, 48, 99,
    0, 41, 249, 250, 251, 252, 253, 254,
];

pub(crate) struct Grammar {
    pub(crate) random: Rng,
    names: Vec<Vec<u8>>,
}

impl Grammar {
    pub(crate) fn new(directory: &Directory, seed: u64) -> Grammar {
        let mut names: Vec<Vec<u8>> = directory
            .zones()
            .flat_map(|zone| directory.nodes(zone))
            .map(|node| node.name().to_vec())
            .collect();
        names.sort();
        for text in [
            "i-1.web.svc.local",
            "i-2.srv.svc.local",
            "i-3.srv.svc.local",
            "i-4.web.svc.local",
            "i.2.x.dotted.svc.local",
            "2.x.dotted.svc.local",
            "i-1.cn.svc.local",
            "i-1.sick.svc.local",
            "i-3._http._tcp.api.svc.local",
            "test",
            "local",
            "x.d-long.big.test",
            "a-label-of-sixty-three-octets-012345678901234567890123456789012.d-long.big.test",
            "www.example.com",
            ".",
            "version.bind",
        ] {
            names.push(text.parse::<Name>().unwrap().as_wire().to_vec());
        }
        Grammar { random: Rng::with_seed(seed), names }
    }

    /// Generates a query. One in eight is mutated, and may be any bytes.
    pub(crate) fn query(&mut self) -> Vec<u8> {
        let mut query = self.well_formed();
        if self.chance(8) {
            self.mutate(&mut query);
        }
        query
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.u32(..one_in) == 0
    }

    fn well_formed(&mut self) -> Vec<u8> {
        let mut query = self.random.u16(..).to_be_bytes().to_vec();
        let opcode = if self.chance(40) { self.random.u8(..16) } else { 0 };
        // RD is set in half of the queries; QR, AA, TC, RA, Z, AD and CD rarely.
        let mut flags = u16::from(opcode) << 11 | u16::from(self.random.bool()) << 8;
        for bit in [0x8000, 0x0400, 0x0200, 0x0080, 0x0040, 0x0020, 0x0010] {
            flags |= if self.chance(40) { bit } else { 0 };
        }
        query.extend_from_slice(&flags.to_be_bytes());
        query.extend_from_slice(&[0; 8]);
        let questions = if self.chance(60) { self.random.u16(..3) } else { 1 };
        for _ in 0..questions {
            let name = self.name();
            query.extend_from_slice(&name);
            let rtype = if self.chance(30) {
                self.random.u16(..300)
            } else {
                TYPES[self.random.usize(..TYPES.len())]
            };
            query.extend_from_slice(&rtype.to_be_bytes());
            let class = if self.chance(40) { [0, 1, 2, 3, 4, 254, 255][self.random.usize(..7)] } else { 1 };
            query.extend_from_slice(&[0, class]);
        }
        query[5] = questions as u8;
        for section in [7, 9, 11] {
            if self.chance(80) {
                query[section] += 1;
                self.other_record(&mut query);
            }
        }
        if self.random.bool() {
            query[11] += 1;
            self.opt(&mut query);
            if self.chance(200) {
                query[11] += 1;
                self.opt(&mut query);
            }
        }
        query
    }

    fn name(&mut self) -> Vec<u8> {
        let mut name = self.names[self.random.usize(..self.names.len())].clone();
        match self.random.u8(..10) {
            0..=4 => {}
            5 | 6 => self.child(&mut name),
            7 => {
                self.parent(&mut name);
                self.child(&mut name);
            }
            8 => self.parent(&mut name),
            _ => {
                self.child(&mut name);
                self.child(&mut name);
            }
        }
        if self.chance(4) {
            let mut at = 0;
            while name[at] > 0 {
                let end = at + 1 + usize::from(name[at]);
                for octet in &mut name[at + 1..end] {
                    if octet.is_ascii_alphabetic() && self.random.bool() {
                        *octet ^= 0x20;
                    }
                }
                at = end;
            }
        }
        name
    }

    fn parent(&mut self, name: &mut Vec<u8>) {
        if name[0] > 0 {
            name.drain(..1 + usize::from(name[0]));
        }
    }

    /// Puts a label in front, unless the name becomes too long.
    fn child(&mut self, name: &mut Vec<u8>) {
        let any = [self.random.u8(..), self.random.u8(..)];
        let label =
            if self.chance(20) { &any[..] } else { LABELS[self.random.usize(..LABELS.len())].as_bytes() };
        if name.len() + 1 + label.len() <= 255 {
            name.splice(..0, [&[label.len() as u8], label].concat());
        }
    }

    fn opt(&mut self, query: &mut Vec<u8>) {
        let size = [0, 100, 512, 700, 1000, 1232, 1400, 4096, 65_535][self.random.usize(..9)];
        let version = u8::from(self.chance(30));
        let high_code = if self.chance(60) { self.random.u8(..) } else { 0 };
        let flags = if self.chance(30) { self.random.u16(..) } else { u16::from(self.random.bool()) << 15 };
        let owner: &[u8] = if self.chance(100) { b"\x01x\0" } else { b"\0" };
        let mut options = Vec::new();
        while self.chance(3) {
            let code = [3, 10, 10, 11, 8, 9, 12, 15, 65_001, self.random.u16(..)][self.random.usize(..10)];
            let len = match code {
                10 if !self.chance(6) => [8, 24][self.random.usize(..2)],
                3 | 11 => 0,
                _ => self.random.usize(..20),
            };
            options.extend_from_slice(&u16::to_be_bytes(code));
            options.extend_from_slice(&(len as u16).to_be_bytes());
            options.extend((0..len).map(|_| self.random.u8(..)));
        }
        query.extend_from_slice(owner);
        query.extend_from_slice(&[0, 41]);
        query.extend_from_slice(&u16::to_be_bytes(size));
        query.extend_from_slice(&[high_code, version]);
        query.extend_from_slice(&flags.to_be_bytes());
        query.extend_from_slice(&(options.len() as u16).to_be_bytes());
        query.extend_from_slice(&options);
    }

    /// Appends a record that does not belong into a query; the data of some is not valid for their type.
    fn other_record(&mut self, query: &mut Vec<u8>) {
        let name = if self.random.bool() { vec![0xc0, 12] } else { self.name() };
        query.extend_from_slice(&name);
        let (rtype, rdata): (u8, &[u8]) = match self.random.u8(..12) {
            0 => (1, b"\x0a\0\0\x01"),
            1 => (28, &[0; 16]),
            2 => (16, b"\0\x02ok"),
            3 => (6, &[0; 22]),
            4 => (2, b"\xc0\x0c"),
            5 => (33, b"\0\x01\0\x01\0\x50\x01x\0"),
            6 => (15, b"\0\x01\xc0\x0c"),
            _ => ([1, 2, 6, 15, 16, 24, 28, 33, 39, 41, 250, 255][self.random.usize(..12)], b"\x03abc"),
        };
        let class = if self.chance(8) { 255 } else { 1 };
        query.extend_from_slice(&[0, rtype, 0, class, 0, 0, 0, 60, 0, rdata.len() as u8]);
        query.extend_from_slice(rdata);
    }

    fn mutate(&mut self, query: &mut Vec<u8>) {
        for _ in 0..self.random.usize(1..4) {
            let at = self.random.usize(..query.len().max(1)).min(query.len().saturating_sub(1));
            match self.random.u8(..7) {
                _ if query.is_empty() => query.push(self.random.u8(..)),
                0 => query[at] ^= 1 << self.random.u8(..8),
                1 => query[at] = [0, 1, 63, 64, 0xc0, 0xff][self.random.usize(..6)],
                2 => query.truncate(at),
                3 => query.insert(at, self.random.u8(..)),
                4 => drop(query.remove(at)),
                5 => query
                    .extend((0..self.random.usize(1..20)).map(|_| self.random.u8(..)).collect::<Vec<_>>()),
                _ => {
                    let at = 5 + 2 * self.random.usize(..4);
                    if let Some(count) = query.get_mut(at) {
                        *count = self.random.u8(..4);
                    }
                }
            }
        }
    }
}
