"""DNS over TCP (RFC 7766): many queries at once, large and slow queries, many connections, and clients that do not read."""

import re
import resource
import socket
import struct

import dns.message
import pytest

from harness.deadline import eventually
from harness.dns import framed, read_framed
from harness.wire import Connection

ZONE = "svc.local."
IDLE_CONNECTIONS = 2_000
# Its replies are large, so that a few of them fill the buffers of a socket.
LARGE = dns.message.make_query(f"big.{ZONE}", "A").to_wire()


def query(ident=1, name=f"web.{ZONE}"):
    return dns.message.make_query(name, "A", id=ident).to_wire()


def is_closed(stream):
    """True if the server closes the connection within the socket's timeout."""
    try:
        return stream.recv(1) == b""
    except ConnectionResetError:
        return True


def answers(stream, ident=1):
    stream.sendall(framed(query(ident)))
    reply = dns.message.from_wire(read_framed(stream))
    return reply.id == ident and len(reply.answer) == 1


def open_connections(server):
    metrics = Connection(server.addresses["admin"]).request("GET", "/metrics").body.decode()
    return int(re.search(r"^\w*dns_tcp_connections (\d+)$", metrics, re.MULTILINE).group(1))


@pytest.fixture
def served(start, zoned):
    """Starts servers with the zone svc.local and more options."""
    def start_one(*options):
        server = start("--store", "memory", *options, wait=False)
        (server.zones / "svc.local.zone").write_bytes((zoned.zones / "svc.local.zone").read_bytes())
        return server.start()
    return start_one


def test_a_query_may_be_split_anywhere_and_followed_by_a_part_of_the_next(zoned):
    whole = framed(query(1)) + framed(query(2))
    for at in range(1, len(whole)):
        with zoned.resolver.tcp_socket() as stream:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream.sendall(whole[:at])
            stream.sendall(whole[at:])
            assert {dns.message.from_wire(read_framed(stream)).id for _ in range(2)} == {1, 2}


def test_a_thousand_queries_in_one_write_get_a_thousand_answers(zoned):
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(b"".join(framed(query(number)) for number in range(1000)))
        assert {dns.message.from_wire(read_framed(stream)).id for _ in range(1000)} == set(range(1000))


def test_the_longest_message_is_read_to_its_end_and_answered(zoned):
    """A query of 65,535 octets, most of them in an unknown option."""
    head = struct.pack("!6H", 7, 0, 1, 0, 0, 1) + b"\x03web\x03svc\x05local\x00" + struct.pack("!2H", 1, 1)
    option = bytes(65_535 - len(head) - 15)
    longest = head + struct.pack("!BHHIH", 0, 41, 1232, 0, 4 + len(option)) + struct.pack("!2H", 65_001, len(option)) + option
    assert len(longest) == 65_535
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(framed(longest))
        reply = dns.message.from_wire(read_framed(stream))
        assert reply.id == 7 and len(reply.answer) == 1
        assert answers(stream)


def test_queries_before_an_empty_message_are_answered(zoned):
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(framed(query()) + b"\x00\x00")
        assert dns.message.from_wire(read_framed(stream)).id == 1
        assert is_closed(stream)


def test_a_new_client_replaces_the_longest_idle_connection(served):
    server = served("--tcp-connections-max", "3")
    streams = []
    for _ in range(3):
        streams.append(server.resolver.tcp_socket())
        assert answers(streams[-1])
    assert answers(streams[0])
    newest = server.resolver.tcp_socket()
    assert answers(newest)
    assert is_closed(streams[1])
    assert answers(streams[0]) and answers(streams[2]) and answers(newest)


def test_a_client_with_too_many_connections_loses_its_own(served):
    server = served("--tcp-connections-per-client-max", "2")
    host, port = server.dns_address
    other = socket.create_connection((host, port), 5, source_address=("127.0.0.2", 0))
    assert answers(other)
    streams = []
    for _ in range(3):
        streams.append(server.resolver.tcp_socket())
        assert answers(streams[-1])
    assert is_closed(streams[0])
    assert answers(streams[1]) and answers(streams[2]) and answers(other)


def test_thousands_of_idle_connections_do_not_block_other_clients(served):
    """Opens idle connections from many addresses while a client sends queries over TCP and UDP."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(IDLE_CONNECTIONS, hard // 4)
    assert wanted >= 200, f"only {hard} open files are allowed (ulimit -Hn)"
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    idle = []
    try:
        server = served()
        host, port = server.dns_address
        for number in range(wanted):
            source = (f"127.0.{1 + number // 250}.{1 + number % 250}", 0)
            idle.append(socket.create_connection((host, port), 5, source_address=source))
        eventually(lambda: open_connections(server) >= wanted)
        with server.resolver.tcp_socket() as stream:
            for ident in range(100):
                assert answers(stream, ident)
                assert len(server.resolver.ask(f"web.{ZONE}").answer) == 1
        assert all(answers(stream) for stream in idle[::100])
    finally:
        for stream in idle:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    eventually(lambda: open_connections(server) == 0)


def test_a_client_that_does_not_read_is_disconnected_and_affects_no_other(zoned):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as deaf, zoned.resolver.tcp_socket() as other:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(1)
        deaf.connect(zoned.dns_address)
        with pytest.raises((TimeoutError, ConnectionError)):
            while True:
                # The server stops reading while its replies are not read.
                deaf.sendall(framed(LARGE) * 100)
        assert answers(other)
        # The server waits long enough to tell this client from a slow one that still reads.
        deaf.settimeout(20)
        with pytest.raises(ConnectionError):
            while True:
                deaf.sendall(framed(LARGE))
        assert answers(other)


def test_a_client_that_reads_slowly_gets_everything(zoned):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(10)
        slow.connect(zoned.dns_address)
        slow.sendall(framed(LARGE) * 200)
        replies = [dns.message.from_wire(read_framed(slow)) for _ in range(200)]
    assert all(len(reply.answer[0]) == 120 for reply in replies)


def test_the_server_stops_at_once_with_connections_open(served):
    server = served()
    streams = [server.resolver.tcp_socket() for _ in range(20)]
    assert all(answers(stream) for stream in streams)
    assert server.stop(4) == 0
    assert all(is_closed(stream) for stream in streams)
