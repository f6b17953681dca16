"""Zone transfers (RFC 5936, 1995), NOTIFY (RFC 1996), and serials, which never decrease, not even after a restart."""

import itertools
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from harness.cloudmap import unique
from harness.deadline import eventually
from harness.dns import Resolver, framed, read_framed
from harness.program import free_port

SOA = "@ 300 IN SOA ns hostmaster 1 7200 900 1209600 60\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n"
APEX = "production.local."


def transferred(server, zone):
    """The records of a transfer in their order: (owner, ttl, type, data)."""
    text = server.resolver.dig_text(zone, "AXFR", "+tcp", "+onesoa", "+nocmd", "+nostats")
    rows = [line.split(None, 4) for line in text.splitlines() if line and not line.startswith(";")]
    return [(name, int(ttl), rrtype, data) for name, ttl, _, rrtype, data in rows]


def messages(server, zone, kind="AXFR", serial=None, **options):
    """The messages of a transfer in their order, up to the second SOA or an error."""
    query = dns.message.make_query(zone, kind, **options)
    if serial is not None:
        rdata = f"ns. hostmaster. {serial} 1 1 1 1"
        query.authority.append(dns.rrset.from_text(zone, 0, "IN", "SOA", rdata))
    found, soas = [], 0
    with server.resolver.tcp_socket() as stream:
        stream.sendall(framed(query.to_wire()))
        while soas < 2:
            message = dns.message.from_wire(read_framed(stream), one_rr_per_rrset=True)
            found.append(message)
            soas += sum(rrset.rdtype == dns.rdatatype.SOA for rrset in message.answer)
            if message.rcode() != dns.rcode.NOERROR or (serial is not None and len(message.answer) == 1):
                break
    return found


def refusal(server, zone, kind="AXFR"):
    """The response code and the extended error of a refused transfer."""
    message, = messages(server, zone, kind, use_edns=0)
    return dns.rcode.to_text(message.rcode()), [option.code for option in message.options if option.otype == 15]


@pytest.fixture
def filled(server):
    """A server with default settings and a namespace with two services, some instances and an overlay."""
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace("production.local")
    web = cloudmap.service(namespace, "web", A=60, SRV=30)
    cloudmap.instance(web, "a", ipv4="10.0.0.1", port=80)
    cloudmap.instance(web, "b", ipv4="10.0.0.2", ipv6="fd00::2", port=81)
    down = cloudmap.service(namespace, "down", A=60, custom_health=True)
    cloudmap.instance(down, "sick", ipv4="10.0.0.9", status="UNHEALTHY")
    (server.zones / "production.local.zone").write_text("db 300 IN A 192.0.2.1\ndb 300 IN TXT \"x y\"\n", encoding="utf-8")
    eventually(lambda: server.dig(f"db.{APEX}").data() == ["192.0.2.1"])
    return server


def test_a_transferred_namespace_has_exactly_the_served_records(filled):
    records = transferred(filled, APEX)
    assert records[0][2] == "SOA" and [row for row in records[1:] if row[2] == "SOA"] == []
    own = {row for row in records if row[2] != "SOA" and row[0] not in (APEX, f"ns.dns.{APEX}")}
    assert own == {
        (f"web.{APEX}", 60, "A", "10.0.0.1"), (f"web.{APEX}", 60, "A", "10.0.0.2"),
        (f"web.{APEX}", 30, "SRV", f"1 1 80 a.web.{APEX}"), (f"web.{APEX}", 30, "SRV", f"1 1 81 b.web.{APEX}"),
        (f"a.web.{APEX}", 30, "A", "10.0.0.1"), (f"b.web.{APEX}", 30, "A", "10.0.0.2"),
        (f"b.web.{APEX}", 30, "AAAA", "fd00::2"), (f"sick.down.{APEX}", 60, "A", "10.0.0.9"),
        (f"db.{APEX}", 300, "A", "192.0.2.1"), (f"db.{APEX}", 300, "TXT", '"x y"')}
    assert (APEX, 60, "NS", f"ns.dns.{APEX}") in records and (f"ns.dns.{APEX}", 60, "A", "127.0.0.1") in records


def test_a_transfer_begins_and_ends_with_the_served_soa_and_checks_as_a_zone(filled, tmp_path):
    found = [rrset for message in messages(filled, APEX) for rrset in message.answer]
    assert found[0] == found[-1] and found[0][0].serial == filled.resolver.serial(APEX)
    zone = tmp_path / "zone"
    zone.write_text("".join(f"{rrset.to_text()}\n" for rrset in found[:-1]), encoding="utf-8")
    checked = subprocess.run(["named-checkzone", APEX, str(zone)], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stdout


def test_a_serial_has_one_content_while_the_zone_changes(server):
    """Registrations, health and a zone file change all the time. A secondary must never get contents that never existed."""
    cloudmap = server.cloudmap()
    namespace = cloudmap.private_namespace(APEX.rstrip("."))
    services = [cloudmap.service(namespace, f"s{number}", A=60, custom_health=True) for number in range(4)]
    for service in services:
        cloudmap.instance(service, "first", ipv4="10.0.0.1")
    file, ended = server.zones / f"{APEX}zone", threading.Event()

    def churn(number, service):
        own = server.cloudmap()
        for count in itertools.count():
            own.instance(service, "second", ipv4=f"10.1.{number}.{count % 250}")
            own.set_health(service, "first", "UNHEALTHY" if count % 2 else "HEALTHY")
            if ended.is_set():
                return

    def edit():
        for count in itertools.count():
            new = server.zones / "new"
            new.write_text(f"note 300 IN TXT \"{count}\"\n", encoding="utf-8")
            new.rename(file)
            if ended.wait(0.1):
                return

    threads = [threading.Thread(target=churn, args=each, daemon=True) for each in enumerate(services)]
    threads.append(threading.Thread(target=edit, daemon=True))
    for thread in threads:
        thread.start()
    contents, serials = {}, []
    try:
        for _ in range(400):
            rows = [rrset for message in messages(server, APEX) for rrset in message.answer]
            serials.append(rows[0][0].serial)
            content = frozenset(rrset.to_text() for rrset in rows if rrset.rdtype != dns.rdatatype.SOA)
            assert contents.setdefault(serials[-1], content) == content, serials[-1]
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert serials == sorted(serials) and len(contents) > 20


def test_a_static_zone_is_transferred_whole(zoned):
    records = {(name, rrtype) for name, _, rrtype, _ in transferred(zoned, "svc.local.")}
    assert {("x.sub.svc.local.", "A"), ("ns.sub.svc.local.", "A")} & records, "glue"
    assert {("*.wild.svc.local.", "A"), ("dname.svc.local.", "DNAME"), ("strange.svc.local.", "TYPE65280")} <= records
    assert len([1 for row in transferred(zoned, "svc.local.") if row[0] == "big.svc.local."]) == 120


def test_a_large_zone_comes_in_many_messages_of_one_version(shared):
    cloudmap, zone = shared.cloudmap(), f"{unique('large')}.local."
    service = cloudmap.service(cloudmap.private_namespace(zone.rstrip(".")), "web", A=60, SRV=60)
    for number in range(900):
        cloudmap.instance(service, f"instance-with-a-long-name-{number}", ipv4=f"10.2.{number // 250}.{number % 250}", port=80)
    found = messages(shared, zone, use_edns=0)
    assert len(found) > 3 and all(len(message.to_wire()) < 65_536 for message in found)
    assert found[0].question and found[0].edns == 0
    rows = [rrset for message in found for rrset in message.answer]
    assert len(rows) == 900 * 3 + 4 and len({rrset.to_text() for rrset in rows}) == len(rows) - 1


def test_ixfr_is_one_soa_for_an_up_to_date_secondary_and_the_whole_zone_for_others(filled):
    serial = filled.resolver.serial(APEX)
    for current in (serial, serial + 1):
        message, = messages(filled, APEX, "IXFR", current)
        assert [rrset.rdtype for rrset in message.answer] == [dns.rdatatype.SOA]
    older = [rrset.to_text() for message in messages(filled, APEX, "IXFR", serial - 1) for rrset in message.answer]
    whole = [rrset.to_text() for message in messages(filled, APEX) for rrset in message.answer]
    assert older == whole and len(older) > 10
    text = filled.resolver.dig_text(APEX, f"IXFR={serial - 1}", "+tcp")
    assert text.count("\tSOA\t") == 2
    assert messages(filled, APEX, "IXFR")[0].rcode() == dns.rcode.FORMERR


def over_udp(server, zone, serial=None, **options):
    query = dns.message.make_query(zone, "IXFR", **options)
    if serial is not None:
        query.authority.append(dns.rrset.from_text(zone, 0, "IN", "SOA", f"ns. hostmaster. {serial} 1 1 1 1"))
    octets = server.resolver.exchange_udp(query.to_wire())
    assert len(octets) <= (1232 if options else 512)
    return dns.message.from_wire(octets, one_rr_per_rrset=True)


def test_ixfr_over_udp_is_the_newest_soa(start, filled):
    """RFC 1995 section 2: a client with an older version then asks over TCP."""
    serial = filled.resolver.serial(APEX)
    for options in ({}, {"use_edns": 0, "payload": 1232}):
        for known in (serial - 1, serial, serial + 1):
            message = over_udp(filled, APEX, known, **options)
            assert (message.rcode(), message.edns) == (dns.rcode.NOERROR, 0 if options else -1)
            assert message.flags & dns.flags.AA and not message.flags & dns.flags.TC
            assert [(rrset.name.to_text(), rrset[0].serial) for rrset in message.answer] == [(APEX, serial)]
    assert over_udp(filled, APEX).rcode() == dns.rcode.FORMERR
    assert over_udp(filled, "example.com.", 1).rcode() == dns.rcode.NOTAUTH
    other = start("--transfer-allow", "192.0.2.0/24")
    other.cloudmap().private_namespace("production.local")
    refused = over_udp(other, APEX, 1, use_edns=0)
    assert refused.rcode() == dns.rcode.REFUSED and refused.answer == []
    assert [option.code for option in refused.options if option.otype == 15] == [18]


def test_an_soa_that_does_not_fit_into_udp_is_truncated(server):
    zone = ".".join(["z" * 60] * 3)
    names = ".".join(["n" * 60] * 4)
    (server.zones / f"{zone}.zone").write_text(
        f"@ 300 IN SOA {names}. {names.replace('n', 'm')}. 1 7200 900 1209600 60\n@ 300 IN NS ns\n", encoding="utf-8")
    eventually(lambda: server.dig(zone, "SOA").data() != [])
    truncated = over_udp(server, f"{zone}.", 1)
    assert truncated.flags & dns.flags.TC and truncated.answer == []
    whole = over_udp(server, f"{zone}.", 1, use_edns=0, payload=1232)
    assert not whole.flags & dns.flags.TC and len(whole.answer) == 1


def test_only_allowed_networks_may_transfer(start, filled):
    assert refusal(filled, "example.com.") == ("NOTAUTH", [20])
    assert refusal(filled, f"web.{APEX}") == ("NOTAUTH", [20])
    other = start("--transfer-allow", "192.0.2.0/24", "--transfer-allow", "2001:db8::/32")
    other.cloudmap().private_namespace("production.local")
    for kind in ("AXFR", "IXFR"):
        assert refusal(other, APEX, kind) == ("REFUSED", [18])
    other.dig(APEX, "SOA").assert_positive(other.dig(APEX, "SOA").data()[0])
    assert [message.options for message in messages(other, APEX)] == [()], "no OPT for who has none"


def test_queries_pipelined_with_a_transfer_are_answered_in_order(filled):
    with filled.resolver.tcp_socket() as stream:
        for ident, rrtype in ((1, "A"), (2, "AXFR"), (3, "A")):
            stream.sendall(framed(dns.message.make_query(APEX, rrtype, id=ident).to_wire()))
        idents = []
        while idents[-1:] != [3]:
            idents.append(dns.message.from_wire(read_framed(stream)).id)
    assert idents[0] == 1 and set(idents[1:-1]) == {2}


# -- serials ----------------------------------------------------------------------------------------------------------

def write(server, origin, text):
    path = server.zones / f"{origin}.zone"
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.rename(path)


def edit(server, origin, number, head=""):
    """Changes a zone file and returns the serial of the changed zone."""
    zone = f"{origin}."
    before = server.resolver.serial(zone)
    write(server, origin, f"{head}edit 300 IN A 192.0.2.{number}\n")
    eventually(lambda: server.dig(f"edit.{zone}").data() == [f"192.0.2.{number}"])
    return eventually(lambda: server.resolver.serial(zone) != before and server.resolver.serial(zone))


def test_serials_of_overlaid_namespaces_never_go_back(server):
    server.cloudmap().private_namespace("production.local")
    serials = [edit(server, "production.local", number) for number in range(1, 6)]
    for ending in (server.stop, server.kill9):
        ending()
        server.start()
        serials.append(server.resolver.serial(APEX))
        assert serials[-1] >= serials[-2]
        serials.append(edit(server, "production.local", 10 + len(serials)))
    cloudmap = server.cloudmap()
    cloudmap.service(cloudmap.ListNamespaces()["Namespaces"][0]["Id"], "web", A=60)
    serials.append(server.resolver.serial(APEX))
    assert serials[-1] > serials[-2]
    server.stop()
    (server.zones / "production.local.zone").unlink()
    server.start()
    serials.append(server.resolver.serial(APEX))
    assert serials == sorted(serials) and serials[-1] > serials[-2], serials


def test_the_serial_of_a_static_zone_changes_only_with_its_contents(start):
    server = start(wait=False)
    write(server, "static.test", SOA)
    server.start()
    first = server.resolver.serial("static.test.")
    edited = edit(server, "static.test", 1, SOA)
    assert (first, edited) == (1, 2)
    server.restart()
    assert server.resolver.serial("static.test.") == edited
    server.stop()
    write(server, "static.test", SOA + "other 300 IN A 192.0.2.9\n")
    server.start()
    assert server.resolver.serial("static.test.") == edited + 1


def test_a_damaged_file_of_serials_is_a_warning_and_does_not_stop_the_start(start):
    server = start(wait=False)
    write(server, "static.test", SOA)
    server.start().stop()
    (server.data / "zone-serials").write_text("nonsense\n", encoding="utf-8")
    mark = server.log_mark()
    server.start()
    server.wait_for_log(lambda line, _: "WARN" in line and "zone-serials" in line, since=mark)
    assert server.resolver.serial("static.test.") == 1


# -- a secondary ------------------------------------------------------------------------------------------------------

class Bind:
    """BIND as a secondary server of one zone."""

    def __init__(self, directory, port, zone, primary):
        self.resolver = Resolver("127.0.0.1", port)
        directory.mkdir()
        configuration = directory / "named.conf"
        configuration.write_text(f"""
            options {{
                directory "{directory}"; pid-file none; session-keyfile none; managed-keys-directory "{directory}";
                listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                recursion no; dnssec-validation no; notify no; minimal-responses yes; max-refresh-time 3600;
            }};
            controls {{ }};
            zone "{zone}" {{
                type secondary; file "copy"; masterfile-format text; primaries {{ {primary[0]} port {primary[1]}; }};
            }};
        """, encoding="utf-8")
        folder = os.environ.get("CLOUDMAP_DNS_TEST_BIND")
        program, environment = shutil.which("named"), dict(os.environ)
        if folder:
            program = f"{folder}/usr/sbin/named"
            libraries = [str(path) for path in Path(folder, "usr/lib").glob("*-linux-gnu*")]
            environment["LD_LIBRARY_PATH"] = ":".join(libraries)
        assert program, "no named: run the tests through tests/run, which gets it"
        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([program, "-g", "-n", "1", "-c", str(configuration)], stdout=log,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment)

    def addresses(self, name):
        """The addresses that the secondary answers. Raises AssertionError while it does not answer."""
        try:
            found = self.resolver.ask(name)
        except (OSError, dns.exception.DNSException) as error:
            raise AssertionError(f"{error}\n{self.log.read_text(errors='replace')}") from error
        assert found.rcode() == 0, f"{found}\n{self.log.read_text(errors='replace')}"
        return {rdata.to_text() for rrset in found.answer for rdata in rrset}

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def test_a_secondary_transfers_a_namespace_and_follows_changes_by_notify(start, tmp_path):
    port = free_port()
    server = start("--notify", f"127.0.0.1:{port}")
    cloudmap = server.cloudmap()
    service = cloudmap.service(cloudmap.private_namespace("production.local"), "web", A=60)
    cloudmap.instance(service, "a", ipv4="10.0.0.1")
    secondary = Bind(tmp_path / "bind", port, "production.local", server.dns_address)
    try:
        eventually(lambda: secondary.addresses(f"web.{APEX}") == {"10.0.0.1"})
        # The refresh interval is hours, so that only NOTIFY can cause the next transfer.
        for number in range(2, 5):
            cloudmap.instance(service, f"i-{number}", ipv4=f"10.0.0.{number}")
            eventually(lambda: f"10.0.0.{number}" in secondary.addresses(f"web.{APEX}"))
        cloudmap.deregister(service, "a")
        eventually(lambda: secondary.addresses(f"web.{APEX}") == {"10.0.0.2", "10.0.0.3", "10.0.0.4"})
        assert secondary.resolver.serial(APEX) == server.resolver.serial(APEX)
    finally:
        secondary.stop()
