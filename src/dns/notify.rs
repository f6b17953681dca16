//! NOTIFY: secondaries are told at once that a zone has changed (RFC 1996).
//!
//! The serials of all zones are looked at a few times a second; the writer does nothing for it. What a secondary has not
//! acknowledged yet is one entry for each zone and secondary, however often the zone changes, so the state is bounded by
//! both. A message is sent again, ever less often, until it is acknowledged or refused. At the start every zone is news.
//!
//! Who calls it: [`super::server`], when there are secondaries.

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

/// How often the serials are looked at, in milliseconds.
const LOOK_INTERVAL_MS: u64 = 250;
/// The least time between two messages of one zone to one secondary, in milliseconds; what changes between is told once.
const ZONE_INTERVAL_MS_MIN: u64 = 1_000;
/// How long the first acknowledgement is waited for, in milliseconds; each further one twice as long.
const RETRY_MS_MIN: u64 = 2_000;
/// How often that time doubles: it ends at 64 s.
const RETRY_DOUBLINGS_MAX: u32 = 5;
/// Attempts after which a secondary that does not answer is worth a warning.
const ATTEMPTS_BEFORE_WARNING: u32 = 4;
/// Messages that are sent at one look.
const MESSAGES_AT_ONCE_MAX: usize = 500;
/// Octets of an answer that are read; its header and question are enough.
const ANSWER_OCTETS: usize = 512;
/// Flags of a message: the opcode, and AA (RFC 1996 §3.6).
const FLAGS: Flags = Opcode::NOTIFY.flags().with(Flags::AA);

/// Tells the secondaries of every change, for ever. Messages leave from the first address of `from` that fits, because
/// secondaries listen only to whom they know.
pub(super) async fn run(snapshot: Arc<Snapshot>, secondaries: Vec<SocketAddr>, from: Vec<IpAddr>) {
    let v4 = socket(&secondaries, &from, IpAddr::V4(Ipv4Addr::UNSPECIFIED)).await;
    let v6 = socket(&secondaries, &from, IpAddr::V6(Ipv6Addr::UNSPECIFIED)).await;
    let mut notices = Notices::new(secondaries);
    let mut looks = interval(Duration::from_millis(LOOK_INTERVAL_MS));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut answer_v4, mut answer_v6) = ([0; ANSWER_OCTETS], [0; ANSWER_OCTETS]);
    loop {
        tokio::select! {
            _ = looks.tick() => {
                for (secondary, message) in look(&mut notices, &snapshot) {
                    let socket = if secondary.is_ipv4() { &v4 } else { &v6 };
                    if let Some(socket) = socket && let Err(error) = socket.send_to(&message, secondary).await {
                        tracing::debug!(%error, %secondary, "NOTIFY not sent");
                    }
                }
            }
            (length, secondary) = receive(v4.as_ref(), &mut answer_v4) => {
                notices.answered(secondary, &answer_v4[..length]);
            }
            (length, secondary) = receive(v6.as_ref(), &mut answer_v6) => {
                notices.answered(secondary, &answer_v6[..length]);
            }
        }
    }
}

/// The messages that are due now.
fn look(notices: &mut Notices, snapshot: &Snapshot) -> Vec<(SocketAddr, Vec<u8>)> {
    let directory = snapshot.view();
    notices.note(directory.zones().map(|zone| (&zone.apex, zone.serial())), Instant::now());
    notices.due(Instant::now(), |id, apex| {
        let soa = directory.zone(apex).and_then(|zone| live_soa(&directory, zone));
        message(id, apex, soa.as_ref())
    })
}

/// The socket for secondaries of one family; nothing when there are none.
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

/// The next answer; none ever without a socket.
async fn receive(socket: Option<&UdpSocket>, answer: &mut [u8]) -> (usize, SocketAddr) {
    let Some(socket) = socket else { return pending().await };
    loop {
        let received: io::Result<_> = socket.recv_from(answer).await;
        match received {
            Ok((length, secondary)) => {
                return (length, SocketAddr::new(secondary.ip().to_canonical(), secondary.port()));
            }
            // That nobody listens there is told by the system; the next attempt will show.
            Err(error) => tracing::debug!(%error, "NOTIFY: no answer"),
        }
    }
}

/// What every secondary has to be told.
struct Notices {
    secondaries: Vec<SocketAddr>,
    zones: HashMap<Name, Notice>,
    /// Counts the looks: a zone that one does not find is gone.
    looks: u64,
}

struct Notice {
    serial: u32,
    look: u64,
    /// One for each secondary.
    told: Vec<Told>,
}

/// What one secondary knows of one zone.
#[derive(Clone, Debug, Default)]
struct Told {
    /// When the next message is due; nothing when the last one was acknowledged.
    due: Option<Instant>,
    /// When the last message was sent.
    sent: Option<Instant>,
    /// Messages about this serial.
    attempts: u32,
    /// The id of the last one.
    id: Option<u16>,
}

impl Notices {
    fn new(secondaries: Vec<SocketAddr>) -> Notices {
        Notices { secondaries, zones: HashMap::new(), looks: 0 }
    }

    /// Notes which zones have changed since the last look.
    fn note<'z>(&mut self, zones: impl Iterator<Item = (&'z Name, u32)>, now: Instant) {
        self.looks += 1;
        let look = self.looks;
        for (apex, serial) in zones {
            if let Some(notice) = self.zones.get_mut(apex) {
                notice.look = look;
                if std::mem::replace(&mut notice.serial, serial) != serial {
                    notice.told.iter_mut().for_each(|told| told.is_news(now));
                }
            } else {
                let mut told = vec![Told::default(); self.secondaries.len()];
                told.iter_mut().for_each(|told| told.is_news(now));
                self.zones.insert(apex.clone(), Notice { serial, look, told });
            }
        }
        self.zones.retain(|_, notice| notice.look == look);
    }

    /// The messages that are due, as many as are sent at once; `message` makes one of an id and a zone.
    fn due(&mut self, now: Instant, message: impl Fn(u16, &Name) -> Vec<u8>) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut messages = Vec::new();
        for (apex, notice) in &mut self.zones {
            for (told, secondary) in notice.told.iter_mut().zip(&self.secondaries) {
                if told.due.is_none_or(|due| due > now) {
                    continue;
                }
                if messages.len() == MESSAGES_AT_ONCE_MAX {
                    return messages;
                }
                let id = told.sends(now);
                if told.attempts == ATTEMPTS_BEFORE_WARNING {
                    tracing::warn!(zone = %apex, %secondary, "a secondary does not acknowledge NOTIFY");
                }
                messages.push((*secondary, message(id, apex)));
            }
        }
        messages
    }

    /// Takes an answer. Any response to the message ends it (RFC 1996 §4.7, §4.8).
    fn answered(&mut self, from: SocketAddr, answer: &[u8]) {
        let Some((id, code, zone)) = read_answer(answer) else { return };
        let Some(notice) = self.zones.get_mut(&zone) else { return };
        let told = notice.told.iter_mut().zip(&self.secondaries);
        let mut asked = told.filter(|(told, secondary)| told.id == Some(id) && **secondary == from);
        let Some((told, _)) = asked.next() else { return };
        (told.due, told.id) = (None, None);
        if code == Rcode::NOERROR {
            tracing::debug!(%zone, serial = notice.serial, secondary = %from, "NOTIFY acknowledged");
        } else {
            tracing::warn!(%zone, secondary = %from, %code, "a secondary refuses NOTIFY; does it have the zone?");
        }
    }
}

impl Told {
    /// There is a new serial: the next message is due now, or when the last one was long enough ago. What answers an
    /// earlier message does not count any more.
    fn is_news(&mut self, now: Instant) {
        let earliest = self.sent.map(|sent| sent + Duration::from_millis(ZONE_INTERVAL_MS_MIN));
        self.due = Some(earliest.map_or(now, |earliest| earliest.max(now)));
        (self.attempts, self.id) = (0, None);
    }

    /// Notes that a message is sent now, and returns its id.
    fn sends(&mut self, now: Instant) -> u16 {
        let id = fastrand::u16(..);
        let wait = Duration::from_millis(RETRY_MS_MIN << self.attempts.min(RETRY_DOUBLINGS_MAX));
        (self.due, self.sent, self.id) = (Some(now + wait), Some(now), Some(id));
        self.attempts += 1;
        id
    }
}

/// A message about a zone, with its SOA as a hint (RFC 1996 §3.7).
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

/// Reads the id, the response code and the zone of an answer to NOTIFY.
fn read_answer(octets: &[u8]) -> Option<(u16, Rcode, Name)> {
    let header = Header::read(octets)?;
    let is_answer = header.flags.has(Flags::QR) && header.flags.opcode() == Opcode::NOTIFY;
    let zone = QueryName::read(&octets[HEADER_OCTETS..]).ok().filter(|_| is_answer)?;
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
        notices: Notices,
        start: Instant,
    }

    impl Test {
        fn new(secondaries: &[&str]) -> Test {
            let secondaries = secondaries.iter().map(|text| text.parse().unwrap()).collect();
            Test { notices: Notices::new(secondaries), start: Instant::now() }
        }

        fn note(&mut self, zones: &[(&str, u32)], at_ms: u64) {
            let zones: Vec<_> = zones.iter().map(|(zone, serial)| (name(zone), *serial)).collect();
            self.notices.note(zones.iter().map(|(zone, serial)| (zone, *serial)), self.at(at_ms));
        }

        fn due(&mut self, at_ms: u64) -> Vec<(SocketAddr, Vec<u8>)> {
            let now = self.at(at_ms);
            self.notices.due(now, |id, apex| message(id, apex, None))
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
    fn a_message_is_what_rfc_1996_says() {
        let soa = Rrset::new(RecordType::SOA, 60, [&[0; 22][..]]).unwrap();
        let octets = message(7, &name("svc.local"), Some(&soa));
        let read = hickory_proto::op::Message::from_vec(&octets).unwrap();
        assert_eq!(read.metadata.op_code, hickory_proto::op::OpCode::Notify);
        assert!(read.metadata.authoritative);
        assert_eq!((read.queries.len(), read.answers.len()), (1, 1));
        assert_eq!(read.answers[0].name.to_ascii(), "svc.local.");
        assert_eq!(read_answer(&octets), None, "it is no answer itself");
        assert_eq!(read_answer(&answer(&octets)), Some((7, Rcode::NOERROR, name("svc.local"))));
    }

    #[test]
    fn every_secondary_is_told_of_every_zone_until_it_acknowledges() {
        let mut test = Test::new(&[ONE, TWO]);
        test.note(&[("a.test", 1), ("b.test", 1)], 0);
        let messages = test.due(0);
        assert_eq!(messages.len(), 4);
        assert!(test.due(1_000).is_empty());
        for (secondary, message) in messages.iter().filter(|(secondary, _)| secondary.to_string() == ONE) {
            test.notices.answered(*secondary, &answer(message));
        }
        let again = test.due(2_000);
        assert_eq!(again.iter().map(|(secondary, _)| secondary.to_string()).collect::<Vec<_>>(), [TWO, TWO]);
        // 2 s, 4 s, 8 s and so on, up to 64 s, without an end.
        let mut attempts = vec![];
        for second in 3..400 {
            let sent = test.due(second * 1_000).len();
            attempts.extend((sent > 0).then_some(second));
        }
        assert_eq!(attempts, [6, 14, 30, 62, 126, 190, 254, 318, 382]);
    }

    #[test]
    fn changes_of_one_second_are_told_once() {
        let mut test = Test::new(&[ONE]);
        test.note(&[("a.test", 1)], 0);
        let first = test.due(0);
        test.notices.answered(first[0].0, &answer(&first[0].1));
        for (serial, at_ms) in [(2, 100), (3, 500), (4, 900)] {
            test.note(&[("a.test", serial)], at_ms);
            assert!(test.due(at_ms).is_empty());
        }
        assert_eq!(test.due(1_000).len(), 1);
    }

    #[test]
    fn an_answer_counts_for_the_message_that_it_answers_only() {
        let mut test = Test::new(&[ONE]);
        test.note(&[("a.test", 1)], 0);
        let first = test.due(0);
        test.notices.answered(TWO.parse().unwrap(), &answer(&first[0].1));
        test.notices.answered(first[0].0, &first[0].1);
        test.note(&[("a.test", 2)], 100);
        test.notices.answered(first[0].0, &answer(&first[0].1));
        assert_eq!(test.due(5_000).len(), 1);
    }

    #[test]
    fn a_zone_that_is_gone_is_forgotten_and_many_are_told_bit_by_bit() {
        let mut test = Test::new(&[ONE]);
        let names: Vec<String> = (0..700).map(|number| format!("z{number}.test")).collect();
        let zones: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        test.note(&zones, 0);
        assert_eq!((test.due(0).len(), test.due(0).len()), (500, 200));
        test.note(&zones[..1], 100);
        assert_eq!(test.notices.zones.len(), 1);
    }
}
