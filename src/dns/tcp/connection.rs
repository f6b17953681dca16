//! One connection of TCP or TLS: reads queries, answers them, and writes the replies.
//!
//! While it waits for a query, its only memory is that of an incomplete message. It reads no further queries until its
//! client has received the replies, so that a client that does not read uses the memory of one batch of replies at most.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::Service;
use super::batch::{BatchEnd, Replies, answer_all};
use super::connections::{ConnectionSlot, Phase};
use super::framer::Framer;
use super::worker_pool::{PooledWorker, WorkerPool, now_seconds};
use crate::dns::answer::{Limits, Transport, Verdict, View, answer};
use crate::dns::metrics::Event;
use crate::dns::transfer::{Outgoing, Request};

/// Next step of a connection: wait for bytes; let other connections run first, because the client has sent more than one
/// read returns; wait until the client has received the unsent replies; answer this query for a zone transfer; or close the
/// connection after the unsent replies are written.
enum Step {
    Read,
    Yield,
    Write,
    Transfer(Vec<u8>),
    End,
}

pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    client: SocketAddr,
    transport: Transport,
    service: Arc<Service>,
    slot: ConnectionSlot,
) {
    let pool = match transport {
        Transport::Tls { .. } => &service.pools.tls,
        Transport::Tcp { .. } | Transport::Udp | Transport::Exchange => &service.pools.tcp,
    };
    let close_requested = slot.close_requested();
    let deadline = Instant::now() + service.timeouts.first_query.min(service.timeouts.idle);
    let connection = Connection {
        stream,
        client,
        transport,
        pool,
        service: &service,
        slot,
        framer: Framer::default(),
        has_more: false,
        unsent: Vec::new(),
        is_flushed: true,
        counted: 0,
        deadline,
    };
    tokio::select! {
        biased;
        () = close_requested => {}
        result = connection.run() => {
            if let Err(error) = result {
                tracing::debug!(%error, %client, "DNS over TCP: a connection ended early");
            }
        }
    }
}

/// A connection. `has_more` is true while the framer may hold a complete message, which is answered before the next read.
/// `unsent` has the bytes of replies that the socket did not accept yet, and `is_flushed` is false while the stream buffers
/// encrypted ones. `counted` is the share of `Service::held_octets`. At `deadline` the connection is closed unless a query,
/// or the rest of an incomplete one, is received before.
struct Connection<'s, S> {
    stream: S,
    client: SocketAddr,
    transport: Transport,
    pool: &'s WorkerPool,
    service: &'s Service,
    slot: ConnectionSlot,
    framer: Framer,
    has_more: bool,
    unsent: Vec<u8>,
    is_flushed: bool,
    counted: usize,
    deadline: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(mut self) -> io::Result<()> {
        let mut alarm = pin!(sleep_until(self.deadline));
        loop {
            match poll_fn(|context| self.poll_step(alarm.as_mut(), context)).await? {
                Step::Read => {}
                Step::Yield => tokio::task::yield_now().await,
                Step::Write => {
                    self.write_unsent(Phase::Writing).await?;
                    self.start_waiting();
                }
                Step::Transfer(query) => {
                    self.write_unsent(Phase::Writing).await?;
                    // In a box, because transfers are rare and their future is large: it would enlarge every connection's.
                    Box::pin(self.transfer(&query)).await?;
                    self.start_waiting();
                }
                Step::End => return self.close().await,
            }
        }
    }

    fn poll_step(&mut self, mut alarm: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if let Poll::Ready(step) = self.pool.with_worker(|worker| self.poll_batch(worker, context)) {
            return Poll::Ready(step);
        }
        // The timer is not reset for each query, which would cost more: it is only reset when it fires too early.
        if self.deadline < alarm.deadline() {
            alarm.as_mut().reset(self.deadline);
        }
        while alarm.as_mut().poll(context).is_ready() {
            if self.deadline <= Instant::now() {
                return Poll::Ready(Ok(Step::End));
            }
            alarm.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }

    /// Reads once, and answers all complete queries. Pending if the client has sent nothing.
    fn poll_batch(&mut self, pooled: &mut PooledWorker, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let PooledWorker { input, replies, worker, metrics } = pooled;
        replies.clear();
        let mut buffer = ReadBuf::new(input);
        if !self.has_more {
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(Step::End));
            }
        }
        let received = Instant::now();
        let is_all = buffer.remaining() > 0;
        let mut rest = buffer.filled();
        let had_begun = self.framer.held() > 0;
        let mut queries = 0;
        let service = self.service;
        let directory = service.snapshot.view();
        let (generation, is_stale) = (service.snapshot.generation(), worker.is_stale());
        let view = View { directory: &directory, generation, is_stale };
        let limits = self.limits();
        let mut answer_one = |query: &[u8], out: &mut [u8]| {
            let verdict = answer(&view, query, &limits, worker, out);
            match &verdict {
                Verdict::Reply(reply) => metrics.record(reply),
                Verdict::Drop => metrics.count(Event::Ignored),
                Verdict::Transfer => {}
            }
            verdict
        };
        let (step, has_more) = loop {
            let end = answer_all(&mut self.framer, &mut rest, replies, &mut queries, &mut answer_one);
            let is_sent = self.send(replies, context)?;
            match end {
                BatchEnd::Full if is_sent => {}
                BatchEnd::Full => break (Step::Write, true),
                BatchEnd::NeedsInput if !is_sent => break (Step::Write, false),
                BatchEnd::NeedsInput if is_all => break (Step::Read, false),
                BatchEnd::NeedsInput => break (Step::Yield, false),
                BatchEnd::Transfer(query) => break (Step::Transfer(query), true),
                BatchEnd::Invalid => break (Step::End, false),
            }
        };
        drop(directory);
        metrics.publish_batch(received.elapsed());
        self.has_more = has_more;
        self.framer.keep(rest);
        self.framer.clear_if_empty();
        if queries > 0 || !had_begun {
            self.start_waiting();
        }
        self.count()?;
        Poll::Ready(Ok(step))
    }

    fn limits(&self) -> Limits {
        Limits { transport: self.transport, client: self.client.ip(), now_seconds: now_seconds() }
    }

    fn start_waiting(&mut self) {
        let now = Instant::now();
        let timeouts = &self.service.timeouts;
        self.deadline = now + if self.framer.held() > 0 { timeouts.partial } else { timeouts.idle };
        self.slot.set(Phase::Idle, now.into_std());
    }

    /// Writes replies as far as the socket accepts them, and keeps the rest in `unsent`. Returns true if all are written.
    fn send(&mut self, replies: &mut Replies, context: &mut Context<'_>) -> io::Result<bool> {
        let octets = replies.octets();
        if octets.is_empty() {
            return Ok(true);
        }
        // The connection counts as active before its client can have a reply, and connect again.
        self.slot.set(Phase::Idle, Instant::now().into_std());
        let mut written = 0;
        // An encrypted stream accepts at most one TLS record at a time.
        while written < octets.len() {
            match Pin::new(&mut self.stream).poll_write(context, &octets[written..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(more) => written += more,
                Poll::Pending => break,
            }
        }
        self.is_flushed = Pin::new(&mut self.stream).poll_flush(context)?.is_ready();
        self.unsent.extend_from_slice(&octets[written..]);
        replies.clear();
        Ok(self.unsent.is_empty() && self.is_flushed)
    }

    /// Writes the replies that are left, and ends the stream in order: TLS clients take one that just stops for an attack
    /// (RFC 8446 §6.1).
    async fn close(&mut self) -> io::Result<()> {
        self.write_unsent(Phase::Writing).await?;
        match timeout(self.service.timeouts.write, self.stream.shutdown()).await {
            Ok(closed) => closed,
            Err(_) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read the end of the stream"))
            }
        }
    }

    async fn write_unsent(&mut self, phase: Phase) -> io::Result<()> {
        if self.unsent.is_empty() && self.is_flushed {
            return Ok(());
        }
        self.slot.set(phase, Instant::now().into_std());
        let unsent = std::mem::take(&mut self.unsent);
        let write = async {
            self.stream.write_all(&unsent).await?;
            self.stream.flush().await
        };
        match timeout(self.service.timeouts.write, write).await {
            Ok(written) => written?,
            Err(_) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its replies"));
            }
        }
        self.is_flushed = true;
        drop(unsent);
        self.count()
    }

    async fn transfer(&mut self, query: &[u8]) -> io::Result<()> {
        self.slot.set(Phase::Busy, Instant::now().into_std());
        let service = self.service;
        let Some(request) = Request::read(query) else {
            return Err(io::Error::other("a query for a transfer could not be read"));
        };
        let outgoing = service.transfers.begin(request, self.client).await;
        service.metrics.record(self.pool.transport(), outgoing.code(), false);
        let mut parts = match outgoing {
            Outgoing::Message(response) => {
                frame(&response.octets, &mut self.unsent);
                return self.write_unsent(Phase::Writing).await;
            }
            Outgoing::Zone(parts) => parts,
        };
        while let Some(part) = parts.recv().await {
            self.unsent = part.octets;
            self.write_unsent(Phase::Busy).await?;
            if part.is_last {
                return Ok(());
            }
        }
        // Closing the connection tells the client that the transfer is incomplete (RFC 5936 §2.2).
        Err(io::Error::other("a zone transfer ended early"))
    }

    /// Updates this connection's share of `Service::held_octets`. An error if all connections together exceed the limit.
    fn count(&mut self) -> io::Result<()> {
        let holds = self.framer.capacity() + self.unsent.capacity();
        let before = std::mem::replace(&mut self.counted, holds);
        if holds <= before {
            self.service.held_octets.fetch_sub(before - holds, Relaxed);
            return Ok(());
        }
        let all = self.service.held_octets.fetch_add(holds - before, Relaxed) + (holds - before);
        if all > self.service.held_octets_max {
            return Err(io::Error::other("all connections together hold too many bytes"));
        }
        Ok(())
    }
}

impl<S> Drop for Connection<'_, S> {
    fn drop(&mut self) {
        self.service.held_octets.fetch_sub(self.counted, Relaxed);
    }
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    // The cast is lossless: a message has at most 65,535 bytes.
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message);
}
