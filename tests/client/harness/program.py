"""Programs beside the server under test: start, kill and restart, with their output in a file."""

import os
import random
import signal
import socket
import subprocess
from pathlib import Path

from .deadline import PATIENCE_SECONDS, eventually

LOG_TAIL_LINES = 25
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_PORTS_USUAL = "32768 60999"
LOWEST_PORT = 10_000


def free_port():
    """A free port of the loopback address, outside of the range from which the system picks ports.

    A program that is killed finds this port free when it is started again, because no other program gets it by chance.
    """
    usual = EPHEMERAL_PORTS.read_text() if EPHEMERAL_PORTS.exists() else EPHEMERAL_PORTS_USUAL
    candidates = range(LOWEST_PORT, max(int(usual.split()[0]), LOWEST_PORT + 1))
    for port in random.sample(candidates, min(len(candidates), 100)):
        try:
            with socket.create_server(("127.0.0.1", port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
                datagrams.bind(("127.0.0.1", port))
                return port
        except OSError:
            continue
    raise RuntimeError(f"no free port among {candidates}")


class Program:
    """A program that is started with one command each time."""

    running = []

    def __init__(self, name, command, directory, environment=None):
        self.name = name
        self.command = [str(word) for word in command]
        self.directory = Path(directory)
        self.environment = environment or {"PATH": os.environ["PATH"], "HOME": str(directory)}
        self.log = self.directory / f"{name}.log"
        self.process = None

    def start(self, is_ready):
        """Starts the program and returns when `is_ready()`. If it ends before that, fails with its log."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, cwd=self.directory, env=self.environment, stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        Program.running.append(self)
        assert eventually(lambda: is_ready() or self.has_ended(), 2 * PATIENCE_SECONDS), self.name
        assert not self.has_ended(), f"{self.name} ended with {self.process.returncode}\n{self.log_tail()}"

    def has_ended(self):
        return self.process is None or self.process.poll() is not None

    def kill(self):
        """Kills the program with SIGKILL. Does nothing if it has ended or was never started."""
        if not self.has_ended():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self in Program.running:
            Program.running.remove(self)

    def log_tail(self):
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(the log is empty)"
