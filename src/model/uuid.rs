//! Conversion of UUIDs between their 36 characters of text and their 16 bytes (RFC 9562 §4).

const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The bytes of a UUID in lower-case text form. `None` for any other text, including UUIDs in upper case: [`text`] must
/// restore exactly the text that was parsed.
pub(super) fn parse(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, character) in text.iter().enumerate() {
        let digit = match character {
            b'-' if HYPHENS.contains(&at) => continue,
            b'0'..=b'9' if !HYPHENS.contains(&at) => character - b'0',
            b'a'..=b'f' if !HYPHENS.contains(&at) => character - b'a' + 10,
            _ => return None,
        };
        bytes[digits / 2] |= digit << (4 * (1 - digits % 2));
        digits += 1;
    }
    Some(bytes)
}

pub(super) fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for byte in bytes {
        if HYPHENS.contains(&text.len()) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[digit as usize]));
        }
    }
    text
}
