//! One connection: reads, answers, writes, and waits.
//!
//! While it waits for a query it holds no buffer but that of a message that has begun. It reads nothing as long as its
//! client has not taken the replies, so a client that asks and does not read holds at most one batch of them.

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
use super::batch::{Pause, Replies, answer_all};
use super::connections::{ConnectionSlot, Phase};
use super::framer::Framer;
use super::worker_pool::{PooledWorker, WorkerPool, now_seconds};
use crate::dns::answer::{Limits, Transport, Verdict, View, answer};
use crate::dns::metrics::Event;
use crate::dns::transfer::{Outgoing, Request};

/// What comes next.
enum Step {
    /// Waits for octets.
    Read,
    /// Lets others go first: there are more octets than are read at a time.
    Yield,
    /// Waits for the client to take what is unsent.
    Write,
    /// Sends what a query for a transfer asks for.
    Transfer(Vec<u8>),
    /// Ends, after what is unsent.
    End,
}

/// Serves a connection to its end.
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

struct Connection<'s, S> {
    stream: S,
    client: SocketAddr,
    transport: Transport,
    pool: &'s WorkerPool,
    service: &'s Service,
    slot: ConnectionSlot,
    framer: Framer,
    /// Whether what the framer holds may have a complete message.
    has_more: bool,
    /// Replies that the client did not take at once.
    unsent: Vec<u8>,
    /// False while the stream holds encrypted bytes that the client has not taken yet.
    is_flushed: bool,
    /// Octets that this connection holds, as they are counted among all.
    counted: usize,
    /// When the first query has to be there, a message that has begun has to be complete, or the next has to come.
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
                    // Rare, and large: not a part of every connection.
                    Box::pin(self.transfer(&query)).await?;
                    self.start_waiting();
                }
                Step::End => return self.write_unsent(Phase::Writing).await,
            }
        }
    }

    fn poll_step(&mut self, mut alarm: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<io::Result<Step>> {
        if let Poll::Ready(step) = self.pool.with_worker(|worker| self.poll_batch(worker, context)) {
            return Poll::Ready(step);
        }
        // Most deadlines move on before they are due: then the alarm is set again when it rings, not at each query.
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

    /// Answers what is there, if anything is.
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
            let pause = answer_all(&mut self.framer, &mut rest, replies, &mut queries, &mut answer_one);
            let is_sent = self.send(replies, context)?;
            match pause {
                Pause::Full if is_sent => {}
                Pause::Full => break (Step::Write, true),
                Pause::NeedsInput if !is_sent => break (Step::Write, false),
                Pause::NeedsInput if is_all => break (Step::Read, false),
                Pause::NeedsInput => break (Step::Yield, false),
                Pause::Transfer(query) => break (Step::Transfer(query), true),
                Pause::Broken => break (Step::End, false),
            }
        };
        drop(directory);
        metrics.publish();
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

    /// Waits for the next query from now on, or for the rest of one.
    fn start_waiting(&mut self) {
        let now = Instant::now();
        let timeouts = &self.service.timeouts;
        self.deadline = now + if self.framer.held() > 0 { timeouts.partial } else { timeouts.idle };
        self.slot.set(Phase::Idle, now.into_std());
    }

    /// Writes replies as far as the client takes them; the rest is unsent. Whether all are written.
    fn send(&mut self, replies: &mut Replies, context: &mut Context<'_>) -> io::Result<bool> {
        let octets = replies.octets();
        if octets.is_empty() {
            return Ok(true);
        }
        let mut written = 0;
        // An encrypted stream takes what fits into one of its records at a time.
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

    /// Sends what a query for a transfer asks for.
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
        // A client takes a stream that ends for a transfer that failed (RFC 5936 §2.2).
        Err(io::Error::other("a transfer broke off"))
    }

    /// Counts what this connection holds among what all hold; too much in all is an error.
    fn count(&mut self) -> io::Result<()> {
        let holds = self.framer.capacity() + self.unsent.capacity();
        let before = std::mem::replace(&mut self.counted, holds);
        if holds <= before {
            self.service.held_octets.fetch_sub(before - holds, Relaxed);
            return Ok(());
        }
        let all = self.service.held_octets.fetch_add(holds - before, Relaxed) + (holds - before);
        match all > self.service.held_octets_max {
            true => Err(io::Error::other("all connections together hold too many octets")),
            false => Ok(()),
        }
    }
}

impl<S> Drop for Connection<'_, S> {
    fn drop(&mut self) {
        self.service.held_octets.fetch_sub(self.counted, Relaxed);
    }
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    // A message is at most 65,535 octets long.
    out.extend_from_slice(&(message.len() as u16).to_be_bytes());
    out.extend_from_slice(message);
}
