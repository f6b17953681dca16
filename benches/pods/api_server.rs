//! What stands for the API server: lists in pages and watches, over HTTP/1.1, of the fleet's pods and nothing else.
//!
//! It is written by hand because the moment at which an event is written to the socket is what the bench measures from.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use super::fleet::Fleet;

/// How long the server may take to ask for a new watch, in seconds.
const NEXT_WATCH_SECONDS_MAX: u64 = 20;
/// The selector of the pods that there are; of the other one there are none.
const SELECTOR: &str = "labelSelector=kecs.dev%2Fmanaged-by%3Dkecs";
/// How the answer to a watch begins.
const WATCH_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
/// What a watch is told that asks for something too old.
const EXPIRED: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}
"#;

/// The API server. It listens at once and answers when it is opened.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Arc<Mutex<Fleet>>,
    listener: Option<TcpListener>,
    watch_sender: mpsc::Sender<Watch>,
    watches: mpsc::Receiver<Watch>,
}

/// A watch that is under way: a request whose answer has not ended.
pub(crate) struct Watch {
    stream: TcpStream,
    ends: Instant,
    chunk: Vec<u8>,
    /// Lets the connection be read again.
    ended: mpsc::Sender<()>,
}

impl ApiServer {
    pub(crate) fn bind(fleet: Fleet) -> ApiServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (watch_sender, watches) = mpsc::channel();
        ApiServer {
            address,
            fleet: Arc::new(Mutex::new(fleet)),
            listener: Some(listener),
            watch_sender,
            watches,
        }
    }

    /// Answers what was asked until now and what is asked from now on, each connection in a thread.
    pub(crate) fn open(&mut self) {
        let listener = self.listener.take().expect("it is opened once");
        let (fleet, watches) = (self.fleet.clone(), self.watch_sender.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (fleet, watches) = (fleet.clone(), watches.clone());
                let stream = stream.expect("a connection");
                std::thread::spawn(move || serve(stream, &fleet, &watches));
            }
        });
    }

    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().expect("no panic")
    }

    /// The watch that the server has asked for.
    pub(crate) fn watch(&self) -> Watch {
        let wait = Duration::from_secs(NEXT_WATCH_SECONDS_MAX);
        self.watches.recv_timeout(wait).expect("the server asks for a watch")
    }
}

impl Watch {
    /// Whether the time that was asked for is over.
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Writes an event. When it returns, the kernel has all of it.
    pub(crate) fn send(&mut self, event: &[u8]) {
        self.chunk.clear();
        write!(self.chunk, "{:x}\r\n", event.len()).expect("memory takes it");
        self.chunk.extend_from_slice(event);
        self.chunk.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.chunk).expect("the server reads its watch");
    }

    /// Ends it in order.
    pub(crate) fn end(mut self) {
        self.stream.write_all(b"0\r\n\r\n").expect("the server reads its watch");
        // The connection may be gone by now.
        let _ = self.ended.send(());
    }

    /// Ends it with the news that its resource version is too old: the server has to list again.
    pub(crate) fn expire(mut self) {
        self.send(EXPIRED);
        self.end();
    }
}

/// Serves one connection as long as it is there.
fn serve(mut stream: TcpStream, fleet: &Mutex<Fleet>, watches: &mpsc::Sender<Watch>) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    while let Some(target) = request(&mut reader) {
        let Some(query) = target.strip_prefix("/api/v1/pods?") else { panic!("nobody asks for {target}") };
        let parameter =
            |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| parameter(name).map(|text| text.parse::<usize>().expect("a number"));
        let has_pods = query.split('&').any(|pair| pair == SELECTOR);
        assert_eq!(parameter("sendInitialEvents"), None, "lists come in pages");
        let sent = if parameter("watch") == Some("true") {
            let seconds = Duration::from_secs(number("timeoutSeconds").expect("an end") as u64);
            let sent = stream.write_all(WATCH_HEAD);
            if has_pods {
                let (ended, end) = mpsc::channel();
                let stream = stream.try_clone().expect("a socket");
                let watch = Watch { stream, ends: Instant::now() + seconds, chunk: Vec::new(), ended };
                watches.send(watch).expect("the bench goes on");
                // The next request comes after the end.
                if end.recv().is_err() {
                    return;
                }
                sent
            } else {
                // Nothing happens in it.
                std::thread::sleep(seconds);
                sent.and_then(|()| stream.write_all(b"0\r\n\r\n"))
            }
        } else {
            let limit = number("limit").expect("lists come in pages");
            let page = match has_pods {
                true => fleet.lock().expect("no panic").page(number("continue").unwrap_or(0), limit),
                false => {
                    br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#
                        .to_vec()
                }
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                page.len()
            );
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&page))
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The target of the next request; nothing when the connection has ended.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::<String>::new();
    loop {
        let mut line = String::new();
        // A server that is killed resets its connections.
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_string()),
        }
    }
    let target = head.first()?.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    Some(target.to_string())
}
