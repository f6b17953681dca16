//! `$GENERATE`: one directive that makes many records from a template, in which a number replaces each `$`.

use super::GENERATE_RECORDS_MAX;
use crate::zone::presentation::{TextError, Word};

/// Largest width to which a number is padded, in characters, and longest text to which a template expands, in bytes.
const WIDTH_MAX: u32 = 255;
const TEXT_BYTES_MAX: usize = 256 * 1024;

pub(super) struct Generator {
    start: u32,
    stop: u32,
    step: u32,
    owner: Vec<Piece>,
    data: Vec<Piece>,
    owner_word: TextError,
    data_word: TextError,
}

#[derive(Debug, Eq, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    Number { offset: i64, width: u32, base: Base },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Base {
    Decimal,
    Octal,
    Hex {
        upper: bool,
    },
    /// Hex digits with dots between them, the least significant first, as in names below `ip6.arpa` (RFC 3596 §2.5). The
    /// width includes the dots, as in BIND.
    Nibbles {
        upper: bool,
    },
}

impl Generator {
    /// Reads the range `start-stop[/step]` and both templates. If the data is one quoted word, its quotes are not part of it.
    pub(super) fn new(
        range: &Word<'_>,
        owner: &Word<'_>,
        data: &Word<'_>,
        more_data: &[Word<'_>],
    ) -> Result<Generator, TextError> {
        let (start, stop, step) = read_range(range.raw).ok_or_else(|| {
            range.error(format!("the range must be as 1-10 or 1-10/2, not `{}`", range.shown()))
        })?;
        if (stop - start) / step >= GENERATE_RECORDS_MAX {
            return Err(range.error(format!("the range is over {GENERATE_RECORDS_MAX} records; split it")));
        }
        let mut pieces = Vec::new();
        if more_data.is_empty() {
            pieces = template(data)?;
        } else {
            for word in std::iter::once(data).chain(more_data) {
                let quote = if word.quoted { "\"" } else { "" };
                let blank = if word.joined { "" } else { " " };
                pieces.push(Piece::Text(format!("{blank}{quote}").into()));
                pieces.append(&mut template(word)?);
                pieces.push(Piece::Text(quote.into()));
            }
        }
        let too_long = |word: &Word<'_>| word.error("the generated text is too long");
        Ok(Generator {
            start,
            stop,
            step,
            owner: template(owner)?,
            data: pieces,
            owner_word: too_long(owner),
            data_word: too_long(data),
        })
    }

    pub(super) fn values(&self) -> impl Iterator<Item = u32> + use<> {
        (self.start..=self.stop).step_by(self.step as usize)
    }

    pub(super) fn owner(&self, value: u32) -> Result<Vec<u8>, TextError> {
        render(&self.owner, value, &self.owner_word)
    }

    pub(super) fn data(&self, value: u32) -> Result<Vec<u8>, TextError> {
        render(&self.data, value, &self.data_word)
    }
}

fn read_range(text: &[u8]) -> Option<(u32, u32, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (start, rest) = text.split_once('-')?;
    let (stop, step) = rest.split_once('/').unwrap_or((rest, "1"));
    let number = |text: &str| {
        let digits = text.bytes().all(|octet| octet.is_ascii_digit());
        text.parse::<u32>().ok().filter(|number| digits && i32::try_from(*number).is_ok())
    };
    let (start, stop, step) = (number(start)?, number(stop)?, number(step)?);
    (start <= stop && step > 0).then_some((start, stop, step))
}

fn template(word: &Word<'_>) -> Result<Vec<Piece>, TextError> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut rest = word.raw;
    while let Some((&octet, tail)) = rest.split_first() {
        rest = tail;
        match (octet, rest) {
            (b'$', [b'$', tail @ ..]) => {
                text.extend_from_slice(br"\$");
                rest = tail;
            }
            (b'$', _) => {
                let mut number = Piece::Number { offset: 0, width: 0, base: Base::Decimal };
                if let Some(inside) = rest.strip_prefix(b"{") {
                    let end = inside.iter().position(|octet| *octet == b'}');
                    let modifier = end.and_then(|end| Some((modifier(&inside[..end])?, end)));
                    let (piece, end) = modifier.ok_or_else(|| {
                        word.error(format!(
                            "after `${{` write offset, width up to {WIDTH_MAX} and base (d, o, x, X, n or N) and `}}`, \
                             as in ${{0,3,d}}; found `{}`",
                            word.shown()
                        ))
                    })?;
                    number = piece;
                    rest = &inside[end + 1..];
                }
                pieces.push(Piece::Text(std::mem::take(&mut text)));
                pieces.push(number);
            }
            (b'\\', [escaped, tail @ ..]) => {
                text.extend_from_slice(&[b'\\', *escaped]);
                rest = tail;
            }
            _ => text.push(octet),
        }
    }
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

fn modifier(text: &[u8]) -> Option<Piece> {
    let mut parts = std::str::from_utf8(text).ok()?.split(',').map(str::trim);
    let offset = i64::from(parts.next()?.parse::<i32>().ok()?);
    let width =
        parts.next().map_or(Some(0), |width| width.parse().ok().filter(|width| *width <= WIDTH_MAX))?;
    let base = match parts.next() {
        None | Some("d") => Base::Decimal,
        Some("o") => Base::Octal,
        Some("x") => Base::Hex { upper: false },
        Some("X") => Base::Hex { upper: true },
        Some("n") => Base::Nibbles { upper: false },
        Some("N") => Base::Nibbles { upper: true },
        Some(_) => return None,
    };
    parts.next().is_none().then_some(Piece::Number { offset, width, base })
}

fn render(pieces: &[Piece], value: u32, too_long: &TextError) -> Result<Vec<u8>, TextError> {
    let mut text = Vec::with_capacity(32);
    for piece in pieces {
        match piece {
            Piece::Text(octets) => text.extend_from_slice(octets),
            Piece::Number { offset, width, base } => {
                let number = u64::try_from(i64::from(value) + offset).map_err(|_| {
                    TextError::new(
                        too_long.at,
                        format!("the offset {offset} makes the value {value} negative"),
                    )
                })?;
                let width = *width as usize;
                let digits = match base {
                    Base::Decimal => format!("{number:0width$}"),
                    Base::Octal => format!("{number:0width$o}"),
                    Base::Hex { upper: false } => format!("{number:0width$x}"),
                    Base::Hex { upper: true } => format!("{number:0width$X}"),
                    Base::Nibbles { upper } => nibbles(number, width, *upper),
                };
                text.extend_from_slice(digits.as_bytes());
            }
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_long.clone());
        }
    }
    Ok(text)
}

fn nibbles(number: u64, width: usize, upper: bool) -> String {
    let mut text = String::new();
    let mut left = number;
    loop {
        let digit = char::from_digit((left & 15) as u32, 16).unwrap_or('0');
        text.push(if upper { digit.to_ascii_uppercase() } else { digit });
        left >>= 4;
        if left == 0 && text.len() >= width {
            return text;
        }
        text.push('.');
        if left == 0 && text.len() >= width {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone::presentation::Spot;

    fn word(raw: &str) -> Word<'_> {
        Word { raw: raw.as_bytes(), quoted: false, joined: false, at: Spot { line: 1, column: 1 } }
    }

    fn all(range: &str, owner: &str) -> Result<Vec<String>, TextError> {
        let generator = Generator::new(&word(range), &word(owner), &word("$"), &[])?;
        generator.values().map(|value| Ok(String::from_utf8(generator.owner(value)?).unwrap())).collect()
    }

    #[test]
    fn templates_expand_as_in_bind() {
        struct Case {
            range: &'static str,
            owner: &'static str,
            made: &'static [&'static str],
        }
        for case in [
            Case { range: "1-3", owner: "host$", made: &["host1", "host2", "host3"] },
            Case { range: "0-5/2", owner: "$", made: &["0", "2", "4"] },
            Case { range: "7-7", owner: "a$b$", made: &["a7b7"] },
            Case { range: "7-7", owner: "${3}-${-7}", made: &["10-0"] },
            Case { range: "7-7", owner: "${0,3}x${3,3,d}", made: &["007x010"] },
            Case { range: "254-254", owner: "${0,0,o}.${0,4,x}.${0,0,X}", made: &["376.00fe.FE"] },
            Case { range: "26-26", owner: "${0,0,n}z${0,0,N}", made: &["a.1zA.1"] },
            Case { range: "26-26", owner: "${0,5,n}z${0,4,n}", made: &["a.1.0za.1."] },
            Case { range: "7-7", owner: r"\$x$$y\\$", made: &[r"\$x\$y\\7"] },
        ] {
            assert_eq!(all(case.range, case.owner).unwrap(), case.made, "{} {}", case.range, case.owner);
        }
    }

    #[test]
    fn wrong_ranges_and_modifiers_are_refused() {
        for (range, owner) in [
            ("1", "$"),
            ("2-1", "$"),
            ("1-2/0", "$"),
            ("-1-2", "$"),
            ("1-+2", "$"),
            ("0-65536", "$"),
            ("0-4294967295/4294967295", "$"),
            ("1-2", "${"),
            ("1-2", "${0"),
            ("1-2", "${}"),
            ("1-2", "${0,256}"),
            ("1-2", "${0,1,y}"),
            ("1-2", "${0,1,d,1}"),
            ("1-2", "${-2}"),
        ] {
            assert!(all(range, owner).is_err(), "{range} {owner}");
        }
        assert_eq!(all("0-65535", "$").unwrap().len(), 65_536);
    }
}
