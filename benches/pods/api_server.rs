//! A fake API server: lists in pages and watches over HTTP/1.1, of the fleet's pods and nothing else.
//!
//! It is written by hand because the bench has to know the moment at which an event is written to the socket.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::{Duration, Instant};

use super::fleet::Fleet;

/// Seconds within which the server has to request a new watch after the old one has ended.
const NEXT_WATCH_SECONDS_MAX: u64 = 20;
/// Selector of the fleet's pods. The server has a second selector, which matches no pod.
const SELECTOR: &str = "labelSelector=kecs.dev%2Fmanaged-by%3Dkecs";
const WATCH_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The watch event that the API server sends when the requested resource version is too old.
const EXPIRED: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}
"#;

/// The API server. It listens from the beginning, and answers requests after [`ApiServer::open`] was called.
pub(crate) struct ApiServer {
    pub(crate) address: SocketAddr,
    pub(crate) fleet: Arc<Mutex<Fleet>>,
    listener: Option<TcpListener>,
    watch_sender: mpsc::Sender<Watch>,
    watches: mpsc::Receiver<Watch>,
}

/// An open watch: a request whose response has not ended. `ended` resumes the thread that reads the connection.
pub(crate) struct Watch {
    stream: TcpStream,
    ends: Instant,
    chunk: Vec<u8>,
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

    /// Answers the requests that are waiting and all later ones, each connection in a thread of its own.
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

    pub(crate) fn watch(&self) -> Watch {
        let wait = Duration::from_secs(NEXT_WATCH_SECONDS_MAX);
        self.watches.recv_timeout(wait).expect("the server asks for a watch")
    }
}

impl Watch {
    pub(crate) fn is_over(&self) -> bool {
        Instant::now() >= self.ends
    }

    /// Writes an event. When this returns, the kernel has all of the event.
    pub(crate) fn send(&mut self, event: &[u8]) {
        self.chunk.clear();
        write!(self.chunk, "{:x}\r\n", event.len()).expect("writing to memory");
        self.chunk.extend_from_slice(event);
        self.chunk.extend_from_slice(b"\r\n");
        self.stream.write_all(&self.chunk).expect("the server reads its watch");
    }

    /// Ends the response regularly, as the API server does after `timeoutSeconds`.
    pub(crate) fn end(mut self) {
        self.stream.write_all(b"0\r\n\r\n").expect("the server reads its watch");
        // The connection may be closed, and its thread ended.
        let _ = self.ended.send(());
    }

    /// Ends the watch with status 410 (Gone), so that the server has to list again.
    pub(crate) fn expire(mut self) {
        self.send(EXPIRED);
        self.end();
    }
}

fn serve(mut stream: TcpStream, fleet: &Mutex<Fleet>, watches: &mpsc::Sender<Watch>) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    while let Some(target) = request(&mut reader) {
        let Some(query) = target.strip_prefix("/api/v1/pods?") else {
            panic!("unexpected request: {target}")
        };
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
                // The client sends its next request on this connection after the watch has ended.
                if end.recv().is_err() {
                    return;
                }
                sent
            } else {
                std::thread::sleep(seconds);
                sent.and_then(|()| stream.write_all(b"0\r\n\r\n"))
            }
        } else {
            let limit = number("limit").expect("lists come in pages");
            let page = if has_pods {
                fleet.lock().expect("no panic").page(number("continue").unwrap_or(0), limit)
            } else {
                br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#
                    .to_vec()
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

/// Reads the next request and returns its target, or `None` when the connection is closed.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = Vec::<String>::new();
    loop {
        let mut line = String::new();
        // A reset of the connection happens when the server is killed.
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
