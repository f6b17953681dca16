//! The loop of a worker on systems without `recvmmsg`: one datagram at a time, with the standard library only.
//!
//! It is meant for developers' machines. On a wildcard socket the system chooses the source address of replies, which on a
//! host with several addresses need not be the one that the query was sent to.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::batch::{Batch, QUERY_OCTETS_MAX};
use super::{RECEIVE_RETRY_MS, Respond, Sent};

pub(super) fn serve(socket: &UdpSocket, respond: &mut impl Respond, stop: &AtomicBool) {
    let mut batch = Batch::new(1);
    while !stop.load(Ordering::Relaxed) {
        match receive(socket, &mut batch) {
            Ok(()) => {}
            Err(error) if is_harmless(&error) => continue,
            Err(error) => {
                respond.receive_failed(error);
                // A pause, so that a persistent error does not cause a busy loop.
                std::thread::sleep(Duration::from_millis(RECEIVE_RETRY_MS));
                continue;
            }
        }
        respond.respond(&mut batch);
        let refused = batch.refuse();
        let mut sent = Sent { ignored: refused.ignored, too_long: refused.too_long, ..Sent::default() };
        let slot = batch.slots[0];
        if slot.reply_len > 0 {
            match socket.send_to(&batch.replies[0][..slot.reply_len], slot.client) {
                Ok(_) => sent.replies += 1,
                Err(_) => sent.errors += 1,
            }
        }
        respond.sent(&sent);
    }
}

fn receive(socket: &UdpSocket, batch: &mut Batch) -> io::Result<()> {
    batch.received = 0;
    // The buffer is one byte longer than the limit, so that a longer datagram can be recognised.
    let (len, client) = socket.recv_from(&mut batch.queries[0][..=QUERY_OCTETS_MAX])?;
    let slot = &mut batch.slots[0];
    slot.query_len = len.min(QUERY_OCTETS_MAX);
    slot.reply_len = 0;
    slot.is_cut = len > QUERY_OCTETS_MAX;
    slot.client = client;
    batch.received = 1;
    Ok(())
}

fn is_harmless(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted | ConnectionRefused | ConnectionReset)
}
