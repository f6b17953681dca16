use super::*;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const LOOPS: [UdpLoop; 3] = [UdpLoop::Auto, UdpLoop::Batched, UdpLoop::Portable];

#[derive(Clone, Default)]
struct Echo {
    batches: Arc<AtomicU64>,
    sent: Arc<Mutex<Sent>>,
}

impl Respond for Echo {
    fn respond(&mut self, batch: &mut Batch) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        for mut exchange in batch.exchanges() {
            let query = exchange.query;
            assert_ne!(query, b"panic");
            exchange.out[..query.len()].copy_from_slice(query);
            exchange.out[query.len() - 1] ^= 0xff;
            exchange.reply(query.len());
        }
    }

    fn sent(&mut self, sent: &Sent) {
        let mut sum = self.sent.lock().unwrap();
        sum.replies += sent.replies;
        sum.errors += sent.errors;
        sum.ignored += sent.ignored;
        sum.too_long += sent.too_long;
    }
}

fn start(address: &str, workers: usize, udp_loop: UdpLoop) -> (UdpWorkers, SocketAddr, Echo) {
    let sockets = UdpSockets::bind(address.parse().unwrap(), workers, udp_loop).unwrap();
    let (address, echo) = (sockets.address, Echo::default());
    let responder = echo.clone();
    (UdpWorkers::start(vec![sockets], move || responder.clone()).unwrap(), address, echo)
}

fn client(address: &str) -> UdpSocket {
    let client = UdpSocket::bind((address, 0)).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn receive(client: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_535];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

#[test]
fn every_query_of_a_burst_is_answered() {
    for udp_loop in LOOPS {
        for workers in [1, 3] {
            let (running, address, echo) = start("127.0.0.1:0", workers, udp_loop);
            // Several clients, so that every worker gets some. Few queries each, because the clients' buffers are small.
            let clients: Vec<_> = (0..8).map(|_| client("127.0.0.1")).collect();
            for number in 0..40_u8 {
                for client in &clients {
                    client.send_to(&[7, number, 0xf0], address).unwrap();
                }
            }
            for client in &clients {
                let replies: HashSet<_> = (0..40).map(|_| receive(client)).collect();
                let expected = (0..40).map(|number| (vec![7, number, 0x0f], address)).collect();
                assert_eq!(replies, expected);
            }
            running.stop();
            let sent = *echo.sent.lock().unwrap();
            assert_eq!(sent, Sent { replies: 320, ..Sent::default() });
            assert!(echo.batches.load(Ordering::Relaxed) <= 320);
        }
    }
}

/// The queries wait in the socket before the worker starts, so all of them are in one batch.
#[cfg(target_os = "linux")]
#[test]
fn replies_leave_from_the_address_that_the_query_was_sent_to() {
    for (wildcard, local, asked) in [
        ("0.0.0.0:0", "127.0.0.1", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
        ("[::]:0", "::1", &["::1"]),
    ] {
        let sockets = UdpSockets::bind(wildcard.parse().unwrap(), 1, UdpLoop::Auto).unwrap();
        let port = sockets.address.port();
        let client = client(local);
        let asked: Vec<IpAddr> = asked.iter().map(|address| address.parse().unwrap()).collect();
        let asked: Vec<_> = asked.into_iter().cycle().take(12).enumerate().collect();
        for (number, address) in &asked {
            client.send_to(&[*number as u8, 0], (*address, port)).unwrap();
        }
        let echo = Echo::default();
        let responder = echo.clone();
        let running = UdpWorkers::start(vec![sockets], move || responder.clone()).unwrap();
        let replies: HashSet<_> = asked.iter().map(|_| receive(&client)).collect();
        let expected =
            asked.iter().map(|(number, address)| (vec![*number as u8, 0xff], (*address, port).into()));
        assert_eq!(replies, expected.collect());
        running.stop();
        assert_eq!(echo.batches.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn too_long_datagram_gets_formerr_and_other_queries_get_their_replies() {
    for udp_loop in LOOPS {
        let (running, address, echo) = start("127.0.0.1:0", 1, udp_loop);
        let client = client("127.0.0.1");
        let mut long = vec![0; QUERY_OCTETS_MAX + 1];
        long[..6].copy_from_slice(&[0xab, 0xcd, 1, 0, 0, 1]);
        client.send_to(&long, address).unwrap();
        assert_eq!(receive(&client).0, [0xab, 0xcd, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        long[2] |= 0x80;
        client.send_to(&long, address).unwrap();
        client.send_to(b"next", address).unwrap();
        assert_eq!(receive(&client).0, b"nex\x8b");
        running.stop();
        assert_eq!(*echo.sent.lock().unwrap(), Sent { replies: 2, ignored: 1, too_long: 1, errors: 0 });
    }
}

#[test]
fn query_of_the_longest_permitted_length_is_received_whole() {
    struct Length;
    impl Respond for Length {
        fn respond(&mut self, batch: &mut Batch) {
            for mut exchange in batch.exchanges() {
                exchange.out[..2].copy_from_slice(&(exchange.query.len() as u16).to_be_bytes());
                exchange.reply(2);
            }
        }
    }
    for udp_loop in LOOPS {
        let sockets = UdpSockets::bind("127.0.0.1:0".parse().unwrap(), 1, udp_loop).unwrap();
        let address = sockets.address;
        let running = UdpWorkers::start(vec![sockets], || Length).unwrap();
        let client = client("127.0.0.1");
        for len in [QUERY_OCTETS_MAX, 0, 1] {
            client.send_to(&vec![0; len], address).unwrap();
            assert_eq!(receive(&client).0, (len as u16).to_be_bytes());
        }
        running.stop();
    }
}

#[test]
fn query_without_a_reply_from_the_responder_gets_none() {
    struct Even;
    impl Respond for Even {
        fn respond(&mut self, batch: &mut Batch) {
            for mut exchange in batch.exchanges().filter(|exchange| exchange.query[0] % 2 == 0) {
                exchange.out[0] = exchange.query[0];
                exchange.reply(1);
            }
        }
    }
    let sockets = UdpSockets::bind("127.0.0.1:0".parse().unwrap(), 1, UdpLoop::Auto).unwrap();
    let (address, client) = (sockets.address, client("127.0.0.1"));
    (0..10).for_each(|number| assert_eq!(client.send_to(&[number], address).unwrap(), 1));
    let running = UdpWorkers::start(vec![sockets], || Even).unwrap();
    let replies: Vec<_> = (0..5).map(|_| receive(&client).0[0]).collect();
    assert_eq!(replies, [0, 2, 4, 6, 8]);
    running.stop();
}

#[test]
fn panic_of_a_responder_loses_only_its_batch() {
    let (running, address, _) = start("127.0.0.1:0", 1, UdpLoop::Auto);
    let client = client("127.0.0.1");
    client.send_to(b"panic", address).unwrap();
    // The next query may be in the batch that the panic loses, so it is sent until it is answered.
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 8];
    loop {
        client.send_to(b"next", address).unwrap();
        match client.recv_from(&mut buffer) {
            Ok((len, _)) => break assert_eq!(&buffer[..len], b"nex\x8b"),
            Err(_) => assert!(Instant::now() < end, "no reply"),
        }
    }
    running.stop();
}

/// Sockets that share a port among themselves must not let another server join them.
#[test]
fn port_of_another_server_is_in_use() {
    for workers in [1, 2] {
        let first = UdpSockets::bind("127.0.0.1:0".parse().unwrap(), workers, UdpLoop::Auto).unwrap();
        for (address, workers, udp_loop) in [
            (first.address, 1, UdpLoop::Auto),
            (first.address, 2, UdpLoop::Auto),
            (first.address, 1, UdpLoop::Portable),
            (SocketAddr::from(([0, 0, 0, 0], first.address.port())), 2, UdpLoop::Auto),
        ] {
            let refused = UdpSockets::bind(address, workers, udp_loop).err().unwrap();
            assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        }
        let address = first.address;
        drop(first);
        UdpSockets::bind(address, 2, UdpLoop::Auto).unwrap();
    }
}

#[test]
fn wildcards_of_both_families_share_a_port() {
    let v4 = UdpSockets::bind("0.0.0.0:0".parse().unwrap(), 2, UdpLoop::Auto).unwrap();
    UdpSockets::bind(format!("[::]:{}", v4.address.port()).parse().unwrap(), 2, UdpLoop::Auto).unwrap();
}
