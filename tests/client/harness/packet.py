"""DNS messages octet by octet: queries that no library sends, and a strict parser of replies."""

import struct
from dataclasses import dataclass, field

import dns.message
import dns.name
import dns.rdatatype

from .dns import framed, read_framed

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, YXDOMAIN, NOTAUTH, BADVERS, BADCOOKIE = 0, 1, 2, 3, 4, 5, 6, 9, 16, 23
QUERY, IQUERY, STATUS, NOTIFY, UPDATE, DSO = 0, 1, 2, 4, 5, 6
QR, AA, TC, RD, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010
DO = 0x8000
NSID, SUBNET, EXPIRE, COOKIE, KEEPALIVE, PADDING, CHAIN, KEY_TAG, EDE, REPORT, ZONEVERSION = 3, 8, 9, 10, 11, 12, 13, 14, 15, 18, 19
IN, CH, HS, NONE, ANY_CLASS = 1, 3, 4, 254, 255
OPT = 41
PLAIN_OCTETS, UDP_OCTETS_MAX = 512, 1232
# Offset of the name in the data of types whose name must not be compressed (RFC 3597 section 4, RFC 2782, 6672, 9460).
UNCOMPRESSED_NAME_AT = {"SRV": 6, "DNAME": 0, "SVCB": 2, "HTTPS": 2, "RP": 0, "KX": 2}


def name(text):
    """A name in wire format, with its case kept."""
    return dns.name.from_text(text).to_wire()


def number(rrtype):
    return rrtype if isinstance(rrtype, int) else int(dns.rdatatype.from_text(rrtype))


def question(qname, rrtype="A", rdclass=IN):
    return (qname if isinstance(qname, bytes) else name(qname)) + struct.pack("!HH", number(rrtype), rdclass)


def record(owner, rrtype, rdata=b"", rdclass=IN, ttl=0, length=None):
    owner = owner if isinstance(owner, bytes) else name(owner)
    length = len(rdata) if length is None else length
    return owner + struct.pack("!HHIH", number(rrtype), rdclass, ttl, length) + rdata


def option(code, data=b"", length=None):
    return struct.pack("!HH", code, len(data) if length is None else length) + data


def opt(options=b"", size=UDP_OCTETS_MAX, flags=0, version=0, extended=0, owner=b"\x00", length=None):
    """An OPT record (RFC 6891 section 6.1.2). `extended` is the upper bits of a response code."""
    return record(owner, OPT, options, size, extended << 24 | version << 16 | flags, length)


def message(questions=b"", additional=b"", flags=0, opcode=0, counts=None, ident=0x1234, body=b""):
    """A message. The counts are those of one question and one additional record (if present), unless they are given."""
    if counts is None:
        counts = (1 if questions else 0, 0, 0, 1 if additional else 0)
    return struct.pack("!6H", ident, opcode << 11 | flags, *counts) + questions + body + additional


@dataclass(frozen=True)
class Rr:
    """A record of a reply. `is_compressed` is true if its owner is only a pointer to the question."""

    owner: str
    type: str
    rdclass: int
    ttl: int
    rdata: bytes
    is_compressed: bool


@dataclass
class Reply:
    """A reply, all octets of which were parsed."""

    octets: bytes
    ident: int = 0
    flags: int = 0
    counts: tuple = ()
    question: bytes = b""
    sections: list = field(default_factory=list)
    opt: Rr = None

    @property
    def opcode(self):
        return self.flags >> 11 & 0xF

    @property
    def rcode(self):
        """The response code, including the upper bits in the OPT record."""
        return self.flags & 0xF | (self.opt.ttl >> 24 << 4 if self.opt else 0)

    @property
    def options(self):
        """The options of the OPT record as [(code, data)]."""
        found, at = [], 0
        while self.opt and at < len(self.opt.rdata):
            code, length = struct.unpack_from("!HH", self.opt.rdata, at)
            assert at + 4 + length <= len(self.opt.rdata)
            found.append((code, self.opt.rdata[at + 4:at + 4 + length]))
            at += 4 + length
        return found

    def option(self, code):
        """The data of an option, or None if the reply lacks it. Fails if the option is repeated."""
        found = [data for other, data in self.options if other == code]
        assert len(found) <= 1, found
        return found[0] if found else None

    @property
    def extended_errors(self):
        return [struct.unpack_from("!H", data)[0] for code, data in self.options if code == EDE]

    @property
    def message(self):
        """The reply, parsed by dnspython."""
        return dns.message.from_wire(self.octets)

    @property
    def question_name(self):
        return _name(self.octets, 12)[0]

    def has(self, flags):
        return self.flags & flags == flags

    def texts(self, section):
        """The records of section 0 to 2 as {(owner in lower case, TTL, type, data)}, without the OPT record."""
        rrsets = self.message.sections[section + 1]
        return sorted((rrset.name.to_text().lower(), rrset.ttl, dns.rdatatype.to_text(rrset.rdtype), rdata.to_text())
                      for rrset in rrsets for rdata in rrset)


def read(octets):
    """Parses a reply. Fails for octets left over, pointers forward, and compressed SRV targets."""
    reply = Reply(octets)
    reply.ident, reply.flags, *counts = struct.unpack_from("!6H", octets)
    reply.counts = tuple(counts)
    assert counts[0] <= 1, f"{counts[0]} questions"
    at = 12
    if counts[0]:
        at = _name(octets, at)[1] + 4
        reply.question = octets[12:at]
    for section in range(3):
        records = []
        for _ in range(counts[section + 1]):
            rr, at = _record(octets, at)
            if rr.type == "OPT":
                assert section == 2 and reply.opt is None and rr.owner == ".", "a misplaced OPT record"
                reply.opt = rr
            else:
                records.append(rr)
        reply.sections.append(records)
    assert at == len(octets), f"{len(octets) - at} octets after the message"
    for code, _ in reply.options:
        assert code != PADDING, "padding of a message that is not encrypted"
    return reply


def _record(octets, at):
    start = at
    owner, at = _name(octets, at)
    rrtype, rdclass, ttl, length = struct.unpack_from("!HHIH", octets, at)
    rdata = octets[at + 10:at + 10 + length]
    assert len(rdata) == length, "data beyond the message"
    text = dns.rdatatype.to_text(rrtype)
    if text in UNCOMPRESSED_NAME_AT:
        _name(rdata, UNCOMPRESSED_NAME_AT[text], compressed=False)
    is_compressed = octets[start:start + 2] == b"\xc0\x0c"
    return Rr(owner, text, rdclass, ttl, rdata, is_compressed), at + 10 + length


def _name(octets, at, compressed=True):
    """(name, offset after it). Every pointer has to point to before the name that it ends."""
    labels, end, limit = [], None, at
    while True:
        length = octets[at]
        if length >= 0xC0:
            assert compressed, "a compressed name where none may be"
            pointer = struct.unpack_from("!H", octets, at)[0] & 0x3FFF
            end = at + 2 if end is None else end
            assert 12 <= pointer < limit, f"a pointer from {at} to {pointer}"
            at = limit = pointer
        elif length == 0:
            return dns.name.Name(labels + [b""]).to_text(), at + 1 if end is None else end
        else:
            assert length <= 63, f"label type {length:#x}"
            labels.append(octets[at + 1:at + 1 + length])
            at += 1 + length


class Client:
    """A client over one transport. It checks the rules that any reply to a query has to follow."""

    def __init__(self, resolver, transport):
        self.resolver, self.transport = resolver, transport

    def exchange(self, packet):
        """Sends a message and returns the octets of the reply."""
        if self.transport == "udp":
            return self.resolver.exchange_udp(packet)
        with self.resolver.tcp_socket() as stream:
            stream.sendall(framed(packet))
            reply = read_framed(stream)
        assert reply is not None, "closed without a reply"
        return reply

    def send(self, packet):
        """Sends any message, and returns the checked reply."""
        reply = read(self.exchange(packet))
        ident, flags = struct.unpack_from("!2H", packet)
        assert reply.ident == ident
        assert reply.has(QR) and not reply.has(RA) and not reply.has(AD) and not reply.has(Z), hex(reply.flags)
        assert reply.opcode == flags >> 11 & 0xF
        assert not reply.question or packet[12:].startswith(reply.question), "the question is not echoed octet by octet"
        if reply.opt:
            assert reply.opt.ttl >> 16 & 0xFF == 0 and reply.opt.ttl & 0x7FFF == 0, f"version or flags {reply.opt.ttl:#x}"
            assert reply.opt.rdclass == UDP_OCTETS_MAX
        assert self.transport == "tcp" or len(reply.octets) <= UDP_OCTETS_MAX
        assert self.transport == "udp" or not reply.has(TC)
        if reply.has(TC) and reply.sections[0]:
            assert reply.sections[2] == [], "additional records go first"
        for rr in reply.sections[0]:
            if reply.question and rr.rdclass == IN and rr.owner.lower() == reply.question_name.lower():
                assert rr.is_compressed, "an owner that is the question is a pointer to it"
        return reply

    def ask(self, qname, rrtype="A", flags=0, edns=b"", **options):
        """Sends an ordinary query, and returns the checked reply. `edns` is an OPT record."""
        packet = message(question(qname, rrtype, options.pop("rdclass", IN)), edns, flags=flags, **options)
        reply = self.send(packet)
        assert (reply.opt is not None) == bool(edns), "an OPT record answers an OPT record, and nothing else"
        assert reply.question == packet[12:12 + len(reply.question)] != b""
        assert reply.flags & (RD | CD) == flags & (RD | CD), f"{reply.flags:#06x} for {flags:#06x}"
        if self.transport == "udp":
            offered = struct.unpack_from("!H", edns, 3)[0] if edns else PLAIN_OCTETS
            assert len(reply.octets) <= min(max(offered, PLAIN_OCTETS), UDP_OCTETS_MAX)
        return reply
