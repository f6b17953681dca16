//! Copies and comparisons of short byte strings, such as names: two overlapping moves cost less than a library call.

/// Copies `from` to `to`, which must be as long.
#[inline(always)]
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        33..=64 => copy_ends::<32, 32>(from, to),
        16..=32 => copy_ends::<16, 16>(from, to),
        8..16 => copy_ends::<8, 8>(from, to),
        4..8 => copy_ends::<4, 4>(from, to),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first `FIRST` and the last `LAST` bytes, which are all bytes if there are at most `FIRST + LAST`.
#[inline(always)]
pub(crate) fn copy_ends<const FIRST: usize, const LAST: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<FIRST>(), to.first_chunk_mut::<FIRST>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<LAST>(), to.last_chunk_mut::<LAST>()) {
        *to = *from;
    }
}

#[inline(always)]
pub(crate) fn equal(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        33..=64 => equal_ends::<32>(one, other),
        16..=32 => equal_ends::<16>(one, other),
        8..16 => equal_ends::<8>(one, other),
        _ => one == other,
    }
}

#[inline(always)]
fn equal_ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
    one.first_chunk::<N>() == other.first_chunk::<N>() && one.last_chunk::<N>() == other.last_chunk::<N>()
}

/// Compares bytes in lower case with others, ignoring the case of ASCII letters. Most queries are in lower case, so an exact
/// comparison comes first.
#[inline(always)]
pub(crate) fn equal_in_lower(lower: &[u8], other: &[u8]) -> bool {
    equal(lower, other) || differ_in_case(lower, other)
}

#[cold]
#[inline(never)]
fn differ_in_case(lower: &[u8], other: &[u8]) -> bool {
    lower.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_every_length_are_copied_and_compared() {
        for len in 0..100 {
            let from: Vec<u8> = (0..len).map(|at| b"az-\x01@[`{9\xe1"[at % 10]).collect();
            let mut to = vec![0; len];
            copy(&from, &mut to);
            assert_eq!(from, to);
            assert!(equal(&from, &to) && !equal(&from, &[&to[..], &[0]].concat()));
            assert!(equal_in_lower(&from, &to) && equal_in_lower(&from, &to.to_ascii_uppercase()));
            assert!(!equal_in_lower(&from, &[&to[..], &[0]].concat()));
            for at in 0..len {
                for bit in [1, 0x20, 0x80] {
                    to[at] ^= bit;
                    assert!(!equal(&from, &to), "{at} of {len}");
                    assert_eq!(equal_in_lower(&from, &to), from.eq_ignore_ascii_case(&to), "{at} of {len}");
                    to[at] ^= bit;
                }
            }
        }
    }
}
