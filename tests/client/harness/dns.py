"""DNS clients: dig with its output as data, and single messages through dnspython."""

import re
import socket
import struct
import subprocess
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.query
import dns.rdatatype

TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True)
class Record:
    name: str
    ttl: int
    rdclass: str
    type: str
    data: str


@dataclass
class Answer:
    """A response, parsed from the output of dig."""

    text: str
    status: str = ""
    opcode: str = ""
    flags: frozenset = frozenset()
    question: str = ""
    answer: list = field(default_factory=list)
    authority: list = field(default_factory=list)
    additional: list = field(default_factory=list)
    edns: str = ""
    options: list = field(default_factory=list)
    size_bytes: int = 0

    def data(self, rrtype=None):
        """The data of the answer's records, in the order of the response."""
        return [record.data for record in self.answer if rrtype in (None, record.type)]

    def ttls(self):
        return {record.ttl for record in self.answer}

    def owners(self):
        return {record.name for record in self.answer}

    def additional_data(self, rrtype):
        return {(record.name, record.data) for record in self.additional if record.type == rrtype}

    @property
    def soa(self):
        """The SOA record of a negative answer, or None."""
        found = [record for record in self.authority if record.type == "SOA"]
        return found[0] if found else None

    def assert_positive(self, *data):
        """Asserts an authoritative NOERROR with exactly this data in any order."""
        assert (self.status, "aa" in self.flags) == ("NOERROR", True), self.text
        assert sorted(self.data()) == sorted(data), self.text

    def assert_nodata(self, zone=None):
        self._assert_negative("NOERROR", zone)

    def assert_nxdomain(self, zone=None):
        self._assert_negative("NXDOMAIN", zone)

    def _assert_negative(self, status, zone):
        assert self.status == status, self.text
        assert "aa" in self.flags, self.text
        assert self.answer == [], self.text
        assert self.soa is not None, self.text
        if zone is not None:
            assert self.soa.name.lower() == zone.lower(), self.text

    def assert_refused(self):
        assert self.status == "REFUSED", self.text
        assert not self.answer and not self.authority, self.text
        assert "aa" not in self.flags, self.text


SECTIONS = {"QUESTION": "question", "ANSWER": "answer", "AUTHORITY": "authority", "ADDITIONAL": "additional"}


def parse(text):
    """Parses dig's default output (with comments)."""
    found = Answer(text)
    header = re.search(r"opcode: (\w+), status: (\w+), id:", text)
    assert header, f"no response:\n{text}"
    found.opcode, found.status = header.groups()
    found.flags = frozenset(re.search(r";; flags:([^;]*);", text).group(1).split())
    size = re.search(r"MSG SIZE\s+rcvd: (\d+)", text)
    found.size_bytes = int(size.group(1)) if size else 0
    section = None
    for line in text.splitlines():
        title = re.match(r";; (\w+) (?:PSEUDO)?SECTION:", line)
        if line.startswith(";; OPT PSEUDOSECTION"):
            section = "opt"
        elif title:
            section = SECTIONS[title.group(1)]
        elif not line.strip() or line.startswith(";;"):
            section = None if not line.strip() else section
        elif section == "opt":
            _note_edns(found, line)
        elif section == "question":
            found.question = line.lstrip(";").split()[0]
        elif section and not line.startswith(";"):
            name, ttl, rdclass, rrtype, data = re.split(r"\s+", line.strip(), maxsplit=4)
            getattr(found, section).append(Record(name, int(ttl), rdclass, rrtype, data))
    return found


def _note_edns(found, line):
    line = line.lstrip("; ")
    if line.startswith("EDNS:"):
        found.edns = line
    else:
        found.options.append(line)


class Resolver:
    """A client of one server."""

    def __init__(self, host, port):
        self.host, self.port = host, port

    def dig(self, name, rrtype="A", *options):
        """Queries with dig, without recursion and EDNS unless the options add them."""
        return parse(self.dig_text(name, rrtype, *options))

    def dig_text(self, name, rrtype, *options):
        command = ["dig", "+norec", "+noedns", "+nocookie", "+tries=1", f"+time={int(TIMEOUT_SECONDS)}", f"@{self.host}",
                   "-p", str(self.port), "-q", name, "-t", rrtype, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serial(self, zone):
        """The SOA serial of a zone."""
        soa = self.dig(zone, "SOA")
        assert soa.data("SOA"), soa.text
        return int(soa.data("SOA")[0].split()[2])

    def addresses(self, name, rrtype="A"):
        """The answer's data as a set, empty for NODATA. Sends one UDP query (TCP if truncated), which is cheaper than dig."""
        reply = self.ask(name, rrtype)
        assert reply.rcode() == 0, reply
        return {rdata.to_text() for rrset in reply.answer for rdata in rrset if dns.rdatatype.to_text(rrset.rdtype) == rrtype}

    def ask(self, name, rrtype="A", tcp=False, **options):
        """Sends one query through dnspython and returns the response."""
        query = dns.message.make_query(name, rrtype, **options)
        query.flags &= ~dns.flags.RD
        if tcp:
            return dns.query.tcp(query, self.host, TIMEOUT_SECONDS, self.port)
        return dns.query.udp_with_fallback(query, self.host, TIMEOUT_SECONDS, self.port)[0]

    # -- bytes --------------------------------------------------------------------------------------------------------

    def udp_socket(self):
        plain = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM)
        plain.settimeout(TIMEOUT_SECONDS)
        plain.connect((self.host, self.port))
        return plain

    def exchange_udp(self, packet):
        """Sends a datagram and returns the reply's bytes."""
        with self.udp_socket() as plain:
            plain.send(packet)
            return plain.recv(65535)

    def is_silent_to(self, packet):
        """True if the server drops this packet: the only reply is that to a valid query which is sent after it."""
        probe = dns.message.make_query(".", "NS", id=0xBEEF).to_wire()
        with self.udp_socket() as plain:
            plain.send(packet)
            plain.send(probe)
            plain.send(probe)
            replies = [plain.recv(65535) for _ in range(2)]
        return all(reply[:2] == b"\xbe\xef" for reply in replies)

    def tcp_socket(self):
        stream = socket.create_connection((self.host, self.port), TIMEOUT_SECONDS)
        stream.settimeout(TIMEOUT_SECONDS)
        return stream


def framed(packet):
    return struct.pack("!H", len(packet)) + packet


def read_framed(stream):
    """Reads one message from a DNS stream. Returns None at the end of the stream."""
    head = _read(stream, 2)
    return None if head is None else _read(stream, struct.unpack("!H", head)[0])


def _read(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            return None
        data += more
    return data


def header(packet):
    """(id, flags, counts) from the 12 octets of a message's header."""
    ident, flags, *counts = struct.unpack("!6H", packet[:12])
    return ident, flags, counts


def rcode(packet):
    return header(packet)[1] & 0xF
