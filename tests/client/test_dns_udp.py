"""DNS over UDP: many queries at once, several workers, addresses, limits, ports in use and restarts."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import time
import urllib.request
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest

from harness.deadline import PATIENCE_SECONDS, eventually
from harness.dns import TIMEOUT_SECONDS, header, rcode
from harness.program import free_port

ZONE = "svc.local."
LOOPS = ("auto", "batched", "portable")
NOERROR, FORMERR, NXDOMAIN = 0, 1, 3
IPPROTO_UDP = 17


def query(name, ident=0x1234, rrtype="A", **options):
    message = dns.message.make_query(name, rrtype, id=ident, **options)
    message.flags &= ~dns.flags.RD
    return message.to_wire()


def serve(start, tmp_path_factory, *options):
    """Starts a server with zones/svc.local.zone and these options."""
    directory = tmp_path_factory.mktemp("udp")
    (directory / "zones").mkdir()
    shutil.copy(Path(__file__).parent / "zones" / "svc.local.zone", directory / "zones")
    return start("--store", "memory", *options, directory=directory)


@pytest.fixture
def serve_zone(start, tmp_path_factory):
    return lambda *options: serve(start, tmp_path_factory, *options)


@pytest.fixture(scope="module", params=LOOPS)
def shared_loop(request, start_shared):
    """A server with two workers, shared by the tests of the module that do not affect each other."""
    server = start_shared("--store", "memory", "--workers", "2", "--udp-loop", request.param)
    shutil.copy(Path(__file__).parent / "zones" / "svc.local.zone", server.zones)
    server.reload()
    eventually(lambda: server.dig(f"web.{ZONE}").status == "NOERROR")
    return server


def metric(server, name, **labels):
    """The value of a metric, or 0 if it does not exist."""
    wanted = "cloudmap_dns_" + name
    if labels:
        wanted += "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
    with urllib.request.urlopen(f"{server.admin_url}/metrics", timeout=TIMEOUT_SECONDS) as response:
        lines = response.read().decode().splitlines()
    return sum(int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(wanted + " "))


# -- many at once -----------------------------------------------------------------------------------------------------


def test_a_thousand_queries_in_one_burst_are_answered_right(shared_loop):
    """Each query has its own name and id. Queries that a full buffer dropped are sent again, as UDP clients do."""
    resolver = shared_loop.resolver
    clients = [resolver.udp_socket() for _ in range(10)]
    names = {ident: (f"web.{ZONE}" if ident % 2 else f"nope{ident}.{ZONE}") for ident in range(1000)}
    waiting = {ident: query(name, ident) for ident, name in names.items()}
    replies = {}
    end = time.monotonic() + PATIENCE_SECONDS
    while waiting:
        assert time.monotonic() < end, f"{len(waiting)} without a reply"
        for ident, packet in waiting.items():
            clients[ident % len(clients)].send(packet)
        for number, client in enumerate(clients):
            client.settimeout(1)
            expected = {ident for ident in waiting if ident % len(clients) == number}
            with contextlib.suppress(TimeoutError):
                while expected - replies.keys():
                    reply = client.recv(65535)
                    replies[header(reply)[0]] = reply
        waiting = {ident: packet for ident, packet in waiting.items() if ident not in replies}
    for ident, reply in replies.items():
        message = dns.message.from_wire(reply)
        assert message.question[0].name.to_text() == names[ident]
        assert message.rcode() == (NOERROR if ident % 2 else NXDOMAIN)
        assert len(message.answer) == ident % 2
    for client in clients:
        client.close()


def test_queries_of_both_workers_are_counted(shared_loop):
    before = metric(shared_loop, "dns_queries_total", transport="udp")
    batches = metric(shared_loop, "dns_udp_batches_total")
    # Each query has its own source port, so that the kernel distributes them among the workers.
    for _ in range(40):
        assert rcode(shared_loop.resolver.exchange_udp(query(f"web.{ZONE}"))) == NOERROR
    eventually(lambda: metric(shared_loop, "dns_queries_total", transport="udp") == before + 40)
    assert metric(shared_loop, "dns_udp_batches_total") == batches + 40
    assert metric(shared_loop, "dns_responses_total", rcode="NOERROR") >= 40


def udp_threads(server):
    tasks = Path(f"/proc/{server.process.pid}/task").iterdir()
    return sum((task / "comm").read_text().startswith("dns-udp-") for task in tasks)


@pytest.mark.parametrize("options, expected", [
    ((), len(os.sched_getaffinity(0))), (("--workers", "3"), 3), (("--workers", "3", "--udp-loop", "portable"), 3)])
def test_there_is_a_thread_for_each_worker(start, options, expected):
    server = start("--store", "memory", *options)
    # Threads set their name after their start.
    eventually(lambda: udp_threads(server) == expected)


def test_there_are_as_many_workers_as_usable_cpus(start):
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        server = start("--store", "memory")
    finally:
        os.sched_setaffinity(0, allowed)
    eventually(lambda: udp_threads(server) == 1)


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_replies_have_the_source_address_that_was_queried_in_both_families(serve_zone, workers):
    port = free_port()
    server = serve_zone("--dns", f"0.0.0.0:{port}", "--dns", f"[::]:{port}", "--workers", workers)
    for family, local, hosts in [
            (socket.AF_INET, "127.0.0.9", ["127.0.0.1", "127.0.0.2", "127.1.2.3"]), (socket.AF_INET6, "::1", ["::1"])]:
        with socket.socket(family, socket.SOCK_DGRAM) as plain:
            plain.settimeout(TIMEOUT_SECONDS)
            plain.bind((local, 0))
            # Send all queries before reading a reply, so that a batch of the server may have several addresses.
            asked = {ident: hosts[ident % len(hosts)] for ident in range(30)}
            for ident, host in asked.items():
                plain.sendto(query(f"web.{ZONE}", ident), (host, port))
            for _ in asked:
                reply, source = plain.recvfrom(65535)
                assert source[:2] == (asked[header(reply)[0]], port)
    assert server.dig(f"web.{ZONE}").status == "NOERROR"


def test_every_address_is_served(serve_zone):
    server = serve_zone("--dns", "127.0.0.1:0", "--dns", "127.0.0.2:0", "--dns", "[::1]:0", "--workers", "2")
    listening = [fields["address"] for _, fields in server.log if fields.get("service") == "dns"]
    assert len(listening) == 3
    for address in listening:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as plain:
            plain.settimeout(TIMEOUT_SECONDS)
            plain.connect((host, int(port)))
            plain.send(query(f"web.{ZONE}"))
            assert rcode(plain.recv(65535)) == NOERROR


# -- datagrams that are not queries -----------------------------------------------------------------------------------


def test_a_datagram_that_is_too_long_gets_a_format_error(shared_loop):
    packet = query(f"web.{ZONE}")
    whole = packet + bytes(4096 - len(packet))
    cut = whole + b"\x00"
    reply = shared_loop.resolver.exchange_udp(cut)
    assert reply == struct.pack("!6H", 0x1234, 0x8000 | FORMERR, 0, 0, 0, 0)
    # A long datagram with the QR flag is a response, and gets no reply.
    assert shared_loop.resolver.is_silent_to(cut[:2] + b"\x80" + cut[3:])
    assert rcode(shared_loop.resolver.exchange_udp(packet)) == NOERROR


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def test_datagrams_from_port_0_get_no_reply(shared_loop):
    """A datagram from port 0 needs a raw socket, and so root."""
    before = metric(shared_loop, "dns_ignored_total", transport="udp")
    queries = metric(shared_loop, "dns_queries_total", transport="udp")
    errors = metric(shared_loop, "dns_send_errors_total", transport="udp")
    host, port = shared_loop.dns_address
    for payload in (query(f"web.{ZONE}"), query(f"web.{ZONE}") + bytes(5000)):
        length = 8 + len(payload)
        pseudo = socket.inet_aton("127.0.0.1") + socket.inet_aton(host) + struct.pack("!BBH", 0, IPPROTO_UDP, length)
        head = struct.pack("!HHH", 0, port, length)
        packet = head + struct.pack("!H", checksum(pseudo + head + b"\x00\x00" + payload)) + payload
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_UDP) as raw:
            raw.sendto(packet, (host, 0))
    eventually(lambda: metric(shared_loop, "dns_ignored_total", transport="udp") == before + 2)
    assert metric(shared_loop, "dns_queries_total", transport="udp") == queries
    assert metric(shared_loop, "dns_send_errors_total", transport="udp") == errors


# -- ports and stops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--workers", "1"), ("--udp-loop", "portable")])
def test_a_port_of_another_server_is_in_use(start, options):
    first = start("--store", "memory", "--workers", "2")
    address = "{}:{}".format(*first.dns_address)
    second = start("--store", "memory", "--dns", address, *options, wait=False).launch()
    assert second.wait() == 1
    port = first.dns_address[1]
    assert f"cannot listen on {address} (UDP and TCP); if another program uses port {port}, stop it" in second.log_tail()
    assert rcode(first.resolver.exchange_udp(query("."))) is not None


def test_a_port_that_other_programs_share_is_in_use(start):
    """A program that shares its UDP port (SO_REUSEPORT) would get a part of the queries."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        server = start("--store", "memory", "--dns", "127.0.0.1:{}".format(other.getsockname()[1]), wait=False).launch()
        assert server.wait() == 1
        assert "cannot listen on" in server.log_tail()


@pytest.mark.parametrize("udp_loop", LOOPS)
def test_a_restart_can_bind_the_port_again(serve_zone, udp_loop):
    server = serve_zone("--workers", "2", "--udp-loop", udp_loop)
    port = server.dns_address[1]
    server.options += ["--dns", f"127.0.0.1:{port}"]
    for _ in range(3):
        server.restart()
        assert server.dns_address[1] == port
        assert server.dig(f"web.{ZONE}").status == "NOERROR"
    server.kill9()
    server.start()
    assert server.dig(f"web.{ZONE}").status == "NOERROR"


@pytest.mark.parametrize("udp_loop", LOOPS)
def test_a_stop_in_the_middle_of_queries_is_orderly(serve_zone, udp_loop):
    server = serve_zone("--workers", "2", "--udp-loop", udp_loop)
    with server.resolver.udp_socket() as client:
        packet = query(f"web.{ZONE}")
        client.settimeout(TIMEOUT_SECONDS)
        for _ in range(10):
            client.send(packet)
            assert rcode(client.recv(65535)) == NOERROR
        server.process.send_signal(signal.SIGTERM)
        # The client keeps sending until the socket is closed.
        with contextlib.suppress(OSError):
            while server.process.poll() is None:
                client.send(packet)
                client.settimeout(0.05)
                client.recv(65535)
    assert server.wait() == 0
    assert not any(fields.get("message") == "not everything stopped in time" for _, fields in server.log)


# -- response rate limiting -------------------------------------------------------------------------------------------


def ask(server, count):
    """Sends queries, waits until the server has answered or dropped each of them, and returns the replies."""
    with server.resolver.udp_socket() as client:
        before = metric(server, "dns_queries_total", transport="udp")
        for ident in range(count):
            client.send(query(f"web.{ZONE}", ident))
        eventually(lambda: metric(server, "dns_queries_total", transport="udp") == before + count)
        client.setblocking(False)
        replies = []
        with contextlib.suppress(BlockingIOError):
            while True:
                replies.append(client.recv(65535))
    return replies


def test_there_is_no_rate_limit_unless_it_is_set(serve_zone):
    server = serve_zone("--workers", "1")
    assert len(ask(server, 200)) == 200


# More replies than the limit's five may be sent if the queries take longer than a second; the slip counts those above it.
@pytest.mark.parametrize("slip", [0, 1, 2, 3])
@pytest.mark.parametrize("udp_loop", LOOPS)
def test_responses_over_the_rate_limit_are_dropped_or_slipped(serve_zone, slip, udp_loop):
    server = serve_zone("--workers", "1", "--udp-loop", udp_loop, "--rate-limit-per-second", "5",
                        "--rate-limit-slip", slip)
    replies = [dns.message.from_wire(reply) for reply in ask(server, 100)]
    whole = [reply for reply in replies if not reply.flags & dns.flags.TC]
    slipped = [reply for reply in replies if reply.flags & dns.flags.TC]
    assert len(whole) >= 5
    limited = 100 - len(whole)
    assert len(slipped) == (limited // slip if slip else 0)
    for reply in slipped:
        assert reply.question and not reply.answer and not reply.authority and reply.rcode() == NOERROR
    assert metric(server, "dns_rate_limited_total", outcome="slipped") == len(slipped)
    assert metric(server, "dns_rate_limited_total", outcome="dropped") == limited - len(slipped)
    # The limit does not apply to TCP.
    for _ in range(20):
        assert server.resolver.ask(f"web.{ZONE}", tcp=True).answer


def test_a_slipped_response_has_the_clients_edns(serve_zone):
    server = serve_zone("--workers", "1", "--rate-limit-per-second", "1", "--rate-limit-slip", "1")
    with server.resolver.udp_socket() as client:
        def slipped():
            client.send(query(f"web.{ZONE}", use_edns=0, want_dnssec=True))
            reply = dns.message.from_wire(client.recv(65535))
            return reply if reply.flags & dns.flags.TC else None
        reply = eventually(slipped)
    assert (reply.edns, reply.payload, reply.ednsflags & dns.flags.DO) == (0, 1232, dns.flags.DO)


def test_clients_with_a_good_cookie_are_not_rate_limited(serve_zone):
    server = serve_zone("--workers", "1", "--rate-limit-per-second", "1", "--rate-limit-slip", "1")

    def with_cookie(client, cookie):
        client.send(query(f"web.{ZONE}", use_edns=0, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)]))
        reply = dns.message.from_wire(client.recv(65535))
        found = [option for option in reply.options if option.otype == dns.edns.OptionType.COOKIE]
        return reply, found[0].client + found[0].server if found else None

    with server.resolver.udp_socket() as client:
        _, cookie = with_cookie(client, b"8 octets")
        assert len(cookie) == 24
        for _ in range(50):
            reply, cookie = with_cookie(client, cookie)
            assert reply.answer and not reply.flags & dns.flags.TC
        # A client with an invented cookie is limited.
        forged, _ = with_cookie(client, b"8 octets" + b"f" * 16)
        forged_again, _ = with_cookie(client, b"8 octets" + b"f" * 16)
        assert forged.flags & dns.flags.TC or forged_again.flags & dns.flags.TC
