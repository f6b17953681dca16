//! A load generator for DNS over UDP: one thread, batches of queries, a fixed number of them in flight.
//!
//! It polls and never sleeps, so that the server's sends never pay for waking it up, and a server on another CPU always
//! finds a full queue as long as it is slower than the load.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, sendmsg,
};

use super::workload::{self, Kind, QUERY_BYTES_MAX, Workload};

const BATCH: usize = 64;
const REPLY_BYTES_MAX: usize = 2048;
/// Milliseconds without any reply after which the queries in flight count as lost.
const LOST_AFTER_MS: u64 = 250;
/// Milliseconds without any reply after which [`Generator::drain`] expects no more of them.
const DRAINED_AFTER_MS: u64 = 20;
/// One in this many replies is decoded and compared with the world; the others are checked by header and question only.
const DECODED_EVERY: u64 = 1_024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReplyCheck {
    Answer,
    /// The right answer to the question that the reply contains. In a flood an id is reused before its reply arrives, so the
    /// reply cannot be compared with its query.
    OwnQuestion,
    /// The query's id and nothing else, as the null responder sends it.
    IdOnly,
}

/// Counts of a run of the load. `received` counts all datagrams, including late ones that belong to no query in flight.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) seconds: f64,
}

pub(crate) struct Generator {
    socket: UdpSocket,
    queries: Vec<[u8; QUERY_BYTES_MAX]>,
    replies: Vec<u8>,
    lengths: [usize; BATCH],
    in_flight: Vec<Option<[u8; QUERY_BYTES_MAX]>>,
    in_flight_count: usize,
    next_id: u16,
    send_headers: MultiHeaders<SockaddrStorage>,
    receive_headers: MultiHeaders<SockaddrStorage>,
}

const HEADER_BYTES: usize = 12;
const OPT_BYTES: usize = 11;

impl Generator {
    pub(crate) fn new(server: SocketAddr) -> Generator {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a UDP socket");
        socket.connect(server).expect("the DNS address");
        let reference = socket2::SockRef::from(&socket);
        // The kernel may grant less, and an error is ignored: the window fits into a buffer of the default size.
        let _ = reference.set_recv_buffer_size(4 << 20);
        let _ = reference.set_send_buffer_size(4 << 20);
        Generator {
            socket,
            queries: vec![[0; QUERY_BYTES_MAX]; BATCH],
            replies: vec![0; BATCH * REPLY_BYTES_MAX],
            lengths: [0; BATCH],
            in_flight: vec![None; 1 << 16],
            in_flight_count: 0,
            next_id: 0,
            send_headers: MultiHeaders::preallocate(BATCH, None),
            receive_headers: MultiHeaders::preallocate(BATCH, None),
        }
    }

    /// Keeps `window` queries in flight for this time, then waits for the last replies. Panics at a wrong answer.
    pub(crate) fn run(
        &mut self,
        workload: &mut Workload,
        window: usize,
        time: Duration,
        check: ReplyCheck,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let end = start + time;
        let mut last_reply = start;
        loop {
            let now = Instant::now();
            let room = window - self.in_flight_count;
            // Half a batch is enough to make a system call cheap, and leaves the server the rest of the window to work on.
            if now < end && room >= (window / 2).min(BATCH / 2) {
                self.send(workload, room.min(BATCH));
            }
            let received = self.receive();
            if received > 0 {
                last_reply = now;
                for at in 0..received {
                    self.take(at, workload.query_bytes(), workload.kind, check, &mut outcome);
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

    /// Sends queries at a rate per second, whether or not they are answered. Panics at a wrong answer. Ids are reused after
    /// 65,536 queries, which may be before their replies arrive: use [`ReplyCheck::OwnQuestion`].
    pub(crate) fn flood(
        &mut self,
        workload: &mut Workload,
        rate: f64,
        time: Duration,
        check: ReplyCheck,
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
                self.take(at, workload.query_bytes(), workload.kind, check, &mut outcome);
            }
        }
    }

    /// Discards the replies that still arrive, and gives up the queries that stay without one.
    pub(crate) fn drain(&mut self) {
        let mut last_reply = Instant::now();
        while last_reply.elapsed() < Duration::from_millis(DRAINED_AFTER_MS) {
            if self.receive() > 0 {
                last_reply = Instant::now();
            }
        }
        self.in_flight.fill(None);
        self.in_flight_count = 0;
    }

    /// Sends a batch as one datagram that the kernel splits into queries (UDP_SEGMENT), so that it passes the network stack
    /// once instead of once for each query.
    fn send_segmented(&mut self, workload: &mut Workload) {
        let bytes = workload.query_bytes();
        let mut whole = [0; BATCH * QUERY_BYTES_MAX];
        self.prepare(workload, BATCH);
        for (query, segment) in self.queries.iter().zip(whole.chunks_exact_mut(bytes)) {
            segment.copy_from_slice(&query[..bytes]);
        }
        let slices = [IoSlice::new(&whole[..BATCH * bytes])];
        let segment_bytes = bytes as u16;
        let segments = [ControlMessage::UdpGsoSegments(&segment_bytes)];
        let fd = self.socket.as_raw_fd();
        // A batch that the kernel refuses counts as unanswered, like queries that the server has no room for.
        let _ = sendmsg::<SockaddrStorage>(fd, &slices, &segments, MsgFlags::empty(), None);
    }

    fn prepare(&mut self, workload: &mut Workload, count: usize) {
        let bytes = workload.query_bytes();
        for query in &mut self.queries[..count] {
            workload.write(self.next_id, &mut query[..bytes]);
            let slot = &mut self.in_flight[usize::from(self.next_id)];
            if slot.replace(*query).is_none() {
                self.in_flight_count += 1;
            }
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    fn send(&mut self, workload: &mut Workload, count: usize) {
        let bytes = workload.query_bytes();
        self.prepare(workload, count);
        let slices: Vec<_> =
            self.queries[..count].iter().map(|query| [IoSlice::new(&query[..bytes])]).collect();
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

    /// Reads the replies that are waiting, at most a batch of them, and returns their number.
    fn receive(&mut self) -> usize {
        let mut slices: Vec<_> =
            self.replies.chunks_exact_mut(REPLY_BYTES_MAX).map(|reply| [IoSliceMut::new(reply)]).collect();
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

    fn take(&mut self, at: usize, query_bytes: usize, kind: Kind, check: ReplyCheck, outcome: &mut Outcome) {
        let reply = &self.replies[at * REPLY_BYTES_MAX..][..self.lengths[at]];
        let id = u16::from_be_bytes([reply[0], reply[1]]);
        outcome.received += 1;
        // A reply whose query is not in flight is a late one, to a query that was given up.
        let Some(mut query) = self.in_flight[usize::from(id)].take() else { return };
        self.in_flight_count -= 1;
        outcome.answered += 1;
        if check == ReplyCheck::IdOnly {
            return;
        }
        if check == ReplyCheck::OwnQuestion {
            let question = HEADER_BYTES..query_bytes - OPT_BYTES;
            query[question.clone()].copy_from_slice(reply.get(question).expect("a question"));
        }
        let query = &query[..query_bytes];
        let is_right = workload::looks_right(kind, query, reply);
        if !is_right || outcome.answered.is_multiple_of(DECODED_EVERY) {
            let checked = workload::check(kind, query, reply);
            assert!(is_right && checked.is_ok(), "wrong reply to {query:02x?}: {checked:?}: {reply:02x?}");
        }
    }
}
