//! A wrapper of a connection's stream that records activity and limits how long a write may wait for the peer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::activity::Activity;

/// A stream whose write fails with [`io::ErrorKind::TimedOut`] if the peer has accepted no byte for the time
/// `stall`. `deadline` is the timer of the write that waits for the peer; `None` while no write waits.
pub(super) struct Stream<S> {
    inner: S,
    stall: Duration,
    activity: Arc<Activity>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> Stream<S> {
    pub(super) fn new(inner: S, stall: Duration, activity: Arc<Activity>) -> Stream<S> {
        Stream { inner, stall, activity, deadline: None }
    }

    /// Returns the result of a write, or an error if the write is pending and its time is over.
    fn with_deadline(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.stall)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.received();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.with_deadline(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.with_deadline(context, written)
    }

    // Without vectored writes, hyper would copy an answer into its own buffer, which no limit covers.
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the stream when it has no more bytes to write.
        self.activity.flushed();
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    /// A peer that accepts one byte each time `takes` is set.
    #[derive(Default)]
    struct Peer {
        takes: bool,
        waker: Option<Waker>,
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            if std::mem::take(&mut self.takes) {
                return Poll::Ready(Ok(1));
            }
            self.waker = Some(context.waker().clone());
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_without_progress_times_out() {
        let mut stream = Stream::new(Peer::default(), Duration::from_millis(20), Activity::new().into());
        let error = poll_fn(|context| Pin::new(&mut stream).poll_write(context, b"x")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn progress_restarts_the_timeout() {
        let mut stream = Stream::new(Peer::default(), Duration::from_secs(3600), Activity::new().into());
        let write = |stream: &mut Stream<Peer>| {
            Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), b"x")
        };
        assert!(write(&mut stream).is_pending());
        assert!(stream.deadline.is_some());
        stream.inner.takes = true;
        assert!(write(&mut stream).is_ready());
        assert!(stream.deadline.is_none());
    }
}
