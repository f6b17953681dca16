//! Salts and hashed names of NSEC3 and NSEC3PARAM (RFC 5155 §3 and §4).

use super::encoding;
use super::octets::Octets;
use crate::zone::presentation::{STRING_OCTETS_MAX, TextError, Word};

/// SHA-1, the only hash algorithm that is defined (RFC 5155 §11), and the size of its hashes.
const SHA1: u8 = 1;
const SHA1_OCTETS: usize = 20;

pub(super) fn salt(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let salt = if word.is("-") { Some(Vec::new()) } else { encoding::from_hex(word.raw) };
    let salt = salt.filter(|salt| salt.len() <= STRING_OCTETS_MAX).ok_or_else(|| {
        word.error(format!(
            "{what} must be up to {STRING_OCTETS_MAX} octets in hex, or - for none, not `{}`",
            word.shown()
        ))
    })?;
    wire.push(salt.len() as u8);
    wire.extend_from_slice(&salt);
    Ok(())
}

pub(super) fn show_salt(octets: &mut Octets<'_>) -> Option<String> {
    let salt = octets.string()?;
    Some(if salt.is_empty() { "-".into() } else { encoding::to_hex(salt) })
}

/// The hash algorithm is the first octet of `wire`.
pub(super) fn hash(word: &Word<'_>, what: &str, wire: &mut Vec<u8>) -> Result<(), TextError> {
    let algorithm = wire.first().copied();
    let hash =
        encoding::from_base32hex(word.raw).filter(|hash| is_hash(algorithm, hash)).ok_or_else(|| {
            let size = match algorithm {
                Some(SHA1) => format!("the {SHA1_OCTETS} octets of SHA-1"),
                _ => format!("1 to {STRING_OCTETS_MAX} octets"),
            };
            word.error(format!("{what} must be {size} in base32hex without padding, not `{}`", word.shown()))
        })?;
    wire.push(hash.len() as u8);
    wire.extend_from_slice(&hash);
    Ok(())
}

pub(super) fn show_hash(before: &[u8], octets: &mut Octets<'_>) -> Option<String> {
    octets.string().filter(|hash| is_hash(before.first().copied(), hash)).map(encoding::to_base32hex)
}

fn is_hash(algorithm: Option<u8>, hash: &[u8]) -> bool {
    match algorithm {
        Some(SHA1) => hash.len() == SHA1_OCTETS,
        _ => (1..=STRING_OCTETS_MAX).contains(&hash.len()),
    }
}
