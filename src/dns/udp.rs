//! DNS over UDP: threads that receive, have answered, and send; no scheduler, queue or allocation in between.
//!
//! Each worker is a thread, and has a socket of its own for each address, served by a thread of its own: a thread that
//! waited for several sockets would pay a system call more for each batch. The kernel spreads clients among the workers'
//! sockets (`SO_REUSEPORT`). A thread blocks in `recvmmsg` until a query comes, takes what else has come, has the whole
//! batch answered, and sends the replies with one `sendmmsg`, or replies of one length to one client by one way through the
//! network stack (`UDP_SEGMENT`). The socket's buffer is the only queue: overload costs
//! queries, never memory. A worker looks whether it has to stop at least every 250 ms, which is the timeout of receiving.
//!
//! Replies leave from the address that was asked, on wildcard binds too. What the system refuses to send is counted and
//! left out, and the rest of the batch goes. Datagrams from port 0 get no reply, and those that are longer than
//! [`QUERY_OCTETS_MAX`] get FORMERR.
//!
//! The loop knows no DNS: it hands a [`Batch`] to whatever implements [`Respond`]. [`DnsResponder`] is the one that
//! answers.
//!
//! Who calls it: [`super::server`] binds [`UdpSockets`] and starts [`UdpWorkers`].

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

/// How long a worker waits after an error of receiving, in milliseconds.
const RECEIVE_RETRY_MS: u64 = 10;

/// Which system calls the workers use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UdpLoop {
    /// Those for many datagrams at once, where the system has them; and where it can cut a datagram into replies, replies
    /// of one length to one client are handed over as one.
    Auto,
    /// Those for many datagrams at once, where the system has them; each reply is handed over as a datagram of its own.
    Batched,
    /// Those that every system has.
    Portable,
}

impl UdpLoop {
    fn is_batched(self) -> bool {
        cfg!(target_os = "linux") && self != UdpLoop::Portable
    }
}

/// Answers batches. Each thread has its own; it need not be shared.
pub trait Respond {
    /// Writes the replies to the queries of a batch.
    fn respond(&mut self, batch: &mut Batch);

    /// Learns what became of a batch, after [`respond`](Self::respond).
    fn sent(&mut self, sent: &Sent) {
        let _ = sent;
    }

    /// Learns that receiving failed. The worker goes on.
    fn receive_failed(&mut self, error: io::Error) {
        tracing::debug!(%error, "receiving a query failed");
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sent {
    /// Replies that the system took.
    pub replies: u64,
    /// Replies that the system refused.
    pub errors: u64,
    /// Datagrams that no responder saw and that got no reply.
    pub ignored: u64,
    /// Datagrams that no responder saw and that got FORMERR, for being too long.
    pub too_long: u64,
}

/// The running threads.
pub struct UdpWorkers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpWorkers {
    /// Starts a thread for each socket. `make` makes the responder of a thread; it is called again if a responder panicked,
    /// so that a defect costs one batch and not the worker.
    ///
    /// # Errors
    ///
    /// Those of starting a thread; what was started ends.
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
                            tracing::error!(%address, "a DNS worker panicked and starts again");
                        }
                    }
                };
                workers.threads.push(thread.spawn(body)?);
            }
        }
        Ok(workers)
    }

    /// Answers what the threads have received and ends them. Blocks for up to 250 ms.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a DNS worker ended badly");
            }
        }
    }
}

/// Threads that nobody waits for end too.
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
