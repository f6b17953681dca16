//! Serial number arithmetic for the serials of zones (RFC 1982).

/// True if `serial` is later than `other`, by at most 2^31 - 1, so that it may have wrapped around (RFC 1982 §3.2).
pub fn is_later(serial: u32, other: u32) -> bool {
    (1..1 << 31).contains(&serial.wrapping_sub(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_of_serials_wraps_around() {
        assert!(is_later(1, 0) && is_later(0, u32::MAX) && is_later(1 << 31, 1));
        assert!(!is_later(5, 5) && !is_later(0, 1) && !is_later(1 << 31, 0));
    }
}
