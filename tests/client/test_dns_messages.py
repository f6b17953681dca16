"""DNS messages: sizes and truncation, EDNS, flags, refused transfers, and many queries on one connection."""

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from harness.cloudmap import unique
from harness.dns import framed, read_framed

ZONE = "svc.local."
SIZE_WITHOUT_EDNS, SIZE_MAX = 512, 1232


def ask(zoned, name, rrtype="A", *options):
    return zoned.dig(f"{name}.{ZONE}" if name else ZONE, rrtype, *options)


def test_without_edns_512_octets_are_the_limit(zoned):
    for name, records in (("medium", 29), ("big", 30)):
        found = ask(zoned, name, "A", "+ignore")
        assert "tc" in found.flags and found.size_bytes <= SIZE_WITHOUT_EDNS
        assert len(found.answer) == records and found.edns == ""


def test_truncated_answers_keep_the_opt_record(zoned):
    found = ask(zoned, "big", "A", "+ignore", "+edns=0", "+bufsize=1232")
    assert "tc" in found.flags and len(found.answer) == 74
    assert found.edns.startswith("EDNS: version: 0")


@pytest.mark.parametrize("bufsize", [1232, 1400, 4096, 65535])
def test_1232_octets_are_the_limit_even_if_the_client_offers_more(zoned, bufsize):
    found = ask(zoned, "big", "A", "+ignore", "+edns=0", f"+bufsize={bufsize}")
    assert "tc" in found.flags and found.size_bytes <= SIZE_MAX
    assert found.edns.endswith("udp: 1232")
    assert len(ask(zoned, "medium", "A", "+ignore", "+edns=0", f"+bufsize={bufsize}").answer) == 40


@pytest.mark.parametrize("bufsize", [1, 100, 511])
def test_buffers_under_512_octets_count_as_512(zoned, bufsize):
    found = ask(zoned, "_http._tcp.web", "SRV", "+ignore", "+edns=0", f"+bufsize={bufsize}")
    assert "tc" not in found.flags and len(found.answer) == 2 and found.size_bytes > 100


@pytest.mark.parametrize("options", [("+tcp",), ("+tcp", "+edns=0"), ("+edns=0",), ()])
def test_tcp_has_the_whole_answer(zoned, options):
    assert len(ask(zoned, "big", "A", *options).answer) == 120


def test_additionals_are_dropped_without_truncation(shared):
    """Eight SRV records with long ids fit into a datagram, but their addresses do not."""
    cloudmap, zone = shared.cloudmap(), f"{unique('long')}.local"
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", SRV=60)
    for number in range(8):
        cloudmap.instance(service, f"{'i' * 50}{number}", ipv4=f"10.0.0.{number}", ipv6=f"fd00::{number}", port=80)
    over_udp = shared.dig(f"web.{zone}", "SRV", "+ignore", "+edns=0", "+bufsize=1232")
    assert "tc" not in over_udp.flags and len(over_udp.answer) == 8 and over_udp.size_bytes <= SIZE_MAX
    over_tcp = shared.dig(f"web.{zone}", "SRV", "+tcp")
    assert len(over_tcp.additional_data("A")) == len(over_tcp.additional_data("AAAA")) == 8
    without_edns = shared.dig(f"web.{zone}", "SRV", "+ignore")
    assert "tc" in without_edns.flags and 0 < len(without_edns.answer) < 8 and without_edns.additional == []


def test_truncated_answers_have_the_records_that_fit(shared):
    """HAProxy's resolvers accept 512 octets and ignore TC. The records of six tasks with ids of 32 characters do not fit."""
    cloudmap, zone = shared.cloudmap(), f"{unique('production')}.internal"
    service = cloudmap.service(cloudmap.private_namespace(zone), "backend", SRV=60)
    targets = set()
    for number in range(6):
        cloudmap.instance(service, f"{number:032x}", ipv4=f"10.0.0.{number}", port=8080)
        targets.add(f"1 1 8080 {number:032x}.backend.{zone}.")
    whole = shared.dig(f"backend.{zone}", "SRV", "+ignore", "+edns=0").data("SRV")
    assert set(whole) == targets
    seen = set()
    for _ in range(60):
        found = shared.dig(f"backend.{zone}", "SRV", "+ignore")
        assert "tc" in found.flags and found.additional == [] and len(found.data("SRV")) == 5
        seen.update(found.data("SRV"))
    assert seen == targets, "over many queries, every record is answered"


def test_other_edns_versions_are_badvers(zoned):
    found = ask(zoned, "web", "A", "+edns=1", "+noednsneg")
    assert found.status == "BADVERS" and found.answer == []
    assert found.edns.startswith("EDNS: version: 0")


def test_unknown_options_and_flags_are_ignored(zoned):
    option = ask(zoned, "web", "A", "+edns=0", "+ednsopt=100:deadbeef")
    option.assert_positive("10.9.0.1", "10.9.0.2")
    assert not any("100" in line for line in option.options)
    flags = ask(zoned, "web", "A", "+edns=0", "+ednsflags=0x0080")
    flags.assert_positive("10.9.0.1", "10.9.0.2")
    assert "MBZ" not in flags.edns


def test_the_do_flag_is_copied_and_the_zone_is_unsigned(zoned):
    found = ask(zoned, "web", "A", "+dnssec")
    found.assert_positive("10.9.0.1", "10.9.0.2")
    assert "flags: do" in found.edns and "ad" not in found.flags
    assert "flags: do" not in ask(zoned, "web", "A", "+edns=0").edns


def test_client_subnets_do_not_narrow_answers(zoned):
    found = ask(zoned, "web", "A", "+subnet=10.1.0.0/16")
    found.assert_positive("10.9.0.1", "10.9.0.2")
    subnets = [line for line in found.options if "SUBNET" in line]
    assert not subnets or subnets[0].endswith("/0")


def test_queries_without_edns_get_no_opt_record(zoned):
    assert ask(zoned, "web").edns == "" and ask(zoned, "nope").edns == ""


def test_flags_of_the_reply_follow_the_rfcs(zoned):
    found = ask(zoned, "web", "A", "+rec")
    assert "rd" in found.flags and "ra" not in found.flags
    assert "rd" not in ask(zoned, "web", "A", "+norec").flags
    assert "ad" not in ask(zoned, "web", "A", "+adflag").flags
    assert ask(zoned, "web", "A", "+cdflag").status == "NOERROR"
    query = dns.message.make_query(f"web.{ZONE}", "A")
    query.flags |= 0x0040
    reply = dns.query.udp(query, *zoned.dns_address[:1], timeout=5, port=zoned.dns_address[1])
    assert reply.flags & 0x0040 == 0 and reply.rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("name", [ZONE, "production.local."])
def test_transfers_over_udp_are_refused(zoned, name):
    reply = zoned.resolver.exchange_udp(dns.message.make_query(name, "AXFR").to_wire())
    assert dns.message.from_wire(reply).rcode() == dns.rcode.REFUSED


def test_fifty_pipelined_queries_get_fifty_answers(zoned):
    queries = [dns.message.make_query(f"{'web' if number % 2 else 'nope'}.{ZONE}", "A", id=number + 1)
               for number in range(50)]
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(b"".join(framed(query.to_wire()) for query in queries))
        replies = [dns.message.from_wire(read_framed(stream)) for _ in queries]
    assert {reply.id: reply.rcode() for reply in replies} == {
        query.id: dns.rcode.NOERROR if query.id % 2 == 0 else dns.rcode.NXDOMAIN for query in queries}


def extended_errors(zoned, name, rrtype="A"):
    reply = zoned.resolver.ask(name, rrtype, use_edns=0)
    return [option for option in reply.options if option.otype == dns.edns.OptionType.EDE]


def test_refused_queries_have_the_extended_error_not_authoritative(zoned):
    assert [error.code for error in extended_errors(zoned, "www.example.com.")] == [20]


def test_transfers_have_the_extended_error_prohibited(zoned):
    assert [error.code for error in extended_errors(zoned, ZONE, "AXFR")] == [18]


def test_an_answer_without_healthy_instances_has_an_extended_error(shared):
    cloudmap, zone = shared.cloudmap(), f"{unique('ede')}.local"
    service = cloudmap.service(cloudmap.private_namespace(zone), "web", A=60, custom_health=True)
    for number in range(5):
        cloudmap.instance(service, f"i-{number}", ipv4=f"10.0.0.{number}", status="UNHEALTHY")
    errors = extended_errors(shared, f"web.{zone}.")
    assert [(error.code, error.text) for error in errors] == [(0, "5 instances, 0 healthy")]


def test_ordinary_answers_have_no_extended_error(zoned):
    for name in ("web", "nope", "b.ent"):
        assert extended_errors(zoned, f"{name}.{ZONE}") == []
