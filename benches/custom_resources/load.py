"""HTTP load over keep-alive connections, in one thread, with or without TLS."""

import re
import select
import socket
import ssl
import time
from dataclasses import dataclass, field

TIMEOUT_SECONDS = 60.0
RECEIVE_BYTES = 65_536
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Wrong(Exception):
    """A result that ends the bench."""


class Target:
    """The address of an HTTP server, and the headers of each request. `context` is that of TLS, or None."""

    def __init__(self, address, headers, context=None):
        self.address, self.context = address, context
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._headers = f"Host: {address[0]}:{address[1]}\r\n{lines}"

    def request(self, method, path, body=b"", more=""):
        """The bytes of a request. `more` has further header lines."""
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}{more}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def connect(self):
        plain = socket.create_connection(self.address, TIMEOUT_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return plain
        return self.context.wrap_socket(plain, server_hostname=self.address[0])

    def call(self, request):
        """Sends one request on a connection of its own. Returns the status and the body."""
        with self.connect() as one:
            connection = Connection(one)
            connection.start(request, None)
            while not connection.has_reply():
                connection.receive()
            return connection.take_reply()


class Connection:
    """One connection with at most one request in flight."""

    def __init__(self, stream):
        self.stream = stream
        self.done = None
        self.began = 0.0
        self._buffer = bytearray()
        # Length of the reply with its head, or 0 before the head was read.
        self._length_bytes = self._head_bytes = 0

    def start(self, request, done):
        self.done, self.began = done, time.perf_counter()
        self.stream.settimeout(TIMEOUT_SECONDS)
        self.stream.sendall(request)

    def receive(self):
        """Reads the bytes that have arrived. Returns False if TLS needs more of them to decrypt anything."""
        try:
            data = self.stream.recv(RECEIVE_BYTES)
        except ssl.SSLWantReadError:
            return False
        if not data:
            raise Wrong("a connection was closed while a reply was due")
        self._buffer += data
        return True

    def has_reply(self):
        if not self._length_bytes:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            length = LENGTH.search(self._buffer, 0, end + 2)
            if not length:
                raise Wrong(f"a reply without a length: {bytes(self._buffer[:end])}")
            self._head_bytes = end + 4
            self._length_bytes = self._head_bytes + int(length[1])
        return len(self._buffer) >= self._length_bytes

    def take_reply(self):
        """Removes the reply from the buffer. Returns its status and body."""
        reply = int(self._buffer[9:12]), bytes(self._buffer[self._head_bytes:self._length_bytes])
        if len(self._buffer) > self._length_bytes:
            raise Wrong("more than one reply to a request")
        self._buffer.clear()
        self._length_bytes = 0
        return reply


@dataclass
class Load:
    """Result of a load: acknowledged requests, seconds from the first request to the last reply, and the client's CPU time."""

    count: int = 0
    seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    latencies_ms: list = field(default_factory=list)

    @property
    def rate(self):
        return self.count / self.seconds

    def latency_ms(self, percent):
        ordered = sorted(self.latencies_ms)
        return ordered[round((len(ordered) - 1) * percent / 100)]


def run(target, connections, take, seconds=None):
    """Sends the requests of `take()` over so many connections, until it returns None or the time is over.

    `take()` returns the bytes of a request, and a function that is called with status and body of the reply to check them.
    """
    load = Load()
    pool = [Connection(target.connect()) for _ in range(connections)]
    poll = select.epoll()
    by_descriptor = {}
    busy = 0
    try:
        for connection in pool:
            by_descriptor[connection.stream.fileno()] = connection
            poll.register(connection.stream.fileno(), select.EPOLLIN)
        cpu, begin = time.process_time(), time.perf_counter()
        end = begin + seconds if seconds else None

        def next_of(connection):
            job = None if end and time.perf_counter() >= end else take()
            if job is None:
                connection.done = None
                return 0
            connection.start(*job)
            connection.stream.setblocking(False)
            return 1

        for connection in pool:
            busy += next_of(connection)
        while busy:
            events = poll.poll(TIMEOUT_SECONDS)
            if not events:
                raise Wrong(f"no reply within {TIMEOUT_SECONDS} s")
            for descriptor, _ in events:
                connection = by_descriptor[descriptor]
                if connection.done is None:
                    raise Wrong("something arrived on a connection without a request")
                while connection.receive():
                    if connection.has_reply():
                        load.latencies_ms.append((time.perf_counter() - connection.began) * 1e3)
                        connection.done(*connection.take_reply())
                        load.count += 1
                        busy += next_of(connection) - 1
                        break
                    if not is_pending(connection.stream):
                        break
        load.seconds = time.perf_counter() - begin
        load.client_cpu_seconds = time.process_time() - cpu
    finally:
        poll.close()
        for connection in pool:
            connection.stream.close()
    return load


def is_pending(stream):
    """True if TLS has decrypted bytes in its buffer, which epoll does not report."""
    return isinstance(stream, ssl.SSLSocket) and stream.pending() > 0
