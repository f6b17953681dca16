//! Places of replies in the table that counts them by zone, record type and response code.

use crate::wire::Rcode;
use crate::zone::RecordType;
use crate::zone::directory::LASTING_NUMBERS;

/// Record types with a place of their own.
pub(super) const TYPES: [(RecordType, &str); 12] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::SRV, "SRV"),
    (RecordType::CNAME, "CNAME"),
    (RecordType::SOA, "SOA"),
    (RecordType::NS, "NS"),
    (RecordType::PTR, "PTR"),
    (RecordType::TXT, "TXT"),
    (RecordType::MX, "MX"),
    (RecordType::HTTPS, "HTTPS"),
    (RecordType::IXFR, "IXFR"),
    (RecordType::ANY, "ANY"),
];

/// Response codes with a place of their own for each zone and type, from NOERROR to REFUSED.
pub(super) const CODES: usize = 6;
/// Index of replies without a zone, such as REFUSED, and of transfers. The one before it is that of zones without a number
/// that lasts.
pub(super) const NO_ZONE: usize = LASTING_NUMBERS as usize + 1;
const ZONES: usize = NO_ZONE + 1;
/// Places of one zone: one for each type and one for all others, and in each of them one for each response code and one for
/// all others.
const ZONE_PLACES: usize = (TYPES.len() + 1) * (CODES + 1);

/// Index of each type below 256 in [`TYPES`], or that behind its end.
const TYPE_PLACES: [u8; 256] = {
    let mut places = [TYPES.len() as u8; 256];
    let mut at = 0;
    while at < TYPES.len() {
        places[TYPES[at].0.0 as usize] = at as u8;
        at += 1;
    }
    places
};

/// Place of a reply in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReplyPlace(u16);

impl ReplyPlace {
    /// Number of the places, and so the length of a table that counts replies by them.
    pub const COUNT: usize = ZONES * ZONE_PLACES;

    /// The place of a reply in the zone with this [lasting number](LASTING_NUMBERS), if there is one.
    pub(super) fn of(zone: Option<u8>, rtype: RecordType, code: Rcode) -> ReplyPlace {
        let rtype = TYPE_PLACES.get(usize::from(rtype.0)).copied().unwrap_or(TYPES.len() as u8);
        ReplyPlace::at(zone.unwrap_or(NO_ZONE as u8), rtype, code)
    }

    /// [`ReplyPlace::of`] a type with this index in [`TYPES`], and a zone or [`NO_ZONE`].
    #[inline(always)]
    pub(super) fn at(zone: u8, rtype: u8, code: Rcode) -> ReplyPlace {
        let code = code.0.min(CODES as u16);
        ReplyPlace(u16::from(zone) * ZONE_PLACES as u16 + u16::from(rtype) * (CODES as u16 + 1) + code)
    }

    /// The place as an index of the table.
    #[inline(always)]
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// Splits an index of the table into the lasting number of a zone, [`LASTING_NUMBERS`] or [`NO_ZONE`]; an index in [`TYPES`], or
    /// its length for other types; and a response code, or [`CODES`] for other codes.
    pub(super) fn parts(index: usize) -> (usize, usize, usize) {
        let in_zone = index % ZONE_PLACES;
        (index / ZONE_PLACES, in_zone / (CODES + 1), in_zone % (CODES + 1))
    }
}

const _: () = assert!(ReplyPlace::COUNT <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_has_a_place_and_its_parts_are_those_of_the_reply() {
        for (zone, rtype, code, expected) in [
            (Some(0), RecordType::A, 0, (0, 0, 0)),
            (Some(99), RecordType::ANY, 3, (99, 11, 3)),
            (Some(LASTING_NUMBERS), RecordType(65_280), 23, (100, TYPES.len(), CODES)),
            (None, RecordType(0), 6, (NO_ZONE, TYPES.len(), CODES)),
        ] {
            let place = ReplyPlace::of(zone, rtype, Rcode(code));
            assert!(place.index() < ReplyPlace::COUNT);
            assert_eq!(ReplyPlace::parts(place.index()), expected);
        }
    }
}
