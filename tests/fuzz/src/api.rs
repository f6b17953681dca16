//! Checks of the decoding and the validation of request bodies of the API.

use cloudmap_dns::api::{Action, Protocol, check_input};

pub mod json {
    use super::Protocol;

    /// Uses the first byte as the index of an operation, and the rest as a body in awsJson1.1.
    pub fn check(input: &[u8]) {
        super::check(Protocol::Json, input, |body| {
            body.trim_ascii().is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
        });
    }
}

pub mod cbor {
    use super::Protocol;

    /// Uses the first byte as the index of an operation, and the rest as a body in Smithy RPC v2 CBOR.
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
    assert!(!is_decoded || is_whole(body), "decoded a body that another decoder refuses");
    assert_eq!(check_input(protocol, action, body), checked, "a second check has another result");
}
