//! HIP records: a host's identity tag and public key, and its rendezvous servers (RFC 8005).

use super::encoding;
use super::octets::Octets;
use super::reader::number;
use crate::zone::Name;
use crate::zone::presentation::{TextError, Words};

/// The tag is one word in hex, the key one word in base64.
pub(super) fn read(words: &mut Words<'_, '_>, origin: &Name, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let what = "the algorithm of the HIP record";
    let algorithm = number(words.next_bare(what)?, u8::MAX.into(), what)? as u8;
    let what = "the host identity tag of the HIP record";
    let word = words.next_bare(what)?;
    let tag = encoding::from_hex(word.raw).filter(|tag| !tag.is_empty());
    let tag = tag.as_deref().and_then(|tag| Some((u8::try_from(tag.len()).ok()?, tag)));
    let (tag_len, tag) = tag.ok_or_else(|| {
        word.error(format!("{what} must be 1 to 255 octets in hex, one word, not `{}`", word.shown()))
    })?;
    let what = "the public key of the HIP record";
    let word = words.next_bare(what)?;
    let key = encoding::from_base64(word.raw).filter(|key| !key.is_empty());
    let key = key.as_deref().and_then(|key| Some((u16::try_from(key.len()).ok()?, key)));
    let (key_len, key) = key.ok_or_else(|| {
        word.error(format!("{what} must be base64 with its padding, one word, not `{}`", word.shown()))
    })?;
    wire.extend_from_slice(&[tag_len, algorithm]);
    wire.extend_from_slice(&key_len.to_be_bytes());
    wire.extend_from_slice(tag);
    wire.extend_from_slice(key);
    for word in words.rest() {
        if word.quoted {
            return Err(word.error("a rendezvous server of the HIP record must be written without quotes"));
        }
        let server = word.name(origin, "a rendezvous server of the HIP record")?;
        wire.extend_from_slice(server.as_wire());
    }
    Ok(())
}

pub(super) fn show(octets: &mut Octets<'_>) -> Option<String> {
    let [tag_len, algorithm] = octets.array()?;
    let key_len = octets.u16()?;
    let tag = octets.take(tag_len.into()).filter(|tag| !tag.is_empty())?;
    let key = octets.take(key_len.into()).filter(|key| !key.is_empty())?;
    let mut text = format!("{algorithm} {} {}", encoding::to_hex(tag), encoding::to_base64(key));
    while !octets.0.is_empty() {
        text.push(' ');
        text.push_str(&octets.name()?.to_string());
    }
    Some(text)
}
