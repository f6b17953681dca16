//! Reads the bodies of requests up to a limit, and discards the rest of a body that is too large.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::time::timeout;

use super::error::ApiError;

/// Bytes of a refused body that are read and discarded, for at most [`DISCARD_TIMEOUT_MS`]. A client that writes its
/// whole body before it reads then sees the error response instead of a connection reset.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIMEOUT_MS: u64 = 2_000;

/// Reads a whole body. Most bodies are a single frame, which is returned without a copy. The rest of a body that is too
/// large is discarded by a separate task, so that the error response is not delayed.
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
    if joined.is_empty() { Ok(first) } else { Ok(joined.into()) }
}

/// Reads the rest of a body up to the limit. hyper closes the connection if the body is dropped before its end.
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
