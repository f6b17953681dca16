//! Shared parts of the benches: the world, a server process, an HTTP connection, percentiles.

pub(crate) mod process;
pub(crate) mod udp_load;
pub(crate) mod workload;
pub(crate) mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("cloudmap-dns-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A directory that could not be removed is below the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) struct Server {
    process: Child,
    pub(crate) dns: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts the program and returns once it has logged `ready`. `cpus` is a CPU list to pin it to, as taskset takes it.
    pub(crate) fn start(data: &Path, store: &str, cpus: Option<&str>, more: &[&str]) -> Server {
        let program = env!("CARGO_BIN_EXE_cloudmap-dns");
        let mut command = match cpus {
            Some(cpus) => {
                let mut taskset = Command::new("taskset");
                taskset.args(["-c", cpus, program]);
                taskset
            }
            None => Command::new(program),
        };
        command.args(["serve", "--dns", "127.0.0.1:0", "--api", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--log-format", "json", "--store", store, "--data-dir"]).arg(data).args(more);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(process.stderr.take().expect("stderr is piped")).lines();
        let (mut dns, mut api, mut admin) = (None, None, None);
        for line in lines.by_ref() {
            let line = line.expect("the log is text");
            let log: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not a log line: {line}"));
            let field = |name: &str| log["fields"][name].as_str().unwrap_or_default().to_string();
            match (field("message").as_str(), field("service").as_str()) {
                ("listening", "dns") => dns = field("address").parse().ok(),
                ("listening", "api") => api = field("address").parse().ok(),
                ("listening", "admin") => admin = field("address").parse().ok(),
                ("ready", _) => break,
                _ => {}
            }
        }
        // Keep reading the pipe: the server would block when it is full.
        std::thread::spawn(move || lines.for_each(drop));
        Server {
            process,
            dns: dns.expect("a DNS address"),
            api: api.expect("an API address"),
            admin: admin.expect("an admin address"),
        }
    }

    /// Starts the program on CPU 0 with one worker of this loop, and a world of this size in a store below `scratch`.
    pub(crate) fn start_with_one_worker(scratch: &Scratch, size: world::Size, udp_loop: &str) -> Server {
        let data = scratch.0.join(format!("{}-{udp_loop}", size.services()));
        world::write_store(size, &data);
        Server::start(&data, "embedded", Some("0"), &["--workers", "1", "--udp-loop", udp_loop])
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn zone_file(&self, zone: &str) -> String {
        let program = env!("CARGO_BIN_EXE_cloudmap-dns");
        let output = Command::new(program)
            .args(["zone", zone, "--admin", &self.admin.to_string()])
            .output()
            .expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("zone files are text")
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Peak of the resident memory since the start or the last [`Server::reset_peak`], in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Resets the peak to the memory that is resident now (proc(5): writing 5 to `clear_refs`).
    pub(crate) fn reset_peak(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("procfs");
    }

    fn status_bytes(&self, name: &str) -> u64 {
        process::status_bytes(self.process.id(), name)
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("procfs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().filter_map(|field| field.parse::<f64>().ok()).sum();
        ticks / 100.0
    }

    pub(crate) fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin port listens");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .expect("a request is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("metrics are text");
        text
    }

    pub(crate) fn connect(&self) -> Http {
        let stream = TcpStream::connect(self.api).expect("the API listens");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Http { stream, buffer: Vec::new() }
    }

    pub(crate) fn ask(&self, name: &str) -> Vec<[u8; 4]> {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        socket.connect(self.dns).expect("the DNS address");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        socket.send(&query(name)).expect("a query is sent");
        let mut reply = [0; 4096];
        let len = socket.recv(&mut reply).expect("a reply");
        addresses(&reply[..len])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    query
}

/// The addresses in the answer section of a reply, all of whose records have to be A records.
pub(crate) fn addresses(reply: &[u8]) -> Vec<[u8; 4]> {
    let skip_name = |mut at: usize| loop {
        match reply[at] {
            0 => return at + 1,
            len if len >= 0xc0 => return at + 2,
            len => at += 1 + len as usize,
        }
    };
    let mut at = skip_name(12) + 4;
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    (0..count)
        .map(|_| {
            let rdata = skip_name(at) + 10;
            at = rdata + 4;
            [reply[rdata], reply[rdata + 1], reply[rdata + 2], reply[rdata + 3]]
        })
        .collect()
}

pub(crate) struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Http {
    pub(crate) fn call(&mut self, operation: &str, body: &str) -> (u16, String) {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: Route53AutoNaming_v20170314.{operation}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).expect("the request is sent");
        self.buffer.clear();
        let mut chunk = [0; 16 * 1024];
        loop {
            let len = self.stream.read(&mut chunk).expect("a response");
            assert!(len > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&chunk[..len]);
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|length| length.trim().parse().ok())
                .expect("a length");
            if self.buffer.len() >= end + 4 + length {
                let status = head[9..12].parse().expect("a status");
                return (status, String::from_utf8_lossy(&self.buffer[end + 4..]).into_owned());
            }
        }
    }

    pub(crate) fn done(&mut self, operation: &str, body: &str) -> serde_json::Value {
        let (status, text) = self.call(operation, body);
        assert_eq!(status, 200, "{operation}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }
}

pub(crate) fn option(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| {
        argument.strip_prefix("--")?.strip_prefix(name)?.strip_prefix('=').map(str::to_string)
    })
}

pub(crate) fn number_option(name: &str, default: u64) -> u64 {
    option(name)
        .map_or(default, |number| number.parse().unwrap_or_else(|_| panic!("--{name} takes a number")))
}

pub(crate) fn percentile(sorted: &[Duration], percent: f64) -> f64 {
    sorted[rank(sorted.len(), percent)].as_nanos() as f64 / 1000.0
}

pub(crate) fn median(values: &[f64]) -> f64 {
    at_percent(values, 50.0)
}

pub(crate) fn at_percent(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[rank(sorted.len(), percent)]
}

fn rank(count: usize, percent: f64) -> usize {
    ((count - 1) as f64 * percent / 100.0).round() as usize
}

/// Runs `work` in as many threads as there are clients. Each call gets the client's number and a function that is true until
/// the time is over. Returns the sum of what the calls returned, and the seconds that it took.
pub(crate) fn load(
    clients: usize,
    seconds: f64,
    work: impl Fn(usize, &mut dyn FnMut() -> bool) -> u64 + Sync,
) -> (u64, f64) {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let total = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|client| {
                let work = &work;
                scope.spawn(move || work(client, &mut || Instant::now() < end))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).sum()
    });
    (total, start.elapsed().as_secs_f64())
}
