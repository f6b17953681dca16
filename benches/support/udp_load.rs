//! A load generator for DNS over UDP: one thread, batches of queries, a fixed number of them in flight.
//!
//! It polls and never sleeps, so that the server's sends never pay for waking it up, and a server on another CPU that is
//! slower than it always finds a full queue.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};

use super::workload::{self, Kind, QUERY_OCTETS_MAX, Workload};

/// Datagrams of one system call.
const BATCH: usize = 64;
/// Octets of one reply; no more are asked for.
const REPLY_OCTETS_MAX: usize = 2048;
/// Queries are lost when nothing comes for this long, in milliseconds.
const LOST_AFTER_MS: u64 = 250;
/// How long nothing has to come before nothing more will, in milliseconds.
const FORGOTTEN_AFTER_MS: u64 = 20;
/// One reply of this many is decoded and compared with the world; all others are checked by header and question.
const DECODED_EVERY: u64 = 1_024;

/// What is demanded of replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Demand {
    /// The right answer.
    RightAnswer,
    /// The right answer to the question that the reply has: its query may be forgotten already.
    RightToItself,
    /// The query's id and nothing else: the null responder.
    SameId,
}

/// What a run of the load came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Datagrams, whatever was in them.
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
}

/// A socket to one server with all the buffers.
pub(crate) struct Generator {
    socket: UdpSocket,
    queries: Vec<[u8; QUERY_OCTETS_MAX]>,
    replies: Vec<u8>,
    lengths: [usize; BATCH],
    /// By id: the query that is in flight.
    in_flight: Vec<Option<[u8; QUERY_OCTETS_MAX]>>,
    in_flight_count: usize,
    next_id: u16,
    send_headers: MultiHeaders<SockaddrStorage>,
    receive_headers: MultiHeaders<SockaddrStorage>,
}

/// Octets of a header, and of the OPT record that ends each query.
const HEADER_OCTETS: usize = 12;
const OPT_OCTETS: usize = 11;

impl Generator {
    pub(crate) fn new(server: SocketAddr) -> Generator {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP socket");
        socket.connect(server).expect("the DNS address");
        let reference = socket2::SockRef::from(&socket);
        // The kernel may grant less; the window is made for what it grants without being asked.
        let _ = reference.set_recv_buffer_size(4 << 20);
        let _ = reference.set_send_buffer_size(4 << 20);
        Generator {
            socket,
            queries: vec![[0; QUERY_OCTETS_MAX]; BATCH],
            replies: vec![0; BATCH * REPLY_OCTETS_MAX],
            lengths: [0; BATCH],
            in_flight: vec![None; 1 << 16],
            in_flight_count: 0,
            next_id: 0,
            send_headers: MultiHeaders::preallocate(BATCH, None),
            receive_headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Keeps `window` queries in flight for a time, then takes the last replies. Panics at a wrong answer.
    pub(crate) fn run(
        &mut self,
        workload: &mut Workload,
        window: usize,
        time: Duration,
        demand: Demand,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let end = start + time;
        let mut last_reply = start;
        loop {
            let now = Instant::now();
            let room = window - self.in_flight_count;
            // Half a batch at a time is cheap enough; the rest of the window is the server's to work on.
            if now < end && room >= (window / 2).min(BATCH / 2) {
                self.send(workload, room.min(BATCH));
            }
            let received = self.receive();
            if received > 0 {
                last_reply = now;
                for at in 0..received {
                    self.take(at, workload.query_octets(), workload.kind, demand, &mut outcome);
                }
            } else if now - last_reply > Duration::from_millis(LOST_AFTER_MS) {
                outcome.lost += self.in_flight_count as u64;
                self.in_flight.fill(None);
                self.in_flight_count = 0;
                last_reply = now;
            }
            if now >= end && self.in_flight_count == 0 {
                outcome.seconds = start.elapsed().as_secs_f64();
                return outcome;
            }
        }
    }

    /// Sends queries at a rate per second, whatever becomes of them. Panics at a wrong answer. Ids come again after
    /// 65,536 queries, sooner than some replies: there what counts is the question that a reply has.
    pub(crate) fn flood(
        &mut self,
        workload: &mut Workload,
        rate: f64,
        time: Duration,
        demand: Demand,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        loop {
            let elapsed = start.elapsed();
            if elapsed >= time {
                outcome.seconds = elapsed.as_secs_f64();
                return outcome;
            }
            if (outcome.sent as f64) < rate * elapsed.as_secs_f64() {
                self.send_segmented(workload);
                outcome.sent += BATCH as u64;
            }
            for at in 0..self.receive() {
                self.take(at, workload.query_octets(), workload.kind, demand, &mut outcome);
            }
        }
    }

    /// Takes what still comes, and forgets what does not.
    pub(crate) fn forget(&mut self) {
        let mut last_reply = Instant::now();
        while last_reply.elapsed() < Duration::from_millis(FORGOTTEN_AFTER_MS) {
            if self.receive() > 0 {
                last_reply = Instant::now();
            }
        }
        self.in_flight.fill(None);
        self.in_flight_count = 0;
    }

    /// Sends a batch as one datagram that the kernel cuts into queries (UDP_SEGMENT): one way through the network stack
    /// instead of one for each.
    fn send_segmented(&mut self, workload: &mut Workload) {
        let octets = workload.query_octets();
        let mut whole = [0; BATCH * QUERY_OCTETS_MAX];
        self.prepare(workload, BATCH);
        for (query, segment) in self.queries.iter().zip(whole.chunks_exact_mut(octets)) {
            segment.copy_from_slice(&query[..octets]);
        }
        let slices = [IoSlice::new(&whole[..BATCH * octets])];
        let segment_octets = octets as u16;
        let segments = [ControlMessage::UdpGsoSegments(&segment_octets)];
        let fd = self.socket.as_raw_fd();
        // What the system refuses is lost, like what the server has no room for.
        let _ = sendmsg::<SockaddrStorage>(fd, &slices, &segments, MsgFlags::empty(), None);
    }

    /// Makes the next queries.
    fn prepare(&mut self, workload: &mut Workload, count: usize) {
        let octets = workload.query_octets();
        for query in &mut self.queries[..count] {
            workload.write(self.next_id, &mut query[..octets]);
            let slot = &mut self.in_flight[usize::from(self.next_id)];
            if slot.replace(*query).is_none() {
                self.in_flight_count += 1;
            }
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    /// Sends the next queries.
    fn send(&mut self, workload: &mut Workload, count: usize) {
        let octets = workload.query_octets();
        self.prepare(workload, count);
        let slices: Vec<_> =
            self.queries[..count].iter().map(|query| [IoSlice::new(&query[..octets])]).collect();
        let mut sent = 0;
        while sent < count {
            let to = [const { None::<SockaddrStorage> }; BATCH];
            let result = sendmmsg(
                self.socket.as_raw_fd(),
                &mut self.send_headers,
                &slices[sent..],
                &to[..count - sent],
                [],
                MsgFlags::empty(),
            );
            match result {
                Ok(results) => sent += results.count(),
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS | Errno::ECONNREFUSED) => {}
                Err(error) => panic!("queries can't be sent: {error}"),
            }
        }
    }

    /// The number of replies that were waiting.
    fn receive(&mut self) -> usize {
        let mut slices: Vec<_> =
            self.replies.chunks_exact_mut(REPLY_OCTETS_MAX).map(|reply| [IoSliceMut::new(reply)]).collect();
        let result = recvmmsg(
            self.socket.as_raw_fd(),
            &mut self.receive_headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        match result {
            Ok(results) => {
                let mut count = 0;
                for result in results {
                    self.lengths[count] = result.bytes;
                    count += 1;
                }
                count
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => 0,
            Err(error) => panic!("replies can't be received: {error}"),
        }
    }

    fn take(&mut self, at: usize, query_octets: usize, kind: Kind, demand: Demand, outcome: &mut Outcome) {
        let reply = &self.replies[at * REPLY_OCTETS_MAX..][..self.lengths[at]];
        let id = u16::from_be_bytes([reply[0], reply[1]]);
        outcome.received += 1;
        // What was given up on may come late.
        let Some(mut query) = self.in_flight[usize::from(id)].take() else { return };
        self.in_flight_count -= 1;
        outcome.answered += 1;
        if demand == Demand::SameId {
            return;
        }
        if demand == Demand::RightToItself {
            let question = HEADER_OCTETS..query_octets - OPT_OCTETS;
            query[question.clone()].copy_from_slice(reply.get(question).expect("a question"));
        }
        let query = &query[..query_octets];
        let is_right = workload::looks_right(kind, query, reply);
        if !is_right || outcome.answered.is_multiple_of(DECODED_EVERY) {
            let checked = workload::check(kind, query, reply);
            assert!(is_right && checked.is_ok(), "wrong reply to {query:02x?}: {checked:?}: {reply:02x?}");
        }
    }
}
