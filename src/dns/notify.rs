//! NOTIFY: messages that inform secondaries promptly of a changed zone (RFC 1996).
//!
//! A task compares the serials of all zones a few times a second, so that the writer of zones has no work for it. There is
//! one entry for each zone and secondary, however often the zone changes, so the memory has a bound. A message is sent again
//! at growing intervals until it is acknowledged or refused. After the start, every zone counts as changed.
//!
//! Used by [`super::server`], if there are secondaries in the settings.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::snapshot::Snapshot;
use crate::wire::{Class, Flags, HEADER_OCTETS, Header, Opcode, Pointer, Rcode};
use crate::zone::records::live_soa;
use crate::zone::{Name, QueryName, RecordType, Rrset};

const POLL_INTERVAL_MS: u64 = 250;
/// Minimum interval between two messages about one zone to one secondary, in milliseconds. It merges changes in between.
const ZONE_INTERVAL_MS_MIN: u64 = 1_000;
/// Time until the first retry of a message without a response, in milliseconds. It doubles with each attempt.
const RETRY_MS_MIN: u64 = 2_000;
/// Number of times that the retry interval doubles, so that it is at most 64 seconds.
const RETRY_DOUBLINGS_MAX: u32 = 5;
const ATTEMPTS_BEFORE_WARNING: u32 = 4;
const MESSAGES_PER_POLL_MAX: usize = 500;
const RESPONSE_OCTETS: usize = 512;
/// Flags of a NOTIFY message: the opcode, and AA (RFC 1996 §3.6).
const FLAGS: Flags = Opcode::NOTIFY.flags().with(Flags::AA);

/// Sends NOTIFY to the secondaries for every change until the task is aborted. The source address is the first one of `from`
/// of the right family, because secondaries accept messages from known addresses only.
pub(super) async fn run(snapshot: Arc<Snapshot>, secondaries: Vec<SocketAddr>, from: Vec<IpAddr>) {
    let v4 = socket(&secondaries, &from, IpAddr::V4(Ipv4Addr::UNSPECIFIED)).await;
    let v6 = socket(&secondaries, &from, IpAddr::V6(Ipv6Addr::UNSPECIFIED)).await;
    let mut queue = NotifyQueue::new(secondaries);
    let mut polls = interval(Duration::from_millis(POLL_INTERVAL_MS));
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut response_v4, mut response_v6) = ([0; RESPONSE_OCTETS], [0; RESPONSE_OCTETS]);
    loop {
        tokio::select! {
            _ = polls.tick() => {
                for (secondary, message) in due_messages(&mut queue, &snapshot) {
                    let socket = if secondary.is_ipv4() { &v4 } else { &v6 };
                    if let Some(socket) = socket && let Err(error) = socket.send_to(&message, secondary).await {
                        tracing::debug!(%error, %secondary, "NOTIFY not sent");
                    }
                }
            }
            (length, secondary) = receive(v4.as_ref(), &mut response_v4) => {
                queue.handle_response(secondary, &response_v4[..length]);
            }
            (length, secondary) = receive(v6.as_ref(), &mut response_v6) => {
                queue.handle_response(secondary, &response_v6[..length]);
            }
        }
    }
}

fn due_messages(queue: &mut NotifyQueue, snapshot: &Snapshot) -> Vec<(SocketAddr, Vec<u8>)> {
    let directory = snapshot.view();
    queue.update(directory.zones().map(|zone| (&zone.apex, zone.serial())), Instant::now());
    queue.due(Instant::now(), |id, apex| {
        let soa = directory.zone(apex).and_then(|zone| live_soa(&directory, zone));
        message(id, apex, soa.as_ref())
    })
}

async fn socket(secondaries: &[SocketAddr], from: &[IpAddr], any: IpAddr) -> Option<UdpSocket> {
    if !secondaries.iter().any(|secondary| secondary.is_ipv4() == any.is_ipv4()) {
        return None;
    }
    let own = from.iter().find(|own| own.is_ipv4() == any.is_ipv4() && !own.is_unspecified());
    match UdpSocket::bind((*own.unwrap_or(&any), 0)).await {
        Ok(socket) => Some(socket),
        Err(error) => {
            tracing::error!(%error, "NOTIFY can't be sent: no socket");
            None
        }
    }
}

/// Receives the next response. Without a socket it never completes.
async fn receive(socket: Option<&UdpSocket>, answer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else { return pending().await };
    loop {
        let received: io::Result<_> = socket.recv_from(answer).await;
        match received {
            Ok((length, secondary)) => {
                return (length, SocketAddr::new(secondary.ip().to_canonical(), secondary.port()));
            }
            // The system reports an ICMP error of an earlier message. The message is sent again anyway.
            Err(error) => tracing::debug!(%error, "NOTIFY: no answer"),
        }
    }
}

struct NotifyQueue {
    secondaries: Vec<SocketAddr>,
    zones: HashMap<Name, ZoneState>,
    polls: u64,
}

/// Serial of a zone, and the deliveries to the secondaries in the order of the queue's list. Zones that the last poll did
/// not find are removed.
struct ZoneState {
    serial: u32,
    poll: u64,
    deliveries: Vec<Delivery>,
}

/// Delivery of a zone's current serial to one secondary: the time at which the next message is due (`None` after a
/// response), the time of the last message, the number of messages about this serial, and the id of the last one of them.
#[derive(Clone, Debug, Default)]
struct Delivery {
    due: Option<Instant>,
    sent: Option<Instant>,
    attempts: u32,
    id: Option<u16>,
}

impl NotifyQueue {
    fn new(secondaries: Vec<SocketAddr>) -> NotifyQueue {
        NotifyQueue { secondaries, zones: HashMap::new(), polls: 0 }
    }

    /// Compares the serials with those of the last poll, and schedules messages for zones that have changed.
    fn update<'z>(&mut self, zones: impl Iterator<Item = (&'z Name, u32)>, now: Instant) {
        self.polls += 1;
        let poll = self.polls;
        for (apex, serial) in zones {
            if let Some(state) = self.zones.get_mut(apex) {
                state.poll = poll;
                if std::mem::replace(&mut state.serial, serial) != serial {
                    state.deliveries.iter_mut().for_each(|delivery| delivery.restart(now));
                }
            } else {
                let mut deliveries = vec![Delivery::default(); self.secondaries.len()];
                deliveries.iter_mut().for_each(|delivery| delivery.restart(now));
                self.zones.insert(apex.clone(), ZoneState { serial, poll, deliveries });
            }
        }
        self.zones.retain(|_, state| state.poll == poll);
    }

    /// The messages that are due, at most [`MESSAGES_PER_POLL_MAX`]. `message` makes one from its id and the zone's name.
    fn due(&mut self, now: Instant, message: impl Fn(u16, &Name) -> Vec<u8>) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut messages = Vec::new();
        for (apex, state) in &mut self.zones {
            for (delivery, secondary) in state.deliveries.iter_mut().zip(&self.secondaries) {
                if delivery.due.is_none_or(|due| due > now) {
                    continue;
                }
                if messages.len() == MESSAGES_PER_POLL_MAX {
                    return messages;
                }
                let id = delivery.start_attempt(now);
                if delivery.attempts == ATTEMPTS_BEFORE_WARNING {
                    tracing::warn!(zone = %apex, %secondary, "a secondary does not acknowledge NOTIFY");
                }
                messages.push((*secondary, message(id, apex)));
            }
        }
        messages
    }

    /// Any response code ends the delivery (RFC 1996 §4.7, §4.8).
    fn handle_response(&mut self, from: SocketAddr, answer: &[u8]) {
        let Some((id, code, zone)) = read_response(answer) else { return };
        let Some(state) = self.zones.get_mut(&zone) else { return };
        let deliveries = state.deliveries.iter_mut().zip(&self.secondaries);
        let mut answered =
            deliveries.filter(|(delivery, secondary)| delivery.id == Some(id) && **secondary == from);
        let Some((delivery, _)) = answered.next() else { return };
        (delivery.due, delivery.id) = (None, None);
        if code == Rcode::NOERROR {
            tracing::debug!(%zone, serial = state.serial, secondary = %from, "NOTIFY acknowledged");
        } else {
            tracing::warn!(%zone, secondary = %from, %code, "a secondary refuses NOTIFY; does it have the zone?");
        }
    }
}

impl Delivery {
    /// Starts the delivery of a new serial. The next message is due now, or when [`ZONE_INTERVAL_MS_MIN`] has passed since
    /// the last one. Responses to earlier messages are ignored from now on.
    fn restart(&mut self, now: Instant) {
        let earliest = self.sent.map(|sent| sent + Duration::from_millis(ZONE_INTERVAL_MS_MIN));
        self.due = Some(earliest.map_or(now, |earliest| earliest.max(now)));
        (self.attempts, self.id) = (0, None);
    }

    fn start_attempt(&mut self, now: Instant) -> u16 {
        let id = fastrand::u16(..);
        let wait = Duration::from_millis(RETRY_MS_MIN << self.attempts.min(RETRY_DOUBLINGS_MAX));
        (self.due, self.sent, self.id) = (Some(now + wait), Some(now), Some(id));
        self.attempts += 1;
        id
    }
}

/// NOTIFY message for a zone, with its SOA as a hint (RFC 1996 §3.7).
fn message(id: u16, apex: &Name, soa: Option<&Rrset>) -> Vec<u8> {
    let soa = soa.and_then(|soa| Some((soa.ttl, soa.rdatas().next()?)));
    let answers = u16::from(soa.is_some());
    let header = Header { id, flags: FLAGS, questions: 1, answers, ..Header::default() };
    let type_and_class = [RecordType::SOA.0, Class::IN.0].map(u16::to_be_bytes).concat();
    let mut octets = header.to_wire().to_vec();
    octets.extend_from_slice(apex.as_wire());
    octets.extend_from_slice(&type_and_class);
    if let Some((ttl, rdata)) = soa {
        octets.extend_from_slice(&Pointer::QUESTION.to_wire());
        octets.extend_from_slice(&type_and_class);
        octets.extend_from_slice(&ttl.to_be_bytes());
        octets.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        octets.extend_from_slice(rdata);
    }
    octets
}

fn read_response(octets: &[u8]) -> Option<(u16, Rcode, Name)> {
    let header = Header::read(octets)?;
    let is_response = header.flags.has(Flags::QR) && header.flags.opcode() == Opcode::NOTIFY;
    let zone = QueryName::read(&octets[HEADER_OCTETS..]).ok().filter(|_| is_response)?;
    let zone = Name::from_wire(zone.as_wire()).ok()?;
    Some((header.id, Rcode(header.flags.rcode_low().into()), zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "192.0.2.1:53";
    const TWO: &str = "192.0.2.2:53";

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    struct Test {
        queue: NotifyQueue,
        start: Instant,
    }

    impl Test {
        fn new(secondaries: &[&str]) -> Test {
            let secondaries = secondaries.iter().map(|text| text.parse().unwrap()).collect();
            Test { queue: NotifyQueue::new(secondaries), start: Instant::now() }
        }

        fn update(&mut self, zones: &[(&str, u32)], at_ms: u64) {
            let zones: Vec<_> = zones.iter().map(|(zone, serial)| (name(zone), *serial)).collect();
            self.queue.update(zones.iter().map(|(zone, serial)| (zone, *serial)), self.at(at_ms));
        }

        fn due(&mut self, at_ms: u64) -> Vec<(SocketAddr, Vec<u8>)> {
            let now = self.at(at_ms);
            self.queue.due(now, |id, apex| message(id, apex, None))
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }
    }

    fn answer(message: &[u8]) -> Vec<u8> {
        let mut answer = message.to_vec();
        answer[2] |= 0x80;
        answer
    }

    #[test]
    fn message_has_the_format_of_rfc_1996() {
        let soa = Rrset::new(RecordType::SOA, 60, [&[0; 22][..]]).unwrap();
        let octets = message(7, &name("svc.local"), Some(&soa));
        let read = hickory_proto::op::Message::from_vec(&octets).unwrap();
        assert_eq!(read.metadata.op_code, hickory_proto::op::OpCode::Notify);
        assert!(read.metadata.authoritative);
        assert_eq!((read.queries.len(), read.answers.len()), (1, 1));
        assert_eq!(read.answers[0].name.to_ascii(), "svc.local.");
        assert_eq!(read_response(&octets), None, "a query is no response");
        assert_eq!(read_response(&answer(&octets)), Some((7, Rcode::NOERROR, name("svc.local"))));
    }

    #[test]
    fn every_secondary_gets_messages_for_every_zone_until_it_acknowledges() {
        let mut test = Test::new(&[ONE, TWO]);
        test.update(&[("a.test", 1), ("b.test", 1)], 0);
        let messages = test.due(0);
        assert_eq!(messages.len(), 4);
        assert!(test.due(1_000).is_empty());
        for (secondary, message) in messages.iter().filter(|(secondary, _)| secondary.to_string() == ONE) {
            test.queue.handle_response(*secondary, &answer(message));
        }
        let again = test.due(2_000);
        assert_eq!(again.iter().map(|(secondary, _)| secondary.to_string()).collect::<Vec<_>>(), [TWO, TWO]);
        let mut attempts = vec![];
        for second in 3..400 {
            let sent = test.due(second * 1_000).len();
            attempts.extend((sent > 0).then_some(second));
        }
        assert_eq!(attempts, [6, 14, 30, 62, 126, 190, 254, 318, 382]);
    }

    #[test]
    fn changes_within_one_second_cause_one_message() {
        let mut test = Test::new(&[ONE]);
        test.update(&[("a.test", 1)], 0);
        let first = test.due(0);
        test.queue.handle_response(first[0].0, &answer(&first[0].1));
        for (serial, at_ms) in [(2, 100), (3, 500), (4, 900)] {
            test.update(&[("a.test", serial)], at_ms);
            assert!(test.due(at_ms).is_empty());
        }
        assert_eq!(test.due(1_000).len(), 1);
    }

    #[test]
    fn response_acknowledges_only_the_message_that_it_answers() {
        let mut test = Test::new(&[ONE]);
        test.update(&[("a.test", 1)], 0);
        let first = test.due(0);
        test.queue.handle_response(TWO.parse().unwrap(), &answer(&first[0].1));
        test.queue.handle_response(first[0].0, &first[0].1);
        test.update(&[("a.test", 2)], 100);
        test.queue.handle_response(first[0].0, &answer(&first[0].1));
        assert_eq!(test.due(5_000).len(), 1);
    }

    #[test]
    fn removed_zones_use_no_memory_and_messages_per_poll_are_limited() {
        let mut test = Test::new(&[ONE]);
        let names: Vec<String> = (0..700).map(|number| format!("z{number}.test")).collect();
        let zones: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        test.update(&zones, 0);
        assert_eq!((test.due(0).len(), test.due(0).len()), (500, 200));
        test.update(&zones[..1], 100);
        assert_eq!(test.queue.zones.len(), 1);
    }
}
