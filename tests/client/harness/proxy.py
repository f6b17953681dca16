"""A fake kube-proxy for one Service: it passes UDP and TCP from one address to the Service's backends."""

import random
import socket
import threading

from .program import free_port

REPLY_SECONDS = 5.0
DATAGRAM_BYTES_MAX = 65_535


class Proxy:
    """Passes DNS to one of `backends()`, (host, port) pairs. Tries another one if nobody listens there."""

    def __init__(self, backends, datagrams=None, listener=None):
        """Uses bound sockets, such as those of another network, or else a free port of the loopback address."""
        self.backends = backends
        port = free_port()
        self._datagrams = datagrams or bound(socket.SOCK_DGRAM, port)
        self._listener = listener or bound(socket.SOCK_STREAM, port)
        self.address = self._datagrams.getsockname()

    def start(self):
        self._listener.listen()
        for work in (self._serve_datagrams, self._serve_streams):
            threading.Thread(target=work, daemon=True).start()
        return self

    def stop(self):
        for used in (self._datagrams, self._listener):
            # Wakes the thread that waits in accept().
            try:
                used.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            used.close()

    def _chosen(self):
        backends = list(self.backends())
        return random.sample(backends, len(backends))

    def _serve_datagrams(self):
        try:
            while True:
                packet, client = self._datagrams.recvfrom(DATAGRAM_BYTES_MAX)
                threading.Thread(target=self._pass_datagram, args=(packet, client), daemon=True).start()
        except OSError:
            return

    def _pass_datagram(self, packet, client):
        for backend in self._chosen():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as behind:
                behind.settimeout(REPLY_SECONDS)
                try:
                    behind.connect(backend)
                    behind.send(packet)
                    self._datagrams.sendto(behind.recv(DATAGRAM_BYTES_MAX), client)
                    return
                except OSError:
                    continue

    def _serve_streams(self):
        try:
            while True:
                stream, _ = self._listener.accept()
                threading.Thread(target=self._pass_stream, args=(stream,), daemon=True).start()
        except OSError:
            return

    def _pass_stream(self, stream):
        for backend in self._chosen():
            try:
                behind = socket.create_connection(backend, REPLY_SECONDS)
            except OSError:
                continue
            for source, sink in ((stream, behind), (behind, stream)):
                threading.Thread(target=move, args=(source, sink), daemon=True).start()
            return
        stream.close()


def bound(kind, port):
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", port))
    return made


def move(source, sink):
    """Copies bytes from one stream to another, until its end."""
    try:
        while data := source.recv(DATAGRAM_BYTES_MAX):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()
