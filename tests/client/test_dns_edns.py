"""EDNS(0): queries of compliance testers (RFC 6891, RFC 8906 section 8, ISC's EDNS compliance tests, Zonemaster), and others."""

import itertools
import struct

import pytest

from harness.dns import header
from harness.packet import (AA, ANY_CLASS, BADVERS, CD, CH, CHAIN, COOKIE, DO, EXPIRE, FORMERR, HS, KEEPALIVE, KEY_TAG, NOERROR, NOTIFY,
                            NOTIMP, NSID, NXDOMAIN, PADDING, PLAIN_OCTETS, RA, RD, REFUSED, REPORT, SUBNET, TC, UDP_OCTETS_MAX, UPDATE,
                            Z, ZONEVERSION, Client, message, name, opt, option, question, record)

WEB = "web.svc.local."
QUESTION = question(WEB)
APEX = question("svc.local.", "SOA")
COOKIE_OPTION = option(COOKIE, b"\x01\x02\x03\x04\x05\x06\x07\x08")
SUBNET_OPTION = option(SUBNET, b"\x00\x01\x10\x00\x0a\x01")
ALL_OPTIONS = option(NSID) + SUBNET_OPTION + option(EXPIRE) + COOKIE_OPTION


def assert_apex(reply):
    """NOERROR, authoritative, and the SOA in the answer, as the tests of RFC 8906 section 8 expect it of a zone."""
    assert (reply.rcode, reply.has(AA), [rr.type for rr in reply.sections[0]]) == (NOERROR, True, ["SOA"])


# -- RFC 8906 section 8.1: basic DNS ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [0, Z, RD, RA, AA, TC, 0x0020, CD, 0x07F0], ids=hex)
def test_8_1_plain_queries(client, flags):
    """8.1.1 and 8.1.3.1 to 8.1.3.2: flags of the query do not make it fail."""
    reply = client.send(message(APEX, flags=flags))
    assert_apex(reply)
    assert reply.opt is None and not reply.has(TC)


def test_8_1_2_unknown_types_have_no_data(client):
    reply = client.ask("svc.local.", 1000)
    assert (reply.rcode, reply.counts[1], reply.has(AA)) == (NOERROR, 0, True)
    assert [rr.type for rr in reply.sections[1]] == ["SOA"]


@pytest.mark.parametrize("flags", [0, RD, TC | RD | RA | Z | 0x0030, AA | TC | RD | RA | Z | 0x0030], ids=hex)
def test_8_1_3_3_unknown_opcodes_are_not_implemented(client, flags):
    """`dig +noedns +noad +opcode=15 +norec +header-only`, and with flags."""
    reply = client.send(message(opcode=15, flags=flags))
    assert reply.rcode == NOTIMP and len(reply.octets) == 12 and not reply.has(AA)


# -- RFC 8906 section 8.2: EDNS -----------------------------------------------------------------------------------------------

EDNS_QUERIES = {
    "8.2.1 minimal": opt(size=0),
    "minimal of 512": opt(size=512),
    "8.2.2 edns": opt(),
    "8.2.4 unknown option": opt(option(100)),
    "unknown option with data": opt(option(65001, b"data")),
    "the same option twice": opt(option(100, b"1") + option(100, b"2")),
    "option 0": opt(option(0)),
    "option 65535": opt(option(65535, b"\x00")),
    "unknown flags": opt(flags=0x0040),
    "all unknown flags": opt(flags=0x7FFF),
    "DO": opt(flags=DO),
    "DO and all flags": opt(flags=0xFFFF),
    "known options": opt(ALL_OPTIONS),
    "known and unknown options": opt(ALL_OPTIONS + option(100)),
    "extended code in the query": opt(extended=255),
    "a large size": opt(size=65535),
    "padding": opt(option(PADDING, b"\x00" * 300)),
    "chain": opt(option(CHAIN, b"\x00")),
    "key tag": opt(option(KEY_TAG, b"\x4f\x66")),
    "keepalive": opt(option(KEEPALIVE)),
    "zone version": opt(option(ZONEVERSION)),
    "report channel": opt(option(REPORT, name("agent.example."))),
    "DAU, DHU, N3U": opt(b"".join(option(code, b"\x08\x0d") for code in (5, 6, 7))),
    "LLQ and UL": opt(option(1, b"\x00" * 18) + option(2, b"\x00\x00\x0e\x10")),
    "400 options": opt(b"".join(option(65001 + number) for number in range(250)) + option(100) * 150),
}


@pytest.mark.parametrize("edns", EDNS_QUERIES.values(), ids=EDNS_QUERIES)
def test_8_2_options_and_flags_that_are_not_known_change_nothing(client, edns):
    reply = client.ask("svc.local.", "SOA", edns=edns)
    assert_apex(reply)
    flags = struct.unpack_from("!HHIH", edns, 1)[2]
    assert bool(reply.opt.ttl & DO) == bool(flags & DO), "DO is copied"
    assert {code for code, _ in reply.options} <= {NSID, SUBNET, EXPIRE, COOKIE, KEEPALIVE, ZONEVERSION}


@pytest.mark.parametrize("version", [1, 2, 100, 255])
@pytest.mark.parametrize("options, flags", [(b"", 0), (option(100), 0), (b"", 0x0040), (b"", DO), (ALL_OPTIONS, DO), (option(100, b"", 9), 0)],
                         ids=["bare", "unknown option", "unknown flag", "DO", "all options", "options of another shape"])
def test_8_2_3_other_versions_are_badvers(client, version, options, flags):
    """8.2.3, 8.2.5 and 8.2.7: the rest of an OPT record with another version may have any format."""
    reply = client.ask("svc.local.", "SOA", edns=opt(options, version=version, flags=flags))
    assert reply.rcode == BADVERS and reply.counts[1:3] == (0, 0)
    assert reply.opt.ttl >> 16 & 0xFF == 0


def test_8_2_8_truncated_replies_have_an_opt_record(zoned):
    reply = Client(zoned.resolver, "udp").ask("big.svc.local.", edns=opt(size=512, flags=DO))
    assert reply.has(TC) and reply.opt and reply.opt.ttl & DO and len(reply.octets) <= PLAIN_OCTETS


@pytest.mark.parametrize("opcode", [3, 15])
def test_unknown_opcodes_with_edns_are_not_implemented(client, opcode):
    """ISC's `edns` test of opcodes: the reply may be a header, or have an OPT record."""
    for edns in (opt(), opt(version=1)):
        reply = client.send(message(QUESTION, edns, opcode=opcode))
        assert reply.rcode in (NOTIMP, BADVERS) and reply.counts[1:3] == (0, 0)


@pytest.mark.parametrize("qname, rrtype, rcode", [("nope.svc.local.", "A", NXDOMAIN), ("www.example.com.", "A", REFUSED),
                                                  ("b.ent.svc.local.", "A", NOERROR), ("x.sub.svc.local.", "A", NOERROR),
                                                  ("web.svc.local.", "ANY", NOERROR), (".", "NS", REFUSED)])
def test_every_kind_of_reply_has_an_opt_record_with_do(client, qname, rrtype, rcode):
    for flags in (0, DO):
        reply = client.ask(qname, rrtype, edns=opt(flags=flags))
        assert reply.rcode == rcode and reply.opt.ttl & DO == flags
        assert "RRSIG" not in {rr.type for section in reply.sections for rr in section}


# -- malformed OPT records -----------------------------------------------------------------------------------------------------

MALFORMED = {
    "two": (opt() + opt(), (1, 0, 0, 2)),
    "two with a record between": (opt() + record("x.", "A", b"\x01\x02\x03\x04") + opt(), (1, 0, 0, 3)),
    "in the answer": (opt(), (1, 1, 0, 0)),
    "in the authority": (opt(), (1, 0, 1, 0)),
    "with an owner": (opt(owner=b"\x03web\x00"), (1, 0, 0, 1)),
    "with a pointer as owner": (opt(owner=b"\xc0\x0c"), (1, 0, 0, 1)),
    "length beyond the end": (opt(length=10), (1, 0, 0, 1)),
    "length of 65535": (opt(length=65535), (1, 0, 0, 1)),
    "cut in the head": (opt()[:7], (1, 0, 0, 1)),
    "no length": (opt()[:9], (1, 0, 0, 1)),
    "one octet of options": (opt(b"\x00"), (1, 0, 0, 1)),
    "half an option's head": (opt(b"\x00\x64\x00"), (1, 0, 0, 1)),
    "an option beyond the end": (opt(option(100, b"x", length=10)), (1, 0, 0, 1)),
    "a second option beyond the end": (opt(option(100, b"x") + option(NSID, b"", length=1)), (1, 0, 0, 1)),
    "an option of 65535": (opt(option(COOKIE, b"", length=65535)), (1, 0, 0, 1)),
}


@pytest.mark.parametrize("records, counts", MALFORMED.values(), ids=MALFORMED)
def test_malformed_opt_records_are_format_errors(client, records, counts):
    reply = client.send(message(QUESTION, records, counts=counts))
    assert reply.rcode == FORMERR and reply.counts[1:3] == (0, 0)


def test_an_opt_record_may_be_before_or_after_other_records(client):
    """RFC 6891 section 6.1.1: the OPT record may be anywhere in the additional section."""
    other = record("x.", "A", b"\x01\x02\x03\x04")
    for records in (opt(flags=DO) + other, other + opt(flags=DO)):
        reply = client.send(message(QUESTION, records, counts=(1, 0, 0, 2)))
        assert reply.rcode == NOERROR and reply.opt.ttl & DO


KEY = b"\x04key1\x04Test\x00"
ALGORITHM = name("hmac-sha256.")
SIGNED_AT = b"\x00\x00\x69\x20\x3f\x00\x01\x2c"


def tsig(mac=b"\xab" * 32, algorithm=ALGORITHM, time=SIGNED_AT, original=b"\x12\x34", error=b"\x00\x00", owner=KEY, rdclass=255, ttl=0):
    rdata = algorithm + time + struct.pack("!H", len(mac)) + mac + original + error + b"\x00\x00"
    return owner + struct.pack("!HHIH", 250, rdclass, ttl, len(rdata)) + rdata


@pytest.mark.parametrize("before", [b"", opt(), opt(option(NSID))], ids=["plain", "edns", "nsid"])
@pytest.mark.parametrize("asked", [QUESTION, question("nope.svc.local."), question("www.example.com."), question("svc.local.", "AXFR")])
def test_a_tsig_key_is_unknown(client, before, asked):
    """RFC 8945 section 5.2.1 and 5.3.2: NOTAUTH, BADKEY, no signature, and the query's name, algorithm, time and id."""
    reply = client.send(message(asked, before + tsig(), counts=(1, 0, 0, 2 if before else 1)))
    assert (reply.rcode, reply.counts[1:3], reply.question, reply.has(AA)) == (9, (0, 0), asked, False)
    assert (reply.opt is not None) == bool(before)
    [signature] = reply.sections[2]
    assert (signature.type, signature.rdclass, signature.ttl) == ("TSIG", 255, 0)
    badkey = tsig(mac=b"", error=b"\x00\x11")
    assert reply.octets.endswith(badkey), "the record is the last"


def test_the_name_of_a_tsig_key_may_be_compressed(client):
    reply = client.send(message(QUESTION, tsig(owner=b"\x03key\xc0\x10"), counts=(1, 0, 0, 1)))
    assert reply.rcode == 9 and reply.sections[2][0].owner == "key.svc.local."
    reply = client.send(message(QUESTION, tsig(owner=b"\x00"), counts=(1, 0, 0, 1)))
    assert reply.rcode == 9 and reply.sections[2][0].owner == "."


def test_a_tsig_record_without_room_is_left_out(client):
    """A client without EDNS accepts at most 512 octets."""
    long_key = b"".join(b"\x3f" + b"k" * 63 for _ in range(3)) + b"\x3c" + b"k" * 60 + b"\x00"
    long_name = question(".".join(["x" * 63] * 3 + ["x" * 40]) + ".svc.local.")
    reply = client.send(message(long_name, tsig(owner=long_key, algorithm=long_key), counts=(1, 0, 0, 1)))
    assert reply.rcode == 9 and len(reply.octets) <= (PLAIN_OCTETS if client.transport == "udp" else 65535)


@pytest.mark.parametrize("records, count", [
    (tsig() + opt(), 2), (tsig() + tsig(), 2), (tsig(rdclass=1), 1), (tsig(ttl=1), 1), (record("key.", 250, b"", 255), 1),
    (record("key.", 250, ALGORITHM + SIGNED_AT, 255), 1), (tsig(algorithm=b"\xc0\x0c"), 1),
    (record("key.", 250, ALGORITHM + SIGNED_AT + b"\xff\xff" + b"\x00" * 6, 255), 1),
    (record("key.", 250, ALGORITHM + SIGNED_AT + b"\x00\x00" + b"\x00" * 4 + b"\x00\x06" + b"\x00" * 5, 255), 1),
])
def test_a_tsig_record_that_breaks_the_format(client, records, count):
    """RFC 8945 section 5.2: the record is the last additional one, is not repeated, and is complete."""
    assert client.send(message(QUESTION, records, counts=(1, 0, 0, count))).rcode == FORMERR


def test_a_tsig_record_elsewhere_breaks_the_format(client):
    assert client.send(message(QUESTION, tsig(), counts=(1, 1, 0, 0))).rcode == FORMERR


# -- known options -------------------------------------------------------------------------------------------------------------

def test_nsid_is_returned_when_requested(client):
    """RFC 5001: an empty option requests it."""
    nsid = client.ask(WEB, edns=opt(option(NSID))).option(NSID)
    assert nsid and len(nsid) <= 255
    assert client.ask(WEB, edns=opt()).option(NSID) is None
    for qname in ("nope.svc.local.", "www.example.com.", "x.sub.svc.local."):
        assert client.ask(qname, edns=opt(option(NSID))).option(NSID) is not None


def test_nsid_with_data_is_answered(client):
    """RFC 5001 section 2.1: the query's payload has no meaning, so it is either ignored or an error."""
    reply = client.send(message(QUESTION, opt(option(NSID, b"data"))))
    assert reply.rcode in (NOERROR, FORMERR)


@pytest.mark.parametrize("subnet", [b"\x00\x01\x10\x00\x0a\x01", b"\x00\x01\x00\x00", b"\x00\x02\x38\x00" + b"\x20\x01\x0d\xb8\x00\x00\x00",
                                    b"\x00\x01\x18\x00\x0a\x01\x02"], ids=["/16", "/0", "IPv6", "/24"])
def test_client_subnets_are_not_used(client, subnet):
    """RFC 7871 section 7.2.1: the reply has no option, or one with the query's prefix and scope 0."""
    reply = client.ask(WEB, edns=opt(option(SUBNET, subnet)))
    assert reply.rcode == NOERROR and reply.counts[1] == 2
    assert reply.option(SUBNET) in (None, subnet[:3] + b"\x00" + subnet[4:])


@pytest.mark.parametrize("subnet", [b"", b"\x00", b"\x00\x01\x10", b"\x00\x03\x10\x00\x0a\x01", b"\x00\x01\x21\x00" + b"\x0a" * 5])
def test_client_subnets_that_are_wrong_are_answered(client, subnet):
    reply = client.send(message(QUESTION, opt(option(SUBNET, subnet))))
    assert reply.rcode in (NOERROR, FORMERR, REFUSED)


def test_keepalive_is_sent_over_tcp_only(zoned):
    """RFC 7828 section 3.3.1 and 3.2.1: the unit is 100 ms, and the option is never sent over UDP."""
    over_tcp = Client(zoned.resolver, "tcp").ask(WEB, edns=opt(option(KEEPALIVE)))
    assert struct.unpack("!H", over_tcp.option(KEEPALIVE)) == (300,)
    assert Client(zoned.resolver, "tcp").ask(WEB, edns=opt()).option(KEEPALIVE) is None
    assert Client(zoned.resolver, "udp").ask(WEB, edns=opt(option(KEEPALIVE))).option(KEEPALIVE) is None


def test_keepalive_with_a_time_from_a_client_is_answered(client):
    """RFC 7828 section 3.2.1: a client must not send a time. BIND ignores it, other servers return a format error."""
    reply = client.send(message(QUESTION, opt(option(KEEPALIVE, b"\x00\x64"))))
    assert reply.rcode in (NOERROR, FORMERR)


def test_replies_with_options_are_not_larger_than_the_limit(zoned):
    """A reply with options is not larger than the client's limit: records or options are left out."""
    udp = Client(zoned.resolver, "udp")
    for size in range(512, 760, 4):
        reply = udp.ask("medium.svc.local.", edns=opt(option(NSID) + COOKIE_OPTION, size=size))
        assert len(reply.octets) <= size and reply.opt


# -- sizes ----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("size", [0, 1, 100, 511, 512, 600, 1232, 1400, 4096, 65535])
@pytest.mark.parametrize("qname", ["web.svc.local.", "medium.svc.local.", "big.svc.local.", "mails.wide.local.", "x.glue.wide.local."])
def test_replies_are_not_larger_than_the_advertised_size(zoned, size, qname):
    """`Client` compares the reply with the smaller of the client's size, at least 512, and 1232."""
    reply = Client(zoned.resolver, "udp").ask(qname, "MX" if "mails" in qname else "A", edns=opt(size=size))
    assert reply.rcode == NOERROR and reply.opt
    assert Client(zoned.resolver, "tcp").ask(qname, edns=opt(size=size)).rcode == NOERROR


# -- RFC 8906: every query is answered -------------------------------------------------------------------------------------------

OPTIONS = [b"", opt(), opt(flags=DO), opt(version=1), opt(option(100)), opt(size=0), opt(ALL_OPTIONS, flags=0xFFFF), opt(length=3)]
TYPES = [0, 1, 2, 5, 6, 12, 15, 16, 28, 33, 35, 39, 41, 43, 46, 48, 64, 65, 249, 250, 251, 255, 257, 65280, 65535]
FLAGS = [0, RD, 0x07F0]
NAMES = [name("svc.local."), name(WEB), name("nope.svc.local."), name("x.sub.svc.local."), name("example.com."), b"\x00", b"\xc0\x0c"]
CLASSES = [1, CH, HS, ANY_CLASS, 0]


def matrix():
    for opcode, edns in itertools.product(range(16), OPTIONS):
        for flags, qname, rrtype, rdclass in itertools.product(FLAGS, NAMES, TYPES, CLASSES):
            # Every pair of values is combined; all combinations would be a million messages.
            if (opcode + len(edns) + flags + len(qname) * 3 + rrtype * 7 + rdclass * 11) % 13 == 0:
                yield message(qname + struct.pack("!HH", rrtype, rdclass), edns, flags=flags, opcode=opcode)


def test_every_combination_is_answered_over_udp(zoned):
    """Sends 25,000 messages, 50 of them in flight at a time. Each gets a reply with its id."""
    packets = list(matrix())
    assert len(packets) > 20000
    with zoned.resolver.udp_socket() as plain:
        for start in range(0, len(packets), 50):
            batch = packets[start:start + 50]
            for number, packet in enumerate(batch):
                plain.send(struct.pack("!H", number) + packet[2:])
            missing = set(range(len(batch)))
            while missing:
                try:
                    reply = plain.recv(65535)
                except TimeoutError:
                    pytest.fail(f"silence to {[batch[number].hex() for number in missing]}")
                _check_combination(batch, missing, reply)


def _check_combination(batch, missing, reply):
    ident, flags, counts = header(reply)
    missing.remove(ident)
    asked = header(batch[ident])[1]
    assert flags & 0x8000 and flags >> 11 & 0xF == asked >> 11 & 0xF and flags & (RA | Z | 0x0020) == 0, batch[ident].hex()
    assert len(reply) <= UDP_OCTETS_MAX and counts[0] <= 1
    if asked >> 11 & 0xF not in (0, NOTIFY, UPDATE):
        assert flags & 0xF in (NOTIMP, FORMERR) or counts[3] == 1, batch[ident].hex()


def test_every_combination_is_answered_over_tcp(zoned):
    """Pipelines a part of the messages on TCP connections. A message that cannot be parsed does not end its connection."""
    packets = list(itertools.islice((packet for packet in matrix() if packet[14:18] != b"\x00\xfb\x00\x01"), 0, None, 17))
    for start in range(0, len(packets), 100):
        batch = [packet for packet in packets[start:start + 100] if not _is_transfer(packet)]
        with zoned.resolver.tcp_socket() as stream:
            stream.sendall(b"".join(struct.pack("!HH", len(packet), number) + packet[2:] for number, packet in enumerate(batch)))
            stream.shutdown(1)
            octets = b""
            while more := stream.recv(65536):
                octets += more
        replies = []
        while octets:
            size = struct.unpack_from("!H", octets)[0]
            replies.append(struct.unpack_from("!H", octets, 2)[0])
            octets = octets[2 + size:]
        assert sorted(replies) == list(range(len(batch)))


def _is_transfer(packet):
    """True for AXFR and IXFR, whose reply may have more than one message."""
    return any(struct.pack("!H", rrtype) in packet[12:40] for rrtype in (251, 252))
