//! NextToken: the position of a list's next page as opaque URL-safe text.
//!
//! A token names its list, and for instances their service, so that a token of another list is refused.

use super::error::ApiError;

/// The list that a token belongs to, with the id of the service for lists of instances. `Health` is
/// GetInstancesHealthStatus, whose pages are those of `Instances` but whose tokens are not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Listing<'a> {
    Namespaces,
    Services,
    Operations,
    Instances(&'a str),
    Health(&'a str),
}

impl Listing<'_> {
    /// The start of a token before its encoding: the version of the format, the list, and the service.
    fn prefix(&self) -> String {
        match self {
            Listing::Namespaces => "1:namespaces:".into(),
            Listing::Services => "1:services:".into(),
            Listing::Operations => "1:operations:".into(),
            Listing::Instances(service) => format!("1:instances:{service}:"),
            Listing::Health(service) => format!("1:health:{service}:"),
        }
    }

    /// Makes the token for the page after the item with this key.
    pub(super) fn token(&self, key: &str) -> String {
        let mut token = String::new();
        for byte in self.prefix().bytes().chain(key.bytes()) {
            token.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            token.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        token
    }

    /// Returns the key in a token, or an error if the token belongs to another list.
    pub(super) fn key(&self, token: &str) -> Result<String, ApiError> {
        decode(token)
            .and_then(|text| Some(text.strip_prefix(&self.prefix())?.to_owned()))
            .ok_or_else(|| ApiError::invalid_input("The NextToken is not valid."))
    }

    pub(super) fn number(&self, token: &str) -> Result<u64, ApiError> {
        let key = self.key(token)?;
        key.parse().map_err(|_| ApiError::invalid_input("The NextToken is not valid."))
    }
}

fn decode(token: &str) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, rest) = token.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    String::from_utf8(bytes?).ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_only_for_its_own_list() {
        let token = Listing::Services.token("17");
        assert_eq!(Listing::Services.number(&token), Ok(17));
        assert!(Listing::Namespaces.number(&token).is_err());
        let token = Listing::Instances("srv-1").token("web:1/ü");
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert_eq!(Listing::Instances("srv-1").key(&token).as_deref(), Ok("web:1/ü"));
        assert!(Listing::Instances("srv-2").key(&token).is_err());
        assert!(Listing::Health("srv-1").key(&token).is_err());
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let odd = Listing::Services.token("17") + "0";
        for token in ["", "x", "zz", "ff", "ü", &odd, &Listing::Services.token("x")] {
            assert!(Listing::Services.number(token).is_err(), "{token}");
        }
    }
}
