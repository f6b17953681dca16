//! DNS over UDP: threads that receive queries, answer them, and send the replies, without a scheduler, queue or allocation.
//!
//! Each worker has a socket of its own for each address, and a thread for each of these sockets, because waiting for several
//! sockets would cost one more system call per batch. The kernel spreads clients among the workers' sockets
//! (`SO_REUSEPORT`). A thread blocks in `recvmmsg` until a query arrives, receives all queries that are waiting, answers the
//! whole batch, and sends the replies with one `sendmmsg`; several replies of one length to one client pass through the
//! network stack together (`UDP_SEGMENT`). The socket's buffer is the only queue: overload costs queries, never memory. A
//! worker checks at least every 250 ms, which is its receive timeout, whether it has to stop.
//!
//! Replies leave from the address to which the query was sent, on wildcard binds too. Replies that the system refuses to
//! send are counted and skipped, and the rest of the batch is sent. Datagrams from port 0 get no reply, and those that are
//! longer than [`QUERY_OCTETS_MAX`] get FORMERR.
//!
//! The loop knows no DNS: it passes a [`Batch`] to an implementation of [`Respond`], of which [`DnsResponder`] answers DNS
//! queries.
//!
//! Used by [`super::server`], which binds [`UdpSockets`] and starts [`UdpWorkers`].

mod batch;
#[cfg(target_os = "linux")]
mod batched;
mod portable;
mod responder;
mod socket;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

pub use batch::{BATCH_QUERIES_MAX, Batch, Exchange, LocalAddress, QUERY_OCTETS_MAX};
pub use responder::DnsResponder;
pub use socket::UdpSockets;

const RECEIVE_RETRY_MS: u64 = 10;

/// System calls that the workers use. `Auto` is the best that the system has: `recvmmsg` and `sendmmsg`, and segmentation
/// offload (`UDP_SEGMENT`) for several replies of one length to one client. `Batched` does without segmentation offload.
/// `Portable` is one system call for each datagram, which every system has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum UdpLoop {
    Auto,
    Batched,
    Portable,
}

impl UdpLoop {
    fn is_batched(self) -> bool {
        cfg!(target_os = "linux") && self != UdpLoop::Portable
    }
}

/// Answers batches of queries. Each thread has a responder of its own, which need not be shareable.
pub trait Respond {
    /// Writes the replies to the queries of a batch.
    fn respond(&mut self, batch: &mut Batch);

    /// Called with the results of sending a batch, after [`respond`](Self::respond).
    fn sent(&mut self, sent: &Sent) {
        let _ = sent;
    }

    /// Called when receiving failed. The worker continues after a pause.
    fn receive_failed(&mut self, error: io::Error) {
        tracing::debug!(%error, "receiving a query failed");
    }
}

/// Results of sending a batch: the number of replies that the system accepted, of those that it refused, and of datagrams
/// that were not offered to the responder and got no reply (`ignored`), or FORMERR (`too_long`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Sent {
    pub replies: u64,
    pub errors: u64,
    pub ignored: u64,
    pub too_long: u64,
}

/// Running threads of all sockets. Dropping this value requests them to end without waiting.
pub struct UdpWorkers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpWorkers {
    /// Starts a thread for each socket. `make` creates the responder of a thread. It is called again after a responder
    /// panicked, so that a bug costs one batch and not the worker.
    ///
    /// # Errors
    ///
    /// Those of the system when it can't start a thread; threads that were started end.
    pub fn start<R: Respond>(
        sockets: Vec<UdpSockets>,
        make: impl Fn() -> R + Clone + Send + 'static,
    ) -> io::Result<UdpWorkers> {
        let mut workers = UdpWorkers { stop: Arc::default(), threads: Vec::new() };
        for UdpSockets { sockets, udp_loop, address } in sockets {
            for (number, socket) in sockets.into_iter().enumerate() {
                let (make, stop) = (make.clone(), workers.stop.clone());
                let thread = thread::Builder::new().name(format!("dns-udp-{number}"));
                let body = move || {
                    while !stop.load(Ordering::Relaxed) {
                        let mut respond = make();
                        let served = catch_unwind(AssertUnwindSafe(|| {
                            serve(&socket, address, udp_loop, &mut respond, &stop);
                        }));
                        if served.is_err() {
                            tracing::error!(%address, "a DNS worker panicked and was restarted");
                        }
                    }
                };
                workers.threads.push(thread.spawn(body)?);
            }
        }
        Ok(workers)
    }

    /// Ends the threads after the queries that they have received are answered. Blocks for up to 250 ms.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of a DNS worker panicked");
            }
        }
    }
}

impl Drop for UdpWorkers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(
    socket: &UdpSocket,
    address: SocketAddr,
    udp_loop: UdpLoop,
    respond: &mut impl Respond,
    stop: &AtomicBool,
) {
    #[cfg(target_os = "linux")]
    if udp_loop.is_batched() {
        return batched::serve(socket, address, udp_loop, respond, stop);
    }
    let _ = (address, udp_loop);
    portable::serve(socket, respond, stop);
}

#[cfg(test)]
mod tests;
