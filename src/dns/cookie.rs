//! DNS cookies (RFC 7873) with interoperable server cookies (RFC 9018).
//!
//! A server cookie contains the time at which it was made, and a hash over that time and the client's address. It needs no
//! state: any server that has the secret can check it. Of the secrets in the settings, the first makes cookies and all of
//! them check cookies, so that servers behind one address agree and a secret can be replaced without a gap. Without a
//! secret in the settings, each server derives one of its own for every day.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

pub(super) const CLIENT_COOKIE_OCTETS: usize = 8;
/// Length in bytes of a client cookie followed by a server cookie of this server, or of any implementation (RFC 9018 §4,
/// RFC 7873 §4).
pub(super) const COOKIE_OCTETS: usize = 24;
const FOREIGN_COOKIE_OCTETS: std::ops::RangeInclusive<usize> = 16..=40;
/// Times in seconds (RFC 9018 §4.3): a server cookie is valid for `GOOD_SECONDS`, is replaced in replies after
/// `RENEW_SECONDS`, and may be ahead of this server's clock by `AHEAD_SECONDS`.
const GOOD_SECONDS: u32 = 3600;
const AHEAD_SECONDS: u32 = 300;
const RENEW_SECONDS: u32 = 1800;
/// Seconds for which a derived secret makes new cookies; it checks cookies for as long again.
const SECRET_SECONDS: u32 = 86_400;
/// Version 1, and the three reserved bytes (RFC 9018 §4.1, §4.2).
const VERSION: [u8; 4] = [1, 0, 0, 0];

/// Key of the hash in server cookies (RFC 9018 §4.4).
pub type CookieSecret = [u8; 16];

/// Secrets that make and check server cookies: those of the settings, or a random one from which each day's is derived.
#[derive(Clone)]
pub struct CookieSecrets(Source);

#[derive(Clone)]
enum Source {
    Set(Box<[CookieSecret]>),
    Derived(CookieSecret),
}

impl CookieSecrets {
    /// Uses these secrets, the newest first, or a random one if there are none.
    ///
    /// # Errors
    ///
    /// That of the system when it has no random numbers.
    pub fn new(secrets: &[CookieSecret]) -> Result<CookieSecrets, getrandom::Error> {
        match secrets {
            [] => {
                let mut master = CookieSecret::default();
                getrandom::fill(&mut master)?;
                Ok(CookieSecrets(Source::Derived(master)))
            }
            secrets => Ok(CookieSecrets(Source::Set(secrets.into()))),
        }
    }
}

/// Result of checking a client's COOKIE option: its length is wrong (RFC 7873 §5.2.2), it has no valid server cookie, so
/// that the reply carries a new one, or it has a valid one, which the reply repeats or renews.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Checked {
    Malformed,
    New([u8; COOKIE_OCTETS]),
    Good([u8; COOKIE_OCTETS]),
}

pub(super) struct Cookies {
    secrets: Box<[CookieSecret]>,
    derived: Option<Derived>,
}

struct Derived {
    master: CookieSecret,
    day: u32,
}

impl Cookies {
    pub(super) fn new(secrets: &CookieSecrets) -> Cookies {
        match &secrets.0 {
            Source::Set(secrets) => Cookies { secrets: secrets.clone(), derived: None },
            Source::Derived(master) => {
                let secrets = [0, u32::MAX].map(|day| secret_of(master, day));
                Cookies { secrets: secrets.into(), derived: Some(Derived { master: *master, day: 0 }) }
            }
        }
    }

    pub(super) fn check(&mut self, option: &[u8], client: IpAddr, now_seconds: u32) -> Checked {
        let is_sized = option.len() == CLIENT_COOKIE_OCTETS || FOREIGN_COOKIE_OCTETS.contains(&option.len());
        let (Some(own), true) = (option.first_chunk::<CLIENT_COOKIE_OCTETS>(), is_sized) else {
            return Checked::Malformed;
        };
        self.rotate(now_seconds);
        let fresh = |secrets: &[CookieSecret]| {
            let newest = secrets.first().unwrap_or(&[0; 16]);
            cookie(newest, own, VERSION, client, now_seconds)
        };
        let Ok(whole) = <&[u8; COOKIE_OCTETS]>::try_from(option) else {
            return Checked::New(fresh(&self.secrets));
        };
        // The hash covers the reserved bytes as the client sent them (RFC 9018 §4.2).
        let version = [whole[8], whole[9], whole[10], whole[11]];
        let made_seconds = u32::from_be_bytes([whole[12], whole[13], whole[14], whole[15]]);
        // Times are compared by serial number arithmetic, because they wrap (RFC 9018 §4.3).
        let age = now_seconds.wrapping_sub(made_seconds) as i32;
        let is_timely = (-(AHEAD_SECONDS as i32)..=GOOD_SECONDS as i32).contains(&age);
        let made_it = |secret: &CookieSecret| cookie(secret, own, version, client, made_seconds) == *whole;
        let signer = self.secrets.iter().position(made_it);
        match signer.filter(|_| is_timely && version[0] == VERSION[0]) {
            None => Checked::New(fresh(&self.secrets)),
            Some(0) if age <= RENEW_SECONDS as i32 && version == VERSION => Checked::Good(*whole),
            Some(_) => Checked::Good(fresh(&self.secrets)),
        }
    }

    fn rotate(&mut self, now_seconds: u32) {
        let Some(derived) = &mut self.derived else { return };
        let day = now_seconds / SECRET_SECONDS;
        if day != derived.day {
            derived.day = day;
            let days = [day, day.wrapping_sub(1)];
            for (secret, day) in self.secrets.iter_mut().zip(days) {
                *secret = secret_of(&derived.master, day);
            }
        }
    }
}

/// Makes the data of a COOKIE option: the client cookie `own` followed by the server cookie (RFC 9018 §4).
fn cookie(
    secret: &CookieSecret,
    own: &[u8; CLIENT_COOKIE_OCTETS],
    version: [u8; 4],
    client: IpAddr,
    made_seconds: u32,
) -> [u8; COOKIE_OCTETS] {
    let mut cookie = [0; COOKIE_OCTETS];
    cookie[..8].copy_from_slice(own);
    cookie[8..12].copy_from_slice(&version);
    cookie[12..16].copy_from_slice(&made_seconds.to_be_bytes());
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&cookie[..16]);
    match client {
        IpAddr::V4(address) => hasher.write(&address.octets()),
        IpAddr::V6(address) => hasher.write(&address.octets()),
    }
    cookie[16..].copy_from_slice(&hasher.finish().to_le_bytes());
    cookie
}

fn secret_of(master: &CookieSecret, day: u32) -> CookieSecret {
    let half = |which: u8| {
        let mut hasher = SipHasher24::new_with_key(master);
        hasher.write(&day.to_be_bytes());
        hasher.write(&[which]);
        hasher.finish().to_le_bytes()
    };
    let mut secret = CookieSecret::default();
    secret[..8].copy_from_slice(&half(0));
    secret[8..].copy_from_slice(&half(1));
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn secret(hex: &str) -> CookieSecret {
        octets(hex).try_into().unwrap()
    }

    fn checked(secrets: &[CookieSecret], option: &str, client: &str, now: u32) -> Checked {
        let mut cookies = Cookies::new(&CookieSecrets::new(secrets).unwrap());
        cookies.check(&octets(option), client.parse().unwrap(), now)
    }

    #[test]
    fn cookies_match_the_test_vectors_of_rfc_9018_appendix_a() {
        let first = secret("e5e973e5a6b2a43f48e7dc849e37bfcf");
        let second = secret("445536bcd2513298075a5d379663c962");
        let third = secret("dd3bdf9344b678b185a6f5cb60fca715");
        let made = |hex: &str| <[u8; COOKIE_OCTETS]>::try_from(octets(hex)).unwrap();
        assert_eq!(
            checked(&[first], "2464c4abcf10c957", "198.51.100.100", 1_559_731_985),
            Checked::New(made("2464c4abcf10c957 010000005cf79f11 1f8130c3eee29480"))
        );
        // A.2: forty minutes later the cookie is valid, and is renewed.
        let second_query = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        assert_eq!(
            checked(&[first], second_query, "198.51.100.100", 1_559_734_385),
            Checked::Good(made("2464c4abcf10c957 010000005cf7a871 d4a564a1442aca77"))
        );
        // A.3: the hash covers the reserved bytes as received. At the time of the example's reply the cookie is too old.
        let reserved = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        assert!(matches!(checked(&[first], reserved, "203.0.113.203", 1_559_727_985), Checked::Good(_)));
        assert_eq!(
            checked(&[first], reserved, "203.0.113.203", 1_559_734_700),
            Checked::New(made("fc93fc62807ddb86 010000005cf7a9ac f73a7810aca2381e"))
        );
        // A.4: made with the second secret, renewed with the first.
        assert_eq!(
            checked(
                &[second, third],
                "22681ab97d52c298010000005cf7c57926556bd0934c72f8",
                "2001:db8:220:1:59de:d0f4:8769:82b8",
                1_559_741_961
            ),
            Checked::Good(made("22681ab97d52c298 010000005cf7c609 a6bb79d16625507a"))
        );
    }

    #[test]
    fn a_cookie_is_valid_only_for_its_client_and_one_hour() {
        let secret = secret("e5e973e5a6b2a43f48e7dc849e37bfcf");
        let cookie = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let made = 1_559_731_985;
        for (client, now, is_good) in [
            ("198.51.100.100", made + GOOD_SECONDS, true),
            ("198.51.100.100", made + GOOD_SECONDS + 1, false),
            ("198.51.100.100", made - AHEAD_SECONDS, true),
            ("198.51.100.100", made - AHEAD_SECONDS - 1, false),
            ("198.51.100.101", made, false),
        ] {
            let found = checked(&[secret], cookie, client, now);
            assert_eq!(matches!(found, Checked::Good(_)), is_good, "{client} at {now}");
        }
    }

    #[test]
    fn cookie_options_of_other_lengths_than_8_and_16_to_40_are_malformed() {
        let secret = [1; 16];
        for len in 0..=64 {
            let found = checked(&[secret], &"ab".repeat(len), "127.0.0.1", 0);
            assert_eq!(found == Checked::Malformed, len != 8 && !(16..=40).contains(&len), "{len}");
        }
    }

    #[test]
    fn derived_secrets_check_cookies_of_the_day_before() {
        let mut cookies = Cookies::new(&CookieSecrets::new(&[]).unwrap());
        let client = "127.0.0.1".parse().unwrap();
        let midnight = 20_000 * SECRET_SECONDS;
        let Checked::New(cookie) = cookies.check(&[7; 8], client, midnight - 60) else { panic!() };
        let Checked::Good(renewed) = cookies.check(&cookie, client, midnight + 60) else { panic!() };
        assert_ne!(renewed, cookie);
        assert!(
            matches!(cookies.check(&renewed, client, midnight + 61), Checked::Good(again) if again == renewed)
        );
    }
}
