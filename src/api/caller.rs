//! A description of a request's client, stored with its health reports for operators to read.

use std::net::IpAddr;

use axum::http::{header, request::Parts};

/// Longest access key id that is accepted, in bytes (the limit of IAM).
const ACCESS_KEY_ID_BYTES_MAX: usize = 128;

/// The remote address of a connection, attached to each of its requests as an HTTP extension.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Describes the client by the access key id that it signed with, if any, and by its address. The signature is not
/// verified, because this server has no accounts: the id is only a claim of the client.
pub(super) fn caller(request: &Parts) -> String {
    let key =
        request.headers.get(header::AUTHORIZATION).and_then(|value| access_key_id(value.to_str().ok()?));
    let peer = request.extensions.get::<Peer>().map(|Peer(address)| address.to_canonical());
    match (key, peer) {
        (Some(key), Some(peer)) => format!("{key} at {peer}"),
        (Some(key), None) => key.into(),
        (None, Some(peer)) => format!("a client at {peer}"),
        (None, None) => "a client".into(),
    }
}

/// The id in `… Credential=<id>/<date>/<region>/…` of AWS's Signature Version 4.
fn access_key_id(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    let (id, _) = credential.split_once('/')?;
    let is_id = (1..=ACCESS_KEY_ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[test]
    fn a_caller_is_named_by_access_key_and_address() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261128/us-east-1/servicediscovery/aws4_request, \
                      SignedHeaders=host, Signature=0";
        let peer: IpAddr = "::ffff:10.0.0.7".parse().unwrap();
        for (authorization, peer, expected) in [
            (Some(signed), Some(peer), "AKIDEXAMPLE at 10.0.0.7"),
            (Some(signed), None, "AKIDEXAMPLE"),
            (None, Some(peer), "a client at 10.0.0.7"),
            (Some("Bearer x"), None, "a client"),
            (Some("AWS4 Credential=a b/x"), None, "a client"),
            (Some("AWS4 Credential=/x"), None, "a client"),
        ] {
            let mut request = Request::builder();
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            if let Some(peer) = peer {
                request = request.extension(Peer(peer));
            }
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(caller(&parts), expected);
        }
    }
}
