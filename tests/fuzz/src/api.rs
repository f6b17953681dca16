//! The API's bodies: decoded and checked against the input of an operation.

use cloudmap_dns::api::{Action, Protocol, check_input};

/// awsJson1.1.
pub mod json {
    use super::Protocol;

    /// Takes the first octet as an operation, and the rest as a body.
    pub fn check(input: &[u8]) {
        super::check(Protocol::Json, input, |body| {
            body.trim_ascii().is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
        });
    }
}

/// Smithy RPC v2 CBOR.
pub mod cbor {
    use super::Protocol;

    /// Takes the first octet as an operation, and the rest as a body.
    pub fn check(input: &[u8]) {
        super::check(Protocol::Cbor, input, |body| {
            let mut decoder = minicbor::Decoder::new(body);
            body.is_empty() || (decoder.skip().is_ok() && decoder.position() == body.len())
        });
    }
}

fn check(protocol: Protocol, input: &[u8], is_whole: impl Fn(&[u8]) -> bool) {
    let Some((action, body)) = input.split_first() else { return };
    let action = Action::ALL[usize::from(*action) % Action::ALL.len()];
    let checked = check_input(protocol, action, body);
    match &checked {
        Ok(()) => {}
        Err(refusal) => {
            assert!(matches!(refusal.code, "SerializationException" | "InvalidInput"), "{refusal}");
            assert!(!refusal.message.is_empty());
        }
    }
    let is_decoded = !matches!(&checked, Err(refusal) if refusal.code == "SerializationException");
    assert!(!is_decoded || is_whole(body), "decoded what another reader refuses");
    assert_eq!(check_input(protocol, action, body), checked, "the same again");
}
