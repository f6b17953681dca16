"""SPDY/3.1 as a kubelet speaks it: the streams of `kubectl exec` and `kubectl port-forward` in one connection.

The client opens all streams. There is no flow control, because Kubernetes' implementation has none.
"""

import queue
import struct
import threading
import zlib

PROTOCOL = "SPDY/3.1"
CONTROL, VERSION = 0x8000, 3
SYN_STREAM, SYN_REPLY, RST_STREAM, PING, GOAWAY = 1, 2, 3, 6, 7
FIN = 1
# The dictionary of SPDY/3 headers: words with their lengths, and a text.
WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization
cache-control connection content-base content-encoding content-language content-length content-location content-md5
content-range content-type date etag expect expires from host if-match if-modified-since if-none-match if-range
if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after
server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get status 200+OK version
HTTP/1.1 url public set-cookie keep-alive origin"""
TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, "
    "Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.")
DICTIONARY = b"".join(struct.pack("!I", len(word)) + word.replace("+", " ").encode() for word in WORDS.split()) + TEXT.encode()
assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


class Stream:
    """A stream that the client has opened. `received` has its data, and None at its end."""

    def __init__(self, connection, number, headers):
        self._connection, self._number, self.headers = connection, number, headers
        self.received = queue.SimpleQueue()

    def send(self, data):
        self._connection.write(struct.pack("!II", self._number, len(data)) + data)

    def finish(self):
        """Sends the end of the stream."""
        self._connection.write(struct.pack("!II", self._number, FIN << 24))


class Connection:
    """The server's side of a connection that was upgraded to SPDY."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self._lock = threading.Lock()
        self._streams = {}
        self._inflate, self._deflate = zlib.decompressobj(zdict=DICTIONARY), zlib.compressobj(zdict=DICTIONARY)

    def serve(self, opened):
        """Reads frames until the end of the connection, and calls `opened(stream)` for each new stream."""
        try:
            while len(head := self._reader.read(8)) == 8:
                first, kind, length = struct.unpack("!HHI", head)
                flags, body = length >> 24, self._reader.read(length & 0xFFFFFF)
                if not first & CONTROL:
                    self._data(first << 16 | kind, flags, body)
                elif kind == SYN_STREAM:
                    opened(self._open(flags, body))
                elif kind == PING:
                    self._control(PING, body)
                elif kind == RST_STREAM:
                    self._data(struct.unpack("!I", body[:4])[0], FIN, b"")
                elif kind == GOAWAY:
                    return
        except OSError:
            return
        finally:
            for stream in self._streams.values():
                stream.received.put(None)

    def write(self, data):
        with self._lock:
            self._writer.write(data)
            self._writer.flush()

    def _control(self, kind, body):
        self.write(struct.pack("!HHI", CONTROL | VERSION, kind, len(body)) + body)

    def _data(self, number, flags, body):
        stream = self._streams.get(number)
        if stream and body:
            stream.received.put(body)
        if stream and flags & FIN:
            stream.received.put(None)

    def _open(self, flags, body):
        [number] = struct.unpack("!I", body[:4])
        stream = self._streams[number] = Stream(self, number, headers(self._inflate.decompress(body[10:])))
        no_headers = self._deflate.compress(struct.pack("!I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._control(SYN_REPLY, struct.pack("!I", number) + no_headers)
        if flags & FIN:
            stream.received.put(None)
        return stream


def headers(block):
    """The headers of a block of names and values with their lengths."""
    words, at = [], 4
    while at < len(block):
        [length] = struct.unpack_from("!I", block, at)
        words.append(block[at + 4:at + 4 + length].decode())
        at += 4 + length
    return dict(zip(words[::2], words[1::2]))
