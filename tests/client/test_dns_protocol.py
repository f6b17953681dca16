"""The wire protocol, octet by octet: malformed messages, cookies, options and TCP framing."""

import itertools
import socket
import struct

import dns.edns
import dns.message
import pytest

from harness.dns import framed, header, rcode, read_framed

ZONE = "svc.local."
QUESTION = b"\x03web\x03svc\x05local\x00\x00\x01\x00\x01"
FORMERR, NOTIMP, REFUSED, NOTAUTH = 1, 4, 5, 9


def message(flags=0, question=QUESTION, counts=(1, 0, 0, 0), rest=b"", ident=0x1234):
    return struct.pack("!6H", ident, flags, *counts) + question + rest


def opt(rdata=b"", owner=b"\x00", size=1232, flags=0, length=None):
    return owner + struct.pack("!HHIH", 41, size, flags, len(rdata) if length is None else length) + rdata


def with_opt(*records):
    return message(counts=(1, 0, 0, len(records)), rest=b"".join(records))


def cookie(reply):
    found = [option for option in dns.message.from_wire(reply).options if option.otype == dns.edns.OptionType.COOKIE]
    return found[0].client + found[0].server if found else None


@pytest.fixture
def exchange(zoned):
    """Sends a message over UDP and over TCP. Asserts equal response codes and returns the UDP reply."""
    def both(packet):
        reply = zoned.resolver.exchange_udp(packet)
        with zoned.resolver.tcp_socket() as stream:
            stream.sendall(framed(packet))
            over_tcp = read_framed(stream)
        assert over_tcp is not None and rcode(over_tcp) == rcode(reply)
        return reply
    return both


def assert_formerr(reply, ident=0x1234):
    assert header(reply)[0] == ident and rcode(reply) == FORMERR


@pytest.mark.parametrize("packet", [
    with_opt(opt(), opt()),
    with_opt(opt(length=10)),
    with_opt(opt(rdata=struct.pack("!HH", 100, 10) + b"x")),
    with_opt(opt(rdata=b"\x00\x64\x00")),
    with_opt(opt(owner=b"\x03web\x00")),
    message(counts=(1, 1, 0, 0), rest=opt()),
], ids=["two", "overrun", "option overrun", "half an option", "an owner", "in the answer section"])
def test_malformed_opt_records_are_format_errors(exchange, packet):
    assert_formerr(exchange(packet))


def test_cookies_are_completed_and_recognised(zoned):
    client = bytes.fromhex("0102030405060708")
    first = cookie(zoned.resolver.exchange_udp(with_opt(opt(struct.pack("!HH", 10, 8) + client))))
    assert len(first) == 24 and first[:8] == client
    again = zoned.resolver.exchange_udp(with_opt(opt(struct.pack("!HH", 10, 24) + first)))
    assert rcode(again) == 0 and cookie(again)[:8] == client
    assert "(good)" in zoned.dig(f"web.{ZONE}", "A", f"+cookie={first.hex()}").text


@pytest.mark.parametrize("length", [0, 1, 7, 9, 15, 41])
def test_cookies_of_a_wrong_length_are_format_errors(exchange, length):
    assert_formerr(exchange(with_opt(opt(struct.pack("!HH", 10, length) + b"c" * length))))


def test_a_cookie_alone_is_answered_without_a_question(zoned):
    packet = message(question=b"", counts=(0, 0, 0, 1), rest=opt(struct.pack("!HH", 10, 8) + b"12345678"))
    reply = zoned.resolver.exchange_udp(packet)
    assert rcode(reply) == 0 and len(cookie(reply)) == 24


def test_nsid_returns_the_id_of_the_server(zoned):
    found = zoned.dig(f"web.{ZONE}", "A", "+nsid")
    assert any(line.startswith("NSID:") for line in found.options)
    assert not any("NSID" in line for line in zoned.dig(f"web.{ZONE}", "A", "+edns=0").options)


def test_keepalive_is_sent_over_tcp_only(zoned):
    over_tcp = zoned.dig(f"web.{ZONE}", "A", "+tcp", "+edns=0", "+keepalive")
    assert any("KEEPALIVE" in line.upper() for line in over_tcp.options)
    over_udp = zoned.dig(f"web.{ZONE}", "A", "+edns=0", "+keepalive")
    assert not any("KEEPALIVE" in line.upper() for line in over_udp.options)


def test_idle_connections_stay_open_for_more_than_ten_seconds(zoned):
    packet = message()
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(framed(packet))
        assert read_framed(stream)
        stream.settimeout(11)
        with pytest.raises(TimeoutError):
            stream.recv(1)
        stream.sendall(framed(packet))
        assert read_framed(stream)


def test_idle_connections_are_closed_after_the_timeout_of_the_setting(start):
    server = start("--tcp-idle-timeout-ms", "300")
    with server.resolver.tcp_socket() as stream:
        assert stream.recv(1) == b""


def test_a_query_may_come_octet_by_octet(zoned):
    with zoned.resolver.tcp_socket() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in framed(message()):
            stream.sendall(bytes([octet]))
        assert rcode(read_framed(stream)) == 0


def test_a_half_closed_connection_is_answered(zoned):
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(framed(message()) * 3)
        stream.shutdown(socket.SHUT_WR)
        assert [rcode(read_framed(stream)) for _ in range(3)] == [0, 0, 0]
        assert stream.recv(1) == b""


def test_an_empty_message_closes_the_connection(zoned):
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(b"\x00\x00")
        assert stream.recv(1) == b""


@pytest.mark.parametrize("opcode", [1, 2, 3, 6, 15])
def test_other_opcodes_are_not_implemented(exchange, opcode):
    reply = exchange(message(flags=opcode << 11))
    assert rcode(reply) == NOTIMP
    assert header(reply)[1] >> 11 & 0xF == opcode


@pytest.mark.parametrize("opcode", [4, 5], ids=["NOTIFY", "UPDATE"])
def test_notify_and_update_get_an_error_reply(exchange, opcode):
    question = QUESTION[4:-4] + b"\x00\x06\x00\x01"
    assert rcode(exchange(message(flags=opcode << 11, question=question))) in (NOTIMP, REFUSED, NOTAUTH)


@pytest.mark.parametrize("packet", [
    message(question=b"", counts=(0, 0, 0, 0)), message(question=QUESTION * 2, counts=(2, 0, 0, 0)),
    message(question=b"", counts=(65535, 0, 0, 0))], ids=["none", "two", "65535"])
def test_a_query_with_no_or_several_questions_is_a_format_error(exchange, packet):
    assert_formerr(exchange(packet))


@pytest.mark.parametrize("question", [
    b"", b"\xc0\x0c\x00\x01\x00\x01", b"\xc0\x10\x00\x01\x00\x01\x00\x00", b"\x40abc\x00\x00\x01\x00\x01",
    b"\x80abc\x00\x00\x01\x00\x01", b"\x03web\x03svc\x05loc", b"\x03web\x00\x00\x01", b"\x03web\x00",
    (b"\x3f" + b"l" * 63) * 4 + b"\x00\x00\x01\x00\x01", b"\xff\xff\x00\x01\x00\x01"],
    ids=["header only", "pointer to itself", "pointer forward", "label type 0x40", "label type 0x80", "cut name", "cut type",
         "no type", "256 octets", "pointer out of the message"])
def test_malformed_questions_are_format_errors(exchange, question):
    assert_formerr(exchange(message(question=question)))


@pytest.mark.parametrize("packet", [
    message(flags=0x8000), b"", b"\x12", message()[:11], struct.pack("!6H", 1, 0x8000, 0, 0, 0, 0)],
    ids=["a response", "nothing", "one octet", "eleven octets", "an empty response"])
def test_responses_and_fragments_of_headers_are_dropped(zoned, packet):
    assert zoned.resolver.is_silent_to(packet)


@pytest.mark.parametrize("rdclass", [0, 3, 4, 254, 255, 65535])
def test_other_classes_are_refused(exchange, rdclass):
    reply = exchange(message(question=QUESTION[:-2] + struct.pack("!H", rdclass)))
    assert rcode(reply) in (REFUSED, FORMERR, NOTIMP) if rdclass == 0 else rcode(reply) == REFUSED


@pytest.mark.parametrize("rrtype", [0, 41, 249, 250, 253, 254])
def test_meta_types_have_no_data(exchange, rrtype):
    reply = exchange(message(question=QUESTION[:-4] + struct.pack("!HH", rrtype, 1)))
    assert rcode(reply) in (0, FORMERR, NOTIMP)
    assert header(reply)[2][1] == 0


def test_every_combination_of_flags_and_opcodes_gets_a_reply(zoned):
    options = [b"", opt(), opt(flags=0x8000), opt(flags=0x00010000), opt(struct.pack("!HH", 100, 0)), opt(size=0)]
    types = (1, 6, 28, 33, 250, 251, 252, 255, 65280)
    with zoned.resolver.udp_socket() as plain:
        for opcode, flags, extra, rrtype in itertools.product(range(16), (0, 0x0100, 0x07F0), options, types):
            question = QUESTION[:-4] + struct.pack("!HH", rrtype, 1)
            plain.send(message(flags=opcode << 11 | flags, question=question, counts=(1, 0, 0, 1 if extra else 0), rest=extra))
            assert header(plain.recv(65535))[0] == 0x1234, (opcode, flags, extra, rrtype)


def test_replies_have_the_source_address_that_was_queried(start):
    server = start("--dns", "0.0.0.0:0")
    _, port = server.dns_address
    for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.settimeout(5)
            plain.bind(("127.0.0.9", 0))
            plain.sendto(message(), (host, port))
            assert plain.recvfrom(512)[1] == (host, port)
