//! Other DNS servers, with the same zone and one worker each.
//!
//! `benches/peers` installs their programs into one directory; a peer that is missing there is left out of the comparison.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::option;
use crate::support::process::ProcessTree;

const DIRECTORY_OPTION: &str = "peers";
const START_SECONDS_MAX: u64 = 30;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    Nsd,
    /// NSD with `minimal-responses: no`, the only setting with which it sends additional records.
    NsdFull,
    Knot,
    CoreDns,
    Hickory,
}

impl Peer {
    pub(crate) const ALL: [Peer; 5] = [Peer::Nsd, Peer::NsdFull, Peer::Knot, Peer::CoreDns, Peer::Hickory];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Peer::Nsd => "NSD",
            Peer::NsdFull => "NSD, full responses",
            Peer::Knot => "Knot DNS",
            Peer::CoreDns => "CoreDNS",
            Peer::Hickory => "hickory-dns",
        }
    }

    pub(crate) fn program_name(self) -> &'static str {
        match self {
            Peer::Nsd | Peer::NsdFull => "nsd",
            Peer::Knot => "knotd",
            Peer::CoreDns => "coredns",
            Peer::Hickory => "hickory-dns",
        }
    }

    pub(crate) fn program(self) -> Option<PathBuf> {
        let program = Path::new(&option(DIRECTORY_OPTION)?).join(self.program_name());
        program.exists().then_some(program)
    }

    pub(crate) fn version(self, program: &Path) -> String {
        let flag = match self {
            Peer::Nsd | Peer::NsdFull => "-v",
            Peer::Knot => "-VV",
            Peer::CoreDns => "-version",
            Peer::Hickory => "--version",
        };
        let output = Command::new(program).arg(flag).output().expect("the peer runs");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let is_relevant = |line: &&str| {
            let starts = ["NSD version", "Configure", "knotd", "CoreDNS", "linux/", "Hickory"];
            starts.iter().any(|start| line.starts_with(start))
        };
        let words = text.lines().filter(is_relevant).flat_map(str::split_whitespace);
        // The install path is left out: it says only something about this machine.
        words.filter(|word| !word.contains("--prefix=")).collect::<Vec<_>>().join(" ")
    }

    /// Name and content of the configuration file: one worker, nothing on disk but the zone, no rate limit, minimal answers.
    fn settings(self, zone: &str, directory: &Path, port: u16) -> (&'static str, String) {
        let here = directory.display();
        match self {
            Peer::Nsd | Peer::NsdFull => (
                "nsd.conf",
                format!(
                    "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
                     zonesdir: \"{here}\"\n  pidfile: \"{here}/nsd.pid\"\n  xfrdfile: \"{here}/xfrd.state\"\n  \
                     xfrdir: \"{here}\"\n  zonelistfile: \"{here}/zone.list\"\n  minimal-responses: {}\n  \
                     verbosity: 0\nremote-control:\n  control-enable: no\nzone:\n  name: {zone}\n  \
                     zonefile: {zone}.zone\n",
                    if self == Peer::Nsd { "yes" } else { "no" },
                ),
            ),
            Peer::Knot => (
                "knot.conf",
                format!(
                    "server:\n  rundir: {here}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
                     background-workers: 1\nlog:\n  - target: stderr\n    any: warning\ndatabase:\n  \
                     storage: {here}\nzone:\n  - domain: {zone}\n    storage: {here}\n    file: {zone}.zone\n    \
                     zonefile-sync: -1\n    journal-content: none\n"
                ),
            ),
            Peer::CoreDns => (
                "Corefile",
                format!(
                    "{zone}:{port} {{\n  bind 127.0.0.1\n  file {here}/{zone}.zone {{\n    reload 0\n  }}\n}}\n"
                ),
            ),
            Peer::Hickory => (
                "hickory.toml",
                format!(
                    "listen_addrs_ipv4 = [\"127.0.0.1\"]\nlisten_port = {port}\ndirectory = \"{here}\"\n\
                     drop_privileges = false\n[[zones]]\nzone = \"{zone}\"\nzone_type = \"Primary\"\nfile = \"{zone}.zone\"\n"
                ),
            ),
        }
    }

    fn command(self, program: &Path, settings: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program);
        match self {
            Peer::Nsd | Peer::NsdFull => command.args(["-d", "-c"]).arg(settings),
            Peer::Knot => command.arg("-c").arg(settings),
            Peer::CoreDns => command.env("GOMAXPROCS", "1").arg("-quiet").arg("-conf").arg(settings),
            Peer::Hickory => command.args(["--quiet", "--workers", "1", "-c"]).arg(settings),
        };
        command
    }

    /// Starts the peer on CPU 0, with the zone in a directory of its own, and waits until it answers.
    pub(crate) fn start(self, program: &Path, zone: &str, zone_file: &str, directory: &Path) -> RunningPeer {
        std::fs::create_dir_all(directory).expect("a directory");
        std::fs::write(directory.join(format!("{zone}.zone")), zone_file).expect("the zone is written");
        let free =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let (name, settings) = self.settings(zone, directory, free.port());
        let path = directory.join(name);
        std::fs::write(&path, &settings).expect("the settings are written");
        let log = std::fs::File::create(directory.join("log")).expect("a log file");
        let mut command = self.command(program, &path);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log).process_group(0);
        let process = command.spawn().expect("the peer starts");
        let peer = RunningPeer { process, address: free };
        peer.wait_until_it_serves(zone, directory);
        peer
    }
}

pub(crate) struct RunningPeer {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl RunningPeer {
    pub(crate) fn tree(&self) -> ProcessTree {
        ProcessTree::of(self.process.id())
    }

    fn wait_until_it_serves(&self, zone: &str, directory: &Path) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a UDP socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let query = crate::support::query(zone);
        let end = Instant::now() + Duration::from_secs(START_SECONDS_MAX);
        while Instant::now() < end {
            let mut reply = [0; 512];
            let sent = socket.send_to(&query, self.address);
            // The apex has no A record, so a server that has loaded the zone answers NOERROR without data.
            if sent.is_ok() && socket.recv(&mut reply).is_ok_and(|len| len > 12 && reply[3] & 0x0f == 0) {
                return;
            }
        }
        let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
        panic!("a peer does not serve within {START_SECONDS_MAX} s; its log:\n{log}");
    }
}

impl Drop for RunningPeer {
    fn drop(&mut self) {
        // Kill the process group, which the peer leads, so that its children end too.
        let group = nix::unistd::Pid::from_raw(-(self.process.id() as i32));
        let _ = nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.process.wait();
    }
}
