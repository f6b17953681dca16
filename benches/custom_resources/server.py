"""The server under test as a process: its start, its answers in DNS, its memory and CPU time."""

import os
import random
import socket
import time
from pathlib import Path

from harness.deadline import eventually
from harness.program import Program, free_port

from . import load
from .load import Target, Wrong
from .world import compact

START_SECONDS_MAX = 120.0
RETRY_SECONDS = 0.002
REPLY_SECONDS_MAX = 0.5
# Memory is stable when it changes by less than this in a second.
SETTLED_BYTES = 256 * 1024
SETTLED_SECONDS_MAX = 20.0
SERVFAIL, REFUSED = 2, 5


class Server:
    """One server with a directory and fixed ports. `options` select its store."""

    def __init__(self, binary, directory, *options):
        directory.mkdir()
        self.dns, self.api, self.admin = (("127.0.0.1", free_port()) for _ in range(3))
        ports = [word for flag, (host, port) in (("--dns", self.dns), ("--api", self.api), ("--admin", self.admin))
                 for word in (flag, f"{host}:{port}")]
        self.program = Program(f"cloudmap-dns-{directory.name}", [
            binary, "serve", "--data-dir", directory / "data", *ports, *options], directory)
        self.target = Target(self.api, {"Content-Type": "application/x-amz-json-1.1"})

    def start(self):
        """Starts the server and returns when it is ready."""
        self.launch()
        eventually(self._is_ready, START_SECONDS_MAX)
        return self

    def launch(self):
        self.program.start(lambda: True)

    def kill(self):
        self.program.kill()

    def _is_ready(self):
        self.fail_if_ended()
        try:
            return Target(self.admin, {}).call(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
        except (OSError, Wrong):
            return False

    def fail_if_ended(self):
        if self.program.has_ended():
            raise Wrong(f"the server ended\n{self.program.log_tail()}")

    # -- API ----------------------------------------------------------------------------------------------------------

    def request(self, operation, parameters):
        more = f"X-Amz-Target: Route53AutoNaming_v20170314.{operation}\r\n"
        return self.target.request("POST", "/", compact(parameters), more)

    def call(self, operation, parameters):
        """Calls an operation that has to succeed, and returns the body."""
        return successful(operation, *self.target.call(self.request(operation, parameters)))

    def first_reply(self, operation, parameters):
        """Calls an operation of a starting server until it succeeds. Returns the body and the time of its arrival."""
        request = self.request(operation, parameters)

        def attempt():
            try:
                status, body = self.target.call(request)
            except (OSError, Wrong):
                return None
            return None if status >= 500 else successful(operation, status, body)
        return self._first(attempt)

    # -- DNS ----------------------------------------------------------------------------------------------------------

    def addresses(self, name):
        """The addresses of the A records of a name."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(REPLY_SECONDS_MAX)
            stream.connect(self.dns)
            rcode, found = ask(stream, name)
        if rcode != 0:
            raise Wrong(f"DNS: {name}: response code {rcode}")
        return found

    def first_addresses(self, name):
        """Queries a starting server until it answers. Returns the addresses and the time of their arrival."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(REPLY_SECONDS_MAX)
            stream.connect(self.dns)

            def attempt():
                try:
                    rcode, found = ask(stream, name)
                except OSError:
                    return None
                if rcode not in (0, SERVFAIL, REFUSED):
                    raise Wrong(f"DNS: {name}: response code {rcode} after the start")
                return found if rcode == 0 else None
            return self._first(attempt)

    def _first(self, attempt):
        end = time.perf_counter() + START_SECONDS_MAX
        while time.perf_counter() < end:
            found = attempt()
            if found is not None:
                return found, time.perf_counter()
            self.fail_if_ended()
            time.sleep(RETRY_SECONDS)
        raise Wrong(f"no right answer within {START_SECONDS_MAX} s of the start\n{self.program.log_tail()}")


def successful(what, status, body):
    if status // 100 != 2:
        raise Wrong(f"{what}: {status} {body[:500]!r}")
    return body


def call_all(server, connections, calls, check):
    """Calls each operation with its parameters. `check` is called with the index and the body of each success."""
    jobs = iter(enumerate(calls))

    def take():
        found = next(jobs, None)
        if found is None:
            return None
        at, (operation, parameters) = found
        return server.request(operation, parameters), lambda status, body: check(at, successful(operation, status, body))
    return load.run(server.target, connections, take)


def ask(stream, name):
    """Sends one A query with EDNS. Returns the response code and the addresses of the answer."""
    identity = random.randrange(1 << 16).to_bytes(2, "big")
    labels = b"".join(len(label).to_bytes(1, "big") + label.encode() for label in name.split("."))
    stream.send(identity + bytes((0, 0, 0, 1, 0, 0, 0, 0, 0, 1)) + labels
                + bytes((0, 0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)))
    reply = stream.recv(4_096)
    while reply[:2] != identity:
        reply = stream.recv(4_096)
    at, found = after_name(reply, 12) + 4, []
    for _ in range(int.from_bytes(reply[6:8], "big")):
        at = after_name(reply, at) + 10
        found.append(".".join(str(byte) for byte in reply[at:at + 4]))
        at += 4
    return reply[3] & 0xf, found


def after_name(message, at):
    while message[at] != 0:
        if message[at] >= 0xc0:
            return at + 2
        at += 1 + message[at]
    return at + 1


# -- processes --------------------------------------------------------------------------------------------------------

def cpu_seconds(program):
    """CPU time that a program's process has used."""
    fields = Path(f"/proc/{program.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_bytes(program):
    """Resident bytes of a process, and the anonymous ones among them, which no file backs."""
    lines = Path(f"/proc/{program.process.pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = dict(line.split(":", 1) for line in lines)
    return tuple(int(fields[name].split()[0]) * 1024 for name in ("Rss", "Anonymous"))


def settled_memory_bytes(program):
    """Like `memory_bytes`, but waits until the memory is stable."""
    end = time.perf_counter() + SETTLED_SECONDS_MAX
    before = memory_bytes(program)
    while True:
        time.sleep(1.0)
        now = memory_bytes(program)
        if abs(now[0] - before[0]) < SETTLED_BYTES or time.perf_counter() > end:
            return now
        before = now
