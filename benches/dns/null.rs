//! The null responder: this server's UDP loop, sockets and batches with one fixed reply, into which the query's id is copied.
//!
//! It measures the cost of the kernel and of the loop; the difference to the server's CPU time is the cost of answering. It
//! runs in a process of its own, which is this bench's program started with [`ARGUMENT`].

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use cloudmap_dns::dns::udp::{Batch, Respond, UdpLoop, UdpSockets, UdpWorkers};

use crate::support::process::ProcessTree;

/// First argument of a null responder's process. The reply in hexadecimal digits and the name of the UDP loop follow.
pub(crate) const ARGUMENT: &str = "null-responder";

pub(crate) struct NullResponder {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl NullResponder {
    pub(crate) fn start(reply: &[u8], udp_loop: &str) -> NullResponder {
        let program = std::env::current_exe().expect("the path of this program");
        let digits: String = reply.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(program).args([ARGUMENT, &digits, udp_loop]);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the null responder starts");
        let mut line = String::new();
        let mut output = BufReader::new(process.stdout.take().expect("stdout is piped"));
        output.read_line(&mut line).expect("a line");
        NullResponder { process, address: line.trim().parse().expect("an address") }
    }

    pub(crate) fn tree(&self) -> ProcessTree {
        ProcessTree::of(self.process.id())
    }
}

impl Drop for NullResponder {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the null responder until the bench closes the pipe to its standard input.
pub(crate) fn serve(digits: &str, udp_loop: &str) {
    let udp_loop = if udp_loop == "auto" { UdpLoop::Auto } else { UdpLoop::Batched };
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    let reply: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
    let sockets = UdpSockets::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, udp_loop).expect("a UDP socket");
    println!("{}", sockets.address);
    std::io::stdout().flush().expect("the bench listens");
    let workers = UdpWorkers::start(vec![sockets], move || Fixed { reply: reply.clone() }).expect("a thread");
    // The pipe is closed when the bench ends, even if it is killed.
    let _ = std::io::stdin().lock().read_line(&mut String::new());
    workers.stop();
}

struct Fixed {
    reply: Vec<u8>,
}

impl Respond for Fixed {
    fn respond(&mut self, batch: &mut Batch) {
        for mut exchange in batch.exchanges() {
            let Some(id) = exchange.query.first_chunk::<2>() else { continue };
            exchange.out[..self.reply.len()].copy_from_slice(&self.reply);
            exchange.out[..2].copy_from_slice(id);
            exchange.reply(self.reply.len());
        }
    }
}
