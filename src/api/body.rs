//! The bodies of requests: read up to a limit; what is beyond it is thrown away for a while.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::time::timeout;

use super::error::ApiError;

/// How much of a body that was refused is read and thrown away, so that a client that writes its whole body before
/// it reads sees the refusal instead of a reset connection.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
/// How long a body that was refused is read and thrown away, in milliseconds.
const DISCARD_TIMEOUT_MS: u64 = 2_000;

/// All octets of a body. Mostly they are one frame, which is not copied. What is left of one that is too large is
/// read by a task of its own, while the refusal is on its way.
pub(super) async fn read(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut joined = Vec::new();
    let mut seen = 0;
    let declared = body.size_hint().lower();
    let mut too_large = declared > bytes_max as u64;
    while !too_large {
        let Some(frame) = next(&mut body).await else { break };
        let frame = frame.map_err(|_| ApiError::serialization("The request body broke off."))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen > bytes_max {
            too_large = true;
        } else if first.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    if too_large {
        tokio::spawn(timeout(Duration::from_millis(DISCARD_TIMEOUT_MS), discard(body)));
        return Err(ApiError::too_large(bytes_max));
    }
    match joined.is_empty() {
        true => Ok(first),
        false => Ok(joined.into()),
    }
}

/// Reads the rest of a body, up to a limit. The connection is closed when the body is dropped before its end.
async fn discard(mut body: Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = next(&mut body).await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > DISCARDED_BYTES_MAX {
            break;
        }
    }
}

async fn next(body: &mut Body) -> Option<Result<Frame<Bytes>, axum::Error>> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_are_read_up_to_their_limit() {
        let body = |len: usize| Body::from(vec![b'x'; len]);
        assert_eq!(read(body(10), 10).await.unwrap().len(), 10);
        assert_eq!(read(body(11), 10).await.unwrap_err(), ApiError::too_large(10));
    }
}
