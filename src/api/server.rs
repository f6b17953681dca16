//! The HTTP server under the API: connections, their limits, and the end.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::registry::Registry;

use super::answers::ANSWER_OCTETS_IN_FLIGHT_MAX;
use super::metrics::ApiMetrics;
use super::request::Api;
use super::stream::Stream;

/// How long a connection may be idle, or take for a request's headers.
const HEADER_TIMEOUT_MS: u64 = 60_000;

/// How long a client may take no octet of its answer.
const WRITE_STALL_MS: u64 = 15_000;

/// How long requests that are under way at the end may take.
const DRAIN_TIMEOUT_MS: u64 = 5_000;

/// The pause after a connection could not be accepted, such as for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

/// The least that HTTP/1 needs for headers.
const HEADER_BYTES_MIN: usize = 8 << 10;

/// What clients may use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Octets of a request's body; more is answered with 413.
    pub body_bytes_max: usize,
    /// Connections at a time; more wait to be accepted.
    pub connections_max: usize,
    /// Milliseconds for a body to arrive, and again for a change to be confirmed.
    pub request_timeout_ms: u64,
    /// Octets of a request's line and headers, at least 8 KiB; twice as much is always answered with 431.
    pub header_bytes_max: usize,
    /// Octets of all answers that clients have not read yet, those up to 16 KiB aside; an answer for which there is
    /// no room waits up to `request_timeout_ms`, then it is 503.
    pub answer_octets_in_flight_max: usize,
    /// Milliseconds in which a client takes no octet of its answer before its connection is cut.
    pub write_stall_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            body_bytes_max: 1 << 20,
            connections_max: 1024,
            request_timeout_ms: 30_000,
            header_bytes_max: 64 << 10,
            answer_octets_in_flight_max: ANSWER_OCTETS_IN_FLIGHT_MAX,
            write_stall_ms: WRITE_STALL_MS,
        }
    }
}

/// Serves the API until `shutdown` ends; then takes no more connections and gives those that are there a
/// few seconds to finish.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    limits: Limits,
    metrics: Arc<ApiMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let api = Arc::new(Api::new(registry, limits, metrics));
    let router = Router::new().fallback(handle).with_state(api);
    let slots = Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        // The ones that ended meanwhile.
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, slot)) => {
                let connection = connection(stream, router.clone(), limits, stopped.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "API: a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    // Nobody listens when there are no connections.
    let _ = stop.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), drained).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "API: requests took too long at the end and were cut off"
        );
    }
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.handle(request).await
}

/// The next connection, once there is a slot for it.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// Serves the requests of one connection, one after the other.
async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    // A connection whose peer is gone fails at the next read.
    let _ = stream.set_nodelay(true);
    let stream = Stream::new(stream, Duration::from_millis(limits.write_stall_ms));
    let requests = AtomicU64::new(0);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        requests.fetch_add(1, Relaxed);
        router.clone().oneshot(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(HEADER_TIMEOUT_MS))
        .max_buf_size(limits.header_bytes_max.max(HEADER_BYTES_MIN))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that does not read its answer would hold its slot for ever.
    let stalled_ms = HEADER_TIMEOUT_MS.saturating_add(limits.request_timeout_ms.saturating_mul(2));
    let mut served = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "API: connection ended");
                }
                return;
            }
            // The sender lives as long as its connections do.
            _ = stopped.wait_for(|stopped| *stopped), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(Duration::from_millis(stalled_ms)) => {
                let count = requests.load(Relaxed);
                if served == Some(count) {
                    tracing::debug!("API: connection stalled");
                    return;
                }
                served = Some(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    use tokio::sync::oneshot;
    use tokio::task::{JoinHandle, spawn_blocking};

    use super::super::tests::registry;
    use super::*;

    const HEAD: &str =
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: Route53AutoNaming_v20170314.ListNamespaces\r\n";

    struct Server {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    async fn server(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, registry(), limits, Arc::default(), async {
            let _ = stopped.await;
        }));
        Server { address, stop, task }
    }

    /// A client that waits for its answers, but not for ever.
    struct Client(TcpStream);

    impl Client {
        fn connect(address: SocketAddr) -> Client {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Client(stream)
        }

        fn send(&mut self, text: &str) {
            self.0.write_all(text.as_bytes()).unwrap();
        }

        /// Status and body of the next answer.
        fn answer(&mut self) -> (u16, String) {
            let mut octets = Vec::new();
            let mut octet = [0];
            while !octets.ends_with(b"\r\n\r\n") {
                self.0.read_exact(&mut octet).unwrap();
                octets.push(octet[0]);
            }
            let head = String::from_utf8(octets).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.0.read_exact(&mut body).unwrap();
            (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
        }

        fn is_closed(&mut self) -> bool {
            matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
        }
    }

    fn post(body: &str) -> String {
        format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_serves_one_request_after_the_other() {
        let server = server(Limits::default()).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            let good = (200, r#"{"Namespaces":[]}"#.to_string());
            client.send(&post("{}"));
            assert_eq!(client.answer(), good);
            client.send(&format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n"));
            assert_eq!(client.answer(), good);
            // Both before the first is answered.
            client.send(&(post("{}") + &post("[]")));
            assert_eq!(client.answer(), good);
            assert_eq!(client.answer().0, 400);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_too_large_or_too_slow_is_refused() {
        let limits = Limits { body_bytes_max: 100, request_timeout_ms: 100, ..Limits::default() };
        let server = server(limits).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            client.send(&post(&" ".repeat(100)));
            assert_eq!(client.answer().0, 200);
            client.send(&post(&" ".repeat(1_000_000)));
            let (status, body) = client.answer();
            assert_eq!(status, 413);
            assert!(body.contains("RequestEntityTooLargeException"), "{body}");
            // Enough was read: the connection goes on.
            client.send(&post("{}"));
            assert_eq!(client.answer().0, 200);
            client.send(&format!("{HEAD}Content-Length: 1000000000000\r\n\r\n"));
            assert_eq!(client.answer().0, 413);

            let mut client = Client::connect(address);
            client.send(&format!("{HEAD}Content-Length: 10\r\n\r\n{{"));
            let (status, body) = client.answer();
            assert_eq!(status, 408);
            assert!(body.contains("RequestTimeoutException"), "{body}");

            let mut client = Client::connect(address);
            client.send(&format!("{HEAD}X: {}\r\n\r\n", "x".repeat(200_000)));
            assert_eq!(client.answer().0, 431);
        })
        .await
        .unwrap();
    }

    fn call(operation: &str, body: &str) -> String {
        post(body).replace("ListNamespaces", operation)
    }

    /// Eight megabytes, more than a socket buffers, for `DISCOVER`.
    fn fill(client: &mut Client) {
        let mut done = |operation: &str, body: &str| {
            client.send(&call(operation, body));
            let (status, answer) = client.answer();
            assert_eq!(status, 200, "{answer}");
            answer
        };
        done("CreateHttpNamespace", r#"{"Name":"n"}"#);
        let deadline = Instant::now() + Duration::from_secs(20);
        let namespace = loop {
            let answer: serde_json::Value = serde_json::from_str(&done("ListNamespaces", "{}")).unwrap();
            if let Some(id) = answer["Namespaces"][0]["Id"].as_str() {
                break id.to_string();
            }
            assert!(Instant::now() < deadline);
        };
        let service = done("CreateService", &format!(r#"{{"Name":"s","NamespaceId":"{namespace}"}}"#));
        let service: serde_json::Value = serde_json::from_str(&service).unwrap();
        let service = service["Service"]["Id"].as_str().unwrap();
        let value = r#"\""#.repeat(990);
        for instance in 0..800 {
            let body = format!(
                r#"{{"ServiceId":"{service}","InstanceId":"i{instance}","Attributes":{{"a":"{value}","b":"{value}","c":"{value}","d":"{value}","e":"{value}"}}}}"#
            );
            done("RegisterInstance", &body);
        }
    }

    const DISCOVER: &str = r#"{"NamespaceName":"n","ServiceName":"s","MaxResults":1000}"#;

    /// A client that asked for eight megabytes and does not read them.
    fn deaf(address: SocketAddr) -> Client {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let mut client = Client(socket.into());
        client.send(&call("DiscoverInstances", DISCOVER));
        client
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn answers_beyond_the_budget_are_refused_in_time() {
        let limits = Limits {
            answer_octets_in_flight_max: 10 << 20,
            request_timeout_ms: 300,
            write_stall_ms: 60_000,
            ..Limits::default()
        };
        let server = server(limits).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            fill(&mut client);
            let deaf = deaf(address);
            let deadline = Instant::now() + Duration::from_secs(20);
            let body = loop {
                client.send(&call("DiscoverInstances", DISCOVER));
                match client.answer() {
                    (503, body) => break body,
                    (status, _) => assert_eq!(status, 200),
                }
                assert!(Instant::now() < deadline);
            };
            assert!(body.contains("ServiceUnavailable"), "{body}");
            // Small answers go on, and large ones once there is room.
            client.send(&post("{}"));
            assert_eq!(client.answer().0, 200);
            drop(deaf);
            loop {
                client.send(&call("DiscoverInstances", DISCOVER));
                if client.answer().0 == 200 {
                    break;
                }
                assert!(Instant::now() < deadline);
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_that_do_not_read_are_cut_off() {
        let limits =
            Limits { answer_octets_in_flight_max: 10 << 20, write_stall_ms: 300, ..Limits::default() };
        let server = server(limits).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            fill(&mut client);
            let mut deaf = [(); 5].map(|()| deaf(address));
            client.send(&call("DiscoverInstances", DISCOVER));
            let (status, body) = client.answer();
            assert_eq!(status, 200);
            assert!(body.len() > 8_000_000);
            // What is left for it ends before its answer does.
            let mut rest = Vec::new();
            let _ = deaf[0].0.read_to_end(&mut rest);
            assert!(rest.len() < body.len());
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_beyond_the_limit_wait_for_a_slot() {
        let server = server(Limits { connections_max: 1, ..Limits::default() }).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut first = Client::connect(address);
            first.send(&post("{}"));
            assert_eq!(first.answer().0, 200);
            let mut second = Client::connect(address);
            second.send(&post("{}"));
            second.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            assert!(second.0.read(&mut [0]).is_err());
            second.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            drop(first);
            assert_eq!(second.answer().0, 200);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn at_the_end_idle_connections_close_and_requests_finish() {
        let Server { address, stop, task } = server(Limits::default()).await;
        let clients = spawn_blocking(move || {
            let [mut idle, mut busy] = [(); 2].map(|()| Client::connect(address));
            for client in [&mut idle, &mut busy] {
                client.send(&post("{}"));
                assert_eq!(client.answer().0, 200);
            }
            busy.send(&format!("{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
            // The server has begun to read the body.
            assert_eq!(busy.answer().0, 100);
            (idle, busy)
        });
        let (mut idle, mut busy) = clients.await.unwrap();
        stop.send(()).unwrap();
        spawn_blocking(move || {
            assert!(idle.is_closed());
            assert!(TcpStream::connect(address).is_err());
            busy.send("{}");
            assert_eq!(busy.answer().0, 200);
            assert!(busy.is_closed());
        })
        .await
        .unwrap();
        task.await.unwrap();
    }
}
