//! Service parameters of SVCB and HTTPS records (RFC 9460 §2.1 and §7, RFC 9461, RFC 9540).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::encoding;
use super::octets::Octets;
use crate::zone::presentation::{TextError, Word, quote};

const MANDATORY: u16 = 0;
const ALPN: u16 = 1;
const NO_DEFAULT_ALPN: u16 = 2;
const PORT: u16 = 3;
const IPV4HINT: u16 = 4;
const ECH: u16 = 5;
const IPV6HINT: u16 = 6;
const DOHPATH: u16 = 7;
const OHTTP: u16 = 8;
/// The number that is reserved as "invalid key" (RFC 9460 §14.3.2).
const INVALID: u16 = 65_535;

const KEYS: &[(&str, u16)] = &[
    ("mandatory", MANDATORY),
    ("alpn", ALPN),
    ("no-default-alpn", NO_DEFAULT_ALPN),
    ("port", PORT),
    ("ipv4hint", IPV4HINT),
    ("ech", ECH),
    ("ipv6hint", IPV6HINT),
    ("dohpath", DOHPATH),
    ("ohttp", OHTTP),
];

/// Reads parameters in any order, and writes them in ascending order of their keys (RFC 9460 §2.2).
pub(super) fn read(words: &[Word<'_>], wire: &mut Vec<u8>) -> Result<(), TextError> {
    let mut parameters: Vec<(u16, Vec<u8>, &Word<'_>)> = Vec::new();
    let mut rest = words;
    while let Some((word, tail)) = rest.split_first() {
        rest = tail;
        if word.quoted || word.joined {
            return Err(
                word.error("expected a parameter such as port=53 or alpn=\"h2,h3\", blanks between them")
            );
        }
        let (name, inline) = match word.raw.iter().position(|octet| *octet == b'=') {
            Some(equals) => (&word.raw[..equals], Some(&word.raw[equals + 1..])),
            None => (word.raw, None),
        };
        let mut value = Word { raw: inline.unwrap_or_default(), ..*word };
        if let (Some(b""), Some((quoted, tail))) = (inline, rest.split_first())
            && quoted.joined
            && quoted.quoted
        {
            value = *quoted;
            rest = tail;
        }
        let key = key_of(name).ok_or_else(|| {
            word.error(format!(
                "`{}` is no parameter; known are mandatory, alpn, no-default-alpn, port, ipv4hint, ech, ipv6hint, \
                 dohpath, ohttp, and key and a number up to 65534",
                Word { raw: name, ..*word }.shown()
            ))
        })?;
        let is_named = KEYS.iter().any(|(known, _)| known.as_bytes() == name);
        let octets = if is_named { value_of(key, &value)? } else { value.unescaped()? };
        if show_value(key, &octets).is_none() {
            return Err(value.error(format!(
                "`{}` is no value of {}{}",
                value.shown(),
                key_text(key),
                example(key)
            )));
        }
        if parameters.iter().any(|(other, ..)| *other == key) {
            return Err(word.error(format!("{} is given twice", key_text(key))));
        }
        parameters.push((key, octets, word));
    }
    parameters.sort_by_key(|(key, ..)| *key);
    for (key, octets, word) in &parameters {
        let has = |wanted: u16| parameters.iter().any(|(key, ..)| *key == wanted);
        if *key == NO_DEFAULT_ALPN && !has(ALPN) {
            return Err(word.error("no-default-alpn needs an alpn parameter beside it"));
        }
        if *key == MANDATORY
            && let Some(missing) = keys_in(octets).find(|key| !has(*key))
        {
            return Err(word.error(format!("{} is mandatory but not given", key_text(missing))));
        }
        let len = u16::try_from(octets.len())
            .map_err(|_| word.error(format!("{} is over 65535 octets", key_text(*key))))?;
        wire.extend_from_slice(&key.to_be_bytes());
        wire.extend_from_slice(&len.to_be_bytes());
        wire.extend_from_slice(octets);
    }
    Ok(())
}

/// Shows all parameters. `None` if they are not in ascending order, or a value is invalid.
pub(super) fn show(octets: &mut Octets<'_>) -> Option<String> {
    let mut keys = Vec::new();
    let mut mandatory: &[u8] = &[];
    let mut pieces = Vec::new();
    while !octets.0.is_empty() {
        let key = octets.u16()?;
        let len = octets.u16()?;
        let value = octets.take(len.into())?;
        if keys.last().is_some_and(|last| *last >= key) {
            return None;
        }
        keys.push(key);
        if key == MANDATORY {
            mandatory = value;
        }
        let shown = show_value(key, value)?;
        pieces.push(if shown.is_empty() { key_text(key) } else { format!("{}={shown}", key_text(key)) });
    }
    let consistent = keys_in(mandatory).all(|key| keys.contains(&key))
        && (!keys.contains(&NO_DEFAULT_ALPN) || keys.contains(&ALPN));
    consistent.then(|| pieces.join(" "))
}

/// The number of a key, which is written as a name in lower case or as `keyN` without leading zeros (RFC 9460 §2.1).
fn key_of(name: &[u8]) -> Option<u16> {
    if let Some((_, key)) = KEYS.iter().find(|(known, _)| known.as_bytes() == name) {
        return Some(*key);
    }
    let digits = std::str::from_utf8(name.strip_prefix(b"key")?).ok()?;
    let key: u16 = digits.parse().ok()?;
    (key != INVALID && key.to_string() == digits).then_some(key)
}

/// The name of a key, or `keyN` for newer keys, because older software does not know their names.
fn key_text(key: u16) -> String {
    match KEYS.iter().find(|(_, known)| *known == key) {
        Some((name, _)) if key <= DOHPATH => (*name).into(),
        _ => format!("key{key}"),
    }
}

/// Reads the value of a parameter whose key is written as a name. (The value of a `keyN` is written in wire form.)
fn value_of(key: u16, word: &Word<'_>) -> Result<Vec<u8>, TextError> {
    let name = key_text(key);
    if matches!(key, NO_DEFAULT_ALPN | OHTTP) {
        return match word.raw {
            b"" => Ok(Vec::new()),
            _ => Err(word.error("the parameter takes no value")),
        };
    }
    let value = word.unescaped()?;
    if value.is_empty() {
        return Err(word.error(format!("{name} needs a value{}", example(key))));
    }
    let octets = match key {
        MANDATORY => mandatory(&value),
        ALPN => alpn(&value),
        PORT => std::str::from_utf8(&value)
            .ok()
            .filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()))
            .and_then(|text| text.parse::<u16>().ok())
            .map(|port| port.to_be_bytes().to_vec()),
        IPV4HINT => addresses(&value, |text| Some(text.parse::<Ipv4Addr>().ok()?.octets())),
        IPV6HINT => addresses(&value, |text| Some(text.parse::<Ipv6Addr>().ok()?.octets())),
        ECH => encoding::from_base64(&value),
        _ => Some(value).filter(|path| show_value(key, path).is_some()),
    };
    octets.ok_or_else(|| word.error(format!("`{}` is no value of {name}{}", word.shown(), example(key))))
}

fn example(key: u16) -> &'static str {
    match key {
        MANDATORY => ": write other keys of the record, each once, as in mandatory=alpn,port",
        ALPN => ": write protocol ids of 1 to 255 octets, as in alpn=h2,h3",
        PORT => ": write a number from 0 to 65535",
        IPV4HINT => ": write addresses, as in ipv4hint=192.0.2.1,192.0.2.2",
        IPV6HINT => ": write addresses, as in ipv6hint=2001:db8::1",
        ECH => ": write base64",
        DOHPATH => ": write a path in UTF-8 with the variable dns, as in dohpath=/dns-query{?dns}",
        _ => "",
    }
}

fn mandatory(value: &[u8]) -> Option<Vec<u8>> {
    let mut keys = value.split(|octet| *octet == b',').map(key_of).collect::<Option<Vec<u16>>>()?;
    keys.sort_unstable();
    Some(keys.iter().flat_map(|key| key.to_be_bytes()).collect())
}

/// Reads a list with commas, in which `\,` and `\\` are escapes for the character itself (RFC 9460 §A.1).
fn alpn(value: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(value.len() + 1);
    let mut id = Vec::new();
    let mut rest = value.iter();
    loop {
        let next = rest.next();
        match next {
            None | Some(b',') => {
                octets.push(u8::try_from(id.len()).ok().filter(|len| *len > 0)?);
                octets.append(&mut id);
                if next.is_none() {
                    return Some(octets);
                }
            }
            Some(b'\\') => id.push(*rest.next().filter(|octet| matches!(octet, b',' | b'\\'))?),
            Some(octet) => id.push(*octet),
        }
    }
}

fn addresses<const N: usize>(value: &[u8], read: impl Fn(&str) -> Option<[u8; N]>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    Some(text.split(',').map(read).collect::<Option<Vec<_>>>()?.concat())
}

fn keys_in(value: &[u8]) -> impl Iterator<Item = u16> {
    value.as_chunks::<2>().0.iter().map(|octets| u16::from_be_bytes(*octets))
}

/// Shows a value, as an empty text if it is empty. `None` if it is invalid for its key.
fn show_value(key: u16, value: &[u8]) -> Option<String> {
    Some(match key {
        MANDATORY => {
            let keys: Vec<u16> = keys_in(value).collect();
            let ordered = keys.windows(2).all(|pair| pair[0] < pair[1]);
            if value.is_empty()
                || value.len() % 2 == 1
                || !ordered
                || keys[0] == MANDATORY
                || keys.contains(&INVALID)
            {
                return None;
            }
            keys.into_iter().map(key_text).collect::<Vec<_>>().join(",")
        }
        ALPN => {
            let mut rest = Octets(value);
            let mut list = Vec::with_capacity(value.len());
            while !rest.0.is_empty() {
                let [len] = rest.array().filter(|[len]| *len > 0)?;
                if !list.is_empty() {
                    list.push(b',');
                }
                for octet in rest.take(len.into())? {
                    if matches!(octet, b',' | b'\\') {
                        list.push(b'\\');
                    }
                    list.push(*octet);
                }
            }
            quote(Some(&list).filter(|list| !list.is_empty())?)
        }
        NO_DEFAULT_ALPN | OHTTP => value.is_empty().then(String::new)?,
        PORT => u16::from_be_bytes(value.try_into().ok()?).to_string(),
        IPV4HINT => show_addresses(value, |octets: [u8; 4]| Ipv4Addr::from(octets).to_string())?,
        IPV6HINT => show_addresses(value, |octets: [u8; 16]| Ipv6Addr::from(octets).to_string())?,
        ECH => encoding::to_base64(Some(value).filter(|value| !value.is_empty())?),
        DOHPATH => {
            let path = std::str::from_utf8(value).ok()?;
            let has_variable = path.split('{').skip(1).any(|expression| {
                let variables = expression.split('}').next().unwrap_or_default();
                variables
                    .trim_start_matches(['?', '&', '/', ';', '.', '#', '+'])
                    .split(',')
                    .any(|name| name == "dns")
            });
            quote(Some(value).filter(|_| path.starts_with('/') && has_variable)?)
        }
        INVALID => return None,
        _ if value.is_empty() => String::new(),
        _ => quote(value),
    })
}

fn show_addresses<const N: usize>(value: &[u8], show: impl Fn([u8; N]) -> String) -> Option<String> {
    let (addresses, odd) = value.as_chunks::<N>();
    (odd.is_empty() && !addresses.is_empty())
        .then(|| addresses.iter().map(|octets| show(*octets)).collect::<Vec<_>>().join(","))
}
