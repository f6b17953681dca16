//! LOC records: a position on the earth (RFC 1876).

use super::octets::Octets;
use crate::zone::presentation::{TextError, Word, Words};

/// Value of an angle of 0, the equator or the prime meridian. The unit is a thousandth of a second of arc.
const ZERO_ANGLE: u32 = 1 << 31;
const DEGREE: u32 = 3_600_000;
/// Value of the reference spheroid's altitude (about sea level), in centimetres above a base that is 100 km below it.
const ZERO_ALTITUDE: i64 = 10_000_000;
/// Size 1 m, horizontal precision 10 km, vertical precision 10 m (RFC 1876 §3).
const DEFAULT_SIZES: [u8; 3] = [0x12, 0x16, 0x13];

/// Reads `d [m [s]] N|S d [m [s]] E|W altitude[m] [size[m] [horizontal[m] [vertical[m]]]]`.
pub(super) fn read(words: &mut Words<'_, '_>, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let latitude = angle(words, "the latitude of the LOC record", 90, ["N", "S"])?;
    let longitude = angle(words, "the longitude of the LOC record", 180, ["E", "W"])?;
    let word = words.next_bare("the altitude of the LOC record")?;
    let altitude = centimetres(word)
        .and_then(|altitude| u32::try_from(altitude + ZERO_ALTITUDE).ok())
        .ok_or_else(|| {
            word.error(format!(
                "the altitude must be metres from -100000.00 to 42849672.95, not `{}`",
                word.shown()
            ))
        })?;
    let mut sizes = DEFAULT_SIZES;
    for size in &mut sizes {
        if words.peek().is_none() {
            break;
        }
        let word = words.next_bare("the size")?;
        *size = centimetres(word).and_then(precision).ok_or_else(|| {
            word.error(format!(
                "a size or precision must be metres from 0 to 90000000.00, not `{}`",
                word.shown()
            ))
        })?;
    }
    wire.push(0);
    wire.extend_from_slice(&sizes);
    for number in [latitude, longitude, altitude] {
        wire.extend_from_slice(&number.to_be_bytes());
    }
    Ok(())
}

pub(super) fn show(octets: &mut Octets<'_>) -> Option<String> {
    let [version, sizes @ ..] = octets.array::<4>()?;
    let latitude = show_angle(octets.u32()?, 90, ["N", "S"])?;
    let longitude = show_angle(octets.u32()?, 180, ["E", "W"])?;
    let altitude = i64::from(octets.u32()?) - ZERO_ALTITUDE;
    let sign = if altitude < 0 { "-" } else { "" };
    let altitude = altitude.unsigned_abs();
    let [size, horizontal, vertical] = sizes.map(show_precision);
    (version == 0).then_some(())?;
    Some(format!(
        "{latitude} {longitude} {sign}{}.{:02}m {} {} {}",
        altitude / 100,
        altitude % 100,
        size?,
        horizontal?,
        vertical?
    ))
}

fn angle(
    words: &mut Words<'_, '_>,
    what: &str,
    degrees_max: u32,
    [positive, negative]: [&str; 2],
) -> Result<u32, TextError> {
    let mut thousandths = 0;
    for (at, unit) in [DEGREE, 60_000, 1_000].into_iter().enumerate() {
        let word = words.next_bare(what)?;
        if at > 0 && (word.is(positive) || word.is(negative)) {
            return Ok(if word.is(positive) { ZERO_ANGLE + thousandths } else { ZERO_ANGLE - thousandths });
        }
        let (max, decimals) = [(degrees_max, 0), (59, 0), (59, 3)][at];
        let value =
            decimal(word.raw, decimals).filter(|value| *value / 10u64.pow(decimals) <= u64::from(max));
        let value = value.and_then(|value| u32::try_from(value).ok()).ok_or_else(|| {
            let part = ["degrees", "minutes", "seconds"][at];
            word.error(format!("{what}: expected {part} from 0 to {max}, found `{}`", word.shown()))
        })?;
        thousandths += value * (unit / 10u32.pow(decimals));
        if thousandths > degrees_max * DEGREE {
            return Err(word.error(format!("{what} must not be over {degrees_max} degrees")));
        }
    }
    let word = words.next_bare(what)?;
    match (word.is(positive), word.is(negative)) {
        (true, _) => Ok(ZERO_ANGLE + thousandths),
        (_, true) => Ok(ZERO_ANGLE - thousandths),
        _ => Err(word.error(format!("{what}: expected {positive} or {negative}, found `{}`", word.shown()))),
    }
}

fn show_angle(value: u32, degrees_max: u32, [positive, negative]: [&str; 2]) -> Option<String> {
    let thousandths = value.abs_diff(ZERO_ANGLE);
    let hemisphere = if value < ZERO_ANGLE { negative } else { positive };
    (thousandths <= degrees_max * DEGREE).then(|| {
        format!(
            "{} {} {}.{:03} {hemisphere}",
            thousandths / DEGREE,
            thousandths / 60_000 % 60,
            thousandths / 1_000 % 60,
            thousandths % 1_000
        )
    })
}

fn centimetres(word: &Word<'_>) -> Option<i64> {
    let metres = word.raw.strip_suffix(b"m").or_else(|| word.raw.strip_suffix(b"M")).unwrap_or(word.raw);
    let (sign, metres) = match metres {
        [b'-', metres @ ..] => (-1, metres),
        [b'+', metres @ ..] => (1, metres),
        _ => (1, metres),
    };
    i64::try_from(decimal(metres, 2)?).ok().map(|value| sign * value)
}

/// Reads a number with up to `decimals` digits after the point, multiplied by 10 to the power of `decimals`.
fn decimal(text: &[u8], decimals: u32) -> Option<u64> {
    let (whole, part) = match text.iter().position(|octet| *octet == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &b""[..]),
    };
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if whole.is_empty()
        || whole.len() > 10
        || part.len() > decimals as usize
        || !digits(whole)
        || !digits(part)
    {
        return None;
    }
    let padding = std::iter::repeat_n(&b'0', decimals as usize - part.len());
    Some(whole.iter().chain(part).chain(padding).fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

/// Encodes a size as one digit and a power of ten, in four bits each. Further digits are cut off, as in RFC 1876 §A.
fn precision(centimetres: i64) -> Option<u8> {
    let mut mantissa = u64::try_from(centimetres).ok()?;
    let mut exponent = 0u8;
    while mantissa > 9 {
        mantissa /= 10;
        exponent += 1;
    }
    (exponent <= 9).then_some((mantissa as u8) << 4 | exponent)
}

fn show_precision(octet: u8) -> Option<String> {
    let (mantissa, exponent) = (u64::from(octet >> 4), u32::from(octet & 15));
    if mantissa > 9 || exponent > 9 || (mantissa == 0 && exponent > 0) {
        return None;
    }
    let centimetres = mantissa * 10u64.pow(exponent);
    Some(match exponent {
        2.. => format!("{}m", centimetres / 100),
        _ => format!("{}.{:02}m", centimetres / 100, centimetres % 100),
    })
}
