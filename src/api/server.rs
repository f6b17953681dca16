//! The HTTP server of the API: accepts connections up to a limit, closes idle ones for new ones, and shuts down.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};

use crate::registry::{OtherServers, Registry};

use super::activity::Activity;
use super::connection::serve_connection;
use super::limits::Limits;
use super::metrics::ApiMetrics;
use super::request::Api;
use super::webhook::AlertLabels;

/// Time that running requests have to finish after the shutdown began.
const DRAIN_TIMEOUT_MS: u64 = 5_000;

/// Shortest idle time after which a connection is closed for a new one. The next request of an active client may be on
/// its way, and would be lost.
const IDLE_MS_MIN: u64 = 500;

/// Interval between searches for an idle connection to close while a new client waits.
const ROOM_INTERVAL_MS: u64 = 100;

/// Pause after `accept` failed. It fails again at once while the process has no free file descriptors.
const ACCEPT_PAUSE_MS: u64 = 50;

const ACCEPT_WARNING_MS: u64 = 10_000;

/// Options of the API's server. `webhook` has the labels by which alerts are matched with instances; without it, the webhook is
/// off. `server_id` distinguishes this process from the `others`, which are the servers of a shared store. `knows_pods` returns true once all
/// pods of the cluster are known; `None` without a cluster.
#[derive(Default)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Options {
    pub limits: Limits,
    pub webhook: Option<AlertLabels>,
    pub server_id: String,
    pub others: Option<Arc<dyn OtherServers>>,
    pub knows_pods: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

/// Serves the API until `shutdown` completes. Then it accepts no more connections, closes idle ones, and gives running requests
/// five seconds to finish.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    options: Options,
    metrics: Arc<ApiMetrics>,
    shutdown: impl Future<Output = ()>,
) {
    let limits = options.limits;
    let api = Arc::new(Api::new(registry, options, metrics));
    let router = Router::new().fallback(handle).with_state(api.clone());
    let mut connections = Connections::default();
    let mut accept_errors = AcceptErrors::default();
    let mut shutdown = pin!(shutdown);
    loop {
        let next = async {
            let accepted = listener.accept().await;
            if accepted.is_ok() {
                connections.make_room(limits.connections_max.max(1)).await;
            }
            accepted
        };
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = next => accepted,
        };
        match accepted {
            Ok((stream, _)) => connections.serve(stream, router.clone(), limits),
            Err(error) => {
                if let Some(count) = accept_errors.record(Instant::now()) {
                    tracing::warn!(%error, count, "API: connections could not be accepted");
                }
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(listener);
    api.closing.send_replace(true);
    connections.end().await;
}

async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    api.handle(request).await
}

#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// Activity of each connection, without those that have been asked to close.
    activities: HashMap<Id, Arc<Activity>>,
}

impl Connections {
    fn serve(&mut self, stream: TcpStream, router: Router, limits: Limits) {
        let activity = Arc::new(Activity::new());
        let task = self.tasks.spawn(serve_connection(stream, router, limits, activity.clone()));
        self.activities.insert(task.id(), activity);
    }

    /// Waits until there are fewer than `connections_max` connections, and closes the longest-idle ones for that.
    async fn make_room(&mut self, connections_max: usize) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended);
        }
        while self.tasks.len() >= connections_max {
            self.end_longest_idle();
            tokio::select! {
                ended = self.tasks.join_next_with_id() => {
                    if let Some(ended) = ended {
                        self.forget(ended);
                    }
                }
                () = sleep(Duration::from_millis(ROOM_INTERVAL_MS)) => {}
            }
        }
    }

    fn forget(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => error.id(),
        };
        self.activities.remove(&id);
    }

    fn end_longest_idle(&mut self) {
        let idle = self.activities.iter().filter_map(|(id, activity)| Some((activity.idle_time()?, *id)));
        let longest = idle.max_by_key(|(idle, _)| *idle);
        let Some((_, id)) = longest.filter(|(idle, _)| *idle >= Duration::from_millis(IDLE_MS_MIN)) else {
            return;
        };
        if let Some(activity) = self.activities.remove(&id) {
            tracing::debug!("API: an idle connection is closed for a new one");
            activity.end();
        }
    }

    async fn end(mut self) {
        for activity in self.activities.values() {
            activity.end();
        }
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(Duration::from_millis(DRAIN_TIMEOUT_MS), drained).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                "API: requests did not finish before the shutdown and were cut off"
            );
        }
    }
}

#[derive(Default)]
struct AcceptErrors {
    count: u64,
    warned: Option<Instant>,
}

impl AcceptErrors {
    /// Counts a failure. Returns the number of failures since the last warning when the next one is due.
    fn record(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let due = self.warned.is_none_or(|warned| now - warned >= Duration::from_millis(ACCEPT_WARNING_MS));
        due.then(|| {
            self.warned = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
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
        let options = Options { limits, ..Options::default() };
        let task = tokio::spawn(serve(listener, registry(), options, Arc::default(), async {
            let _ = stopped.await;
        }));
        Server { address, stop, task }
    }

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

        fn answer(&mut self) -> (u16, String) {
            let mut bytes = Vec::new();
            let mut byte = [0];
            while !bytes.ends_with(b"\r\n\r\n") {
                self.0.read_exact(&mut byte).unwrap();
                bytes.push(byte[0]);
            }
            let head = String::from_utf8(bytes).unwrap();
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
    async fn a_connection_serves_several_requests() {
        let server = server(Limits::default()).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            let good = (200, r#"{"Namespaces":[]}"#.to_string());
            client.send(&post("{}"));
            assert_eq!(client.answer(), good);
            client.send(&format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n1\r\n}}\r\n0\r\n\r\n"));
            assert_eq!(client.answer(), good);
            // Two pipelined requests are answered in their order.
            client.send(&(post("{}") + &post("[]")));
            assert_eq!(client.answer(), good);
            assert_eq!(client.answer().0, 400);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_that_are_too_large_or_too_slow_are_refused() {
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
            // The server read the rest of the body, and then closed the connection.
            assert_eq!(client.0.read(&mut [0]).unwrap(), 0);

            // The client writes more than sockets buffer before it reads, with a declared length and in chunks.
            let large = " ".repeat(20 << 20);
            let mut client = Client::connect(address);
            client.send(&post(&large));
            assert_eq!(client.answer().0, 413);
            assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
            let mut client = Client::connect(address);
            client.send(&format!(
                "{HEAD}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
                large.len()
            ));
            assert_eq!(client.answer().0, 413);
            assert_eq!(client.0.read(&mut [0]).unwrap(), 0);

            // Declared bodies of which nothing is sent, and more than the server discards.
            let mut client = Client::connect(address);
            client.send(&format!("{HEAD}Content-Length: 1000000000000\r\n\r\n"));
            assert_eq!(client.answer().0, 413);
            assert!(client.is_closed());
            let mut client = Client::connect(address);
            client.send(&format!("{HEAD}Content-Length: 1000000000000\r\n\r\n"));
            let mut sent = 0;
            while let Ok(()) = client.0.write_all(large.as_bytes()) {
                sent += large.len();
                assert!(sent < 1 << 30);
            }

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

    /// Registers instances until the answer to `DISCOVER` has eight megabytes, more than sockets buffer.
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

    /// A client that has asked for eight megabytes and does not read them.
    fn stalled_client(address: SocketAddr) -> Client {
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
            answer_bytes_in_flight_max: 10 << 20,
            request_timeout_ms: 300,
            write_stall_ms: 60_000,
            ..Limits::default()
        };
        let server = server(limits).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            fill(&mut client);
            let stalled = stalled_client(address);
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
            // Small answers are not affected, and large ones are sent again once the budget has room.
            client.send(&post("{}"));
            assert_eq!(client.answer().0, 200);
            drop(stalled);
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
            Limits { answer_bytes_in_flight_max: 10 << 20, write_stall_ms: 300, ..Limits::default() };
        let server = server(limits).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut client = Client::connect(address);
            fill(&mut client);
            let mut stalled = stalled_client(address);
            // This client holds the whole budget, so the next large answer is sent after it has been cut off.
            assert_eq!(stalled.0.peek(&mut [0]).unwrap(), 1);
            client.send(&call("DiscoverInstances", DISCOVER));
            let (status, body) = client.answer();
            assert_eq!(status, 200);
            assert!(body.len() > 8_000_000);
            let mut rest = Vec::new();
            let _ = stalled.0.read_to_end(&mut rest);
            assert!(rest.len() < body.len());
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn connections_beyond_the_limit_wait_while_all_are_busy() {
        let server = server(Limits { connections_max: 1, ..Limits::default() }).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut first = Client::connect(address);
            first.send(&format!("{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
            assert_eq!(first.answer().0, 100);
            let mut second = Client::connect(address);
            second.send(&post("{}"));
            second.0.set_read_timeout(Some(Duration::from_millis(IDLE_MS_MIN + 300))).unwrap();
            assert!(second.0.read(&mut [0]).is_err());
            second.0.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            first.send("{}");
            assert_eq!(first.answer().0, 200);
            drop(first);
            assert_eq!(second.answer().0, 200);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_longest_idle_connection_makes_room_for_a_new_one() {
        let server = server(Limits { connections_max: 3, ..Limits::default() }).await;
        let address = server.address;
        spawn_blocking(move || {
            let mut silent = Client::connect(address);
            let [mut older, mut newer] = [(); 2].map(|()| Client::connect(address));
            for client in [&mut older, &mut newer] {
                client.send(&post("{}"));
                assert_eq!(client.answer().0, 200);
            }
            let mut more = [(); 2].map(|()| Client::connect(address));
            for client in &mut more {
                client.send(&post("{}"));
                assert_eq!(client.answer().0, 200);
            }
            assert!(silent.is_closed());
            assert!(older.is_closed());
            newer.send(&post("{}"));
            assert_eq!(newer.answer().0, 200);
        })
        .await
        .unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_first_request_of_a_connection_has_the_short_timeout() {
        let server = server(Limits { first_header_timeout_ms: 300, ..Limits::default() }).await;
        let address = server.address;
        spawn_blocking(move || {
            let [mut silent, mut slow, mut served] = [(); 3].map(|()| Client::connect(address));
            served.send(&post("{}"));
            assert_eq!(served.answer().0, 200);
            slow.send("POST / HT");
            assert!(silent.is_closed());
            assert!(slow.is_closed());
            served.send(&post("{}"));
            assert_eq!(served.answer().0, 200);
        })
        .await
        .unwrap();
    }

    #[test]
    fn warnings_about_accept_errors_are_rate_limited() {
        let mut errors = AcceptErrors::default();
        let now = Instant::now();
        assert_eq!(errors.record(now), Some(1));
        assert_eq!(errors.record(now), None);
        assert_eq!(errors.record(now + Duration::from_millis(ACCEPT_WARNING_MS)), Some(2));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn shutdown_closes_idle_connections_and_finishes_requests() {
        let Server { address, stop, task } = server(Limits::default()).await;
        let clients = spawn_blocking(move || {
            let [mut idle, mut busy] = [(); 2].map(|()| Client::connect(address));
            for client in [&mut idle, &mut busy] {
                client.send(&post("{}"));
                assert_eq!(client.answer().0, 200);
            }
            busy.send(&format!("{HEAD}Content-Length: 2\r\nExpect: 100-continue\r\n\r\n"));
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
