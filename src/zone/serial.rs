//! Serials of zones, which are compared on a circle.

/// Returns true if a serial is later than another one, by at most 2^31 - 1 (RFC 1982 §3.2).
pub fn is_later(serial: u32, other: u32) -> bool {
    (1..1 << 31).contains(&serial.wrapping_sub(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serials_are_compared_on_their_circle() {
        assert!(is_later(1, 0) && is_later(0, u32::MAX) && is_later(1 << 31, 1));
        assert!(!is_later(5, 5) && !is_later(0, 1) && !is_later(1 << 31, 0));
    }
}
