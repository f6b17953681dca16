"""Answers from static zones (RFC 1034 4.3.2, 2308, 4592, 6672, 8020). The zone files are in zones/."""

import re
import struct
import subprocess
from pathlib import Path

import pytest

ZONE = "svc.local."
SERVERS_TTL, NEGATIVE_TTL = 300, 60


def ask(zoned, name, rrtype="A", *options):
    full = f"{name}.{ZONE}" if name else ZONE
    return zoned.dig(full, rrtype, *options)


def chain(found):
    """The records of the answer as (owner without the zone, type, data)."""
    return [(record.name.removesuffix(f".{ZONE}"), record.type, record.data) for record in found.answer]


@pytest.mark.parametrize("name, rrtype, data", [
    ("web", "A", ["10.9.0.1", "10.9.0.2"]), ("i-2.web", "AAAA", ["fd00::2"]), ("ipv6", "AAAA", ["fd00::1"]),
    ("", "MX", [f"10 mail.{ZONE}"]), ("", "NS", [f"ns.{ZONE}"]), ("", "TXT", ['"apex" "two strings"']),
    ("", "CAA", ['0 issue "ca.example"']), ("a.b.ent", "A", ["10.9.0.3"]), ("host-2", "A", ["10.9.7.2"]),
    ("dname", "A", ["10.9.3.1"]), ("dname", "DNAME", [f"target.{ZONE}"]),
    ("", "SOA", [f"ns.{ZONE} hostmaster.{ZONE} 2026010101 7200 900 1209600 60"])], ids=str)
def test_positive_answers(zoned, name, rrtype, data):
    found = ask(zoned, name, rrtype)
    found.assert_positive(*data)
    assert "ra" not in found.flags and found.authority == []
    assert found.ttls() == {SERVERS_TTL}


@pytest.mark.parametrize("name", ["nope", "a.nope", "x.i-1.web", "x.y.wild", "x.host.y.wild", "x.*.wild", "c.ent", "nope.target"])
def test_names_that_do_not_exist(zoned, name):
    for rrtype in ("A", "TXT", "SRV"):
        found = ask(zoned, name, rrtype)
        found.assert_nxdomain(ZONE)
        assert found.soa.ttl == NEGATIVE_TTL


@pytest.mark.parametrize("name, rrtype", [
    ("i-1.web", "AAAA"), ("web", "SRV"), ("", "A"), ("foo.wild", "AAAA"), ("", "TYPE666"), ("web", "SOA"),
    # Empty non-terminals: there are names below them.
    ("_tcp.web", "A"), ("_tcp.web", "SRV"), ("b.ent", "A"), ("ent", "A"), ("wild", "A"), ("y.wild", "A"), ("star", "A"),
    # A wildcard that exists without records.
    ("*.star", "A"), ("foo.star", "A")], ids=str)
def test_names_without_that_type(zoned, name, rrtype):
    found = ask(zoned, name, rrtype)
    found.assert_nodata(ZONE)
    assert found.soa.ttl == NEGATIVE_TTL


@pytest.mark.parametrize("name", ["foo.wild", "foo.bar.wild", "*.wild", "_x.wild"])
def test_wildcards_answer_with_the_name_asked_for(zoned, name):
    found = ask(zoned, name)
    found.assert_positive("10.9.1.1")
    assert found.owners() == {f"{name}.{ZONE}"}
    ask(zoned, name, "TXT").assert_positive('"wild"')


def test_wildcards_stop_at_a_closer_encloser(zoned):
    ask(zoned, "host.y.wild").assert_positive("10.9.1.2")
    ask(zoned, "x.y.wild").assert_nxdomain(ZONE)
    ask(zoned, "below.*.star").assert_positive("10.9.1.3")


def test_wildcard_aliases_are_followed(zoned):
    found = ask(zoned, "foo.wildalias")
    assert chain(found)[0] == ("foo.wildalias", "CNAME", f"web.{ZONE}")
    assert sorted(data for _, rrtype, data in chain(found) if rrtype == "A") == ["10.9.0.1", "10.9.0.2"]


def test_aliases_are_followed_in_order(zoned):
    found = ask(zoned, "alias2")
    assert found.status == "NOERROR" and "aa" in found.flags and found.soa is None
    assert chain(found)[:2] == [("alias2", "CNAME", f"alias.{ZONE}"), ("alias", "CNAME", f"web.{ZONE}")]
    assert sorted(chain(found)[2:]) == [("web", "A", "10.9.0.1"), ("web", "A", "10.9.0.2")]
    assert chain(ask(zoned, "alias-to-wild")) == [
        ("alias-to-wild", "CNAME", f"any.wild.{ZONE}"), ("any.wild", "A", "10.9.1.1")]


@pytest.mark.parametrize("rrtype", ["CNAME", "ANY"])
def test_a_query_for_the_alias_itself_is_not_followed(zoned, rrtype):
    assert chain(ask(zoned, "alias2", rrtype, "+notcp")) == [("alias2", "CNAME", f"alias.{ZONE}")]


def test_an_alias_to_a_missing_name_is_nxdomain(zoned):
    found = ask(zoned, "alias-to-nothing")
    assert found.status == "NXDOMAIN" and "aa" in found.flags
    assert chain(found) == [("alias-to-nothing", "CNAME", f"nothing.{ZONE}")]
    assert (found.soa.name, found.soa.ttl) == (ZONE, NEGATIVE_TTL)


def test_an_alias_to_a_name_without_that_type_is_nodata(zoned):
    for name, rrtype in (("alias", "TXT"), ("alias-to-ent", "A")):
        found = ask(zoned, name, rrtype)
        assert found.status == "NOERROR" and len(found.answer) == 1
        assert (found.soa.name, found.soa.ttl) == (ZONE, NEGATIVE_TTL)


def test_an_alias_out_of_the_zone_is_left_to_the_resolver(zoned):
    found = ask(zoned, "out")
    assert found.status == "NOERROR" and "aa" in found.flags
    assert chain(found) == [("out", "CNAME", "www.example.com.")]
    assert found.authority == []


@pytest.mark.parametrize("name, loop", [("loop1", 2), ("self", 1)])
def test_alias_loops_end(zoned, name, loop):
    found = ask(zoned, name)
    assert found.status == "SERVFAIL" or (found.status == "NOERROR" and len(found.answer) == loop)


def test_srv_answers_carry_the_addresses_of_every_target(zoned):
    found = ask(zoned, "_http._tcp.web", "SRV")
    found.assert_positive(f"1 1 8080 i-1.web.{ZONE}", f"1 1 8081 i-2.web.{ZONE}")
    assert found.additional_data("A") == {(f"i-1.web.{ZONE}", "10.9.0.1"), (f"i-2.web.{ZONE}", "10.9.0.2")}
    assert found.additional_data("AAAA") == {(f"i-2.web.{ZONE}", "fd00::2")}


@pytest.mark.parametrize("name, rrtype", [("x.sub", "A"), ("sub", "A"), ("sub", "NS"), ("hidden.sub", "A"), ("ns.sub", "A"),
                                          ("a.b.c.sub", "TXT"), ("sub", "SOA"), ("x.sub", "DS")], ids=str)
def test_delegated_names_are_referred_with_glue(zoned, name, rrtype):
    found = ask(zoned, name, rrtype)
    assert found.status == "NOERROR" and "aa" not in found.flags and found.answer == []
    assert {(record.name, record.type, record.data) for record in found.authority} == {
        (f"sub.{ZONE}", "NS", f"ns.sub.{ZONE}"), (f"sub.{ZONE}", "NS", f"ns.{ZONE}")}
    assert (f"ns.sub.{ZONE}", "10.9.2.53") in found.additional_data("A")
    assert (f"ns.sub.{ZONE}", "fd00::253") in found.additional_data("AAAA")


def test_a_delegation_to_a_server_elsewhere_has_no_glue(zoned):
    found = ask(zoned, "x.away")
    assert found.status == "NOERROR" and "aa" not in found.flags
    assert [record.data for record in found.authority] == ["ns.example.com."]
    assert found.additional == []


def test_an_alias_into_a_delegation_ends_in_a_referral(zoned):
    found = ask(zoned, "alias-to-sub")
    assert chain(found) == [("alias-to-sub", "CNAME", f"x.sub.{ZONE}")]
    assert {record.type for record in found.authority} == {"NS"}


def test_ds_is_answered_by_the_parent_zone(zoned):
    assert ask(zoned, "signed", "DS").data()[0].startswith("12345 13 2 ")
    assert "aa" in ask(zoned, "signed", "DS").flags
    ask(zoned, "sub", "DS").assert_nodata(ZONE)
    ask(zoned, "", "DS").assert_nodata(ZONE)


def test_dname_redirects_what_is_below_it(zoned):
    found = ask(zoned, "host.dname")
    assert found.status == "NOERROR" and "aa" in found.flags
    assert chain(found) == [("dname", "DNAME", f"target.{ZONE}"), ("host.dname", "CNAME", f"host.target.{ZONE}"),
                            ("host.target", "A", "10.9.3.2")]
    missing = ask(zoned, "nope.dname")
    assert missing.status == "NXDOMAIN" and missing.soa.name == ZONE
    assert [rrtype for _, rrtype, _ in chain(missing)] == ["DNAME", "CNAME"]


def test_a_redirected_name_that_gets_too_long_is_yxdomain(zoned):
    prefix = ".".join(["l" * 63] * 3 + ["l" * 45])
    found = ask(zoned, f"{prefix}.dname")
    assert found.status == "YXDOMAIN"
    assert chain(found) == [("dname", "DNAME", f"target.{ZONE}")]


def test_unknown_types_are_served_as_they_are(zoned):
    found = ask(zoned, "strange", "TYPE65280")
    found.assert_positive("\\# 4 DEADBEEF")
    ask(zoned, "known-as-unknown", "A").assert_positive("10.9.6.1")
    ask(zoned, "strange", "TYPE65281").assert_nodata(ZONE)


# Types that earlier releases of BIND 9.18 do not read.
NEW_TYPES = {"DSYNC", "HHIT", "BRID", "RESINFO", "WALLET"}


def compiled_by_bind(zone, directory):
    """The records that BIND reads in a zone file, as (owner as labels, number of the type, data in hex)."""
    text = (Path(__file__).parent / "zones" / f"{zone}zone").read_text()
    file, compiled = directory / "zone", directory / "raw"
    while True:
        file.write_text(text)
        done = subprocess.run(["named-compilezone", "-i", "none", "-k", "ignore", "-F", "raw", "-o", compiled, zone, file],
                              capture_output=True, text=True, timeout=60)
        if done.returncode == 0:
            break
        unknown = re.search(r"unknown RR type '(\w+)'", done.stdout + done.stderr)
        assert unknown and unknown[1] in NEW_TYPES, done.stdout + done.stderr
        text = re.sub(rf"^\S+\s+{unknown[1]}\s.*\n", "", text, flags=re.MULTILINE)
    rest = compiled.read_bytes()[24:]
    while rest:
        length, _, number, _, _, count, size = struct.unpack(">IHHHIIH", rest[:20])
        name, rdatas, rest = rest[20:20 + size], rest[20 + size:length], rest[length:]
        labels = []
        while name[0]:
            labels.append(name[1:1 + name[0]])
            name = name[1 + name[0]:]
        for _ in range(count):
            size = int.from_bytes(rdatas[:2], "big")
            yield labels, number, rdatas[2:2 + size].hex()
            rdatas = rdatas[2 + size:]


def test_all_types_are_served_with_the_data_that_bind_reads(zoned, tmp_path):
    records = list(compiled_by_bind("types.local.", tmp_path))
    assert len({number for _, number, _ in records}) > 60
    for labels, number, data in records:
        name = ".".join("".join(f"\\{octet:03}" for octet in label) for label in labels) + "."
        found = zoned.dig(name, f"TYPE{number}", "+unknownformat")
        size, hexadecimal = found.data()[0].removeprefix("\\# ").partition(" ")[::2]
        assert len(found.answer) == 1 and found.status == "NOERROR", found.text
        shown = hexadecimal.replace(" ", "").lower()
        if number == 6:
            continue  # The served serial differs from that of the zone file, because it grows with each edit.
        assert (int(size), shown) == (len(data) // 2, data), found.text


@pytest.mark.parametrize("rrtype, start", [
    ("NAPTR", '100 10 "u" "E2U+sip"'), ("TLSA", "3 1 1 0123456789ABCDEF"), ("SSHFP", "4 2 0123456789ABCDEF"),
    ("LOC", "52 31 0.000 N"), ("URI", '10 1 "https://svc.local/"'), ("RP", f"hostmaster.{ZONE} web.{ZONE}"),
    ("TXT", '"semicolon; and \\"quotes\\""'), ("PTR", f"web.{ZONE}")])
def test_all_common_types_are_served(zoned, rrtype, start):
    data = ask(zoned, "many", rrtype).data()
    assert len(data) == 1 and data[0].startswith(start), data


def test_service_bindings_carry_the_addresses_of_their_targets(zoned):
    service = ask(zoned, "service-mode", "SVCB")
    assert service.data()[0].startswith(f"1 i-2.web.{ZONE} port=53")
    assert service.additional_data("A") == {(f"i-2.web.{ZONE}", "10.9.0.2")}
    assert service.additional_data("AAAA") == {(f"i-2.web.{ZONE}", "fd00::2")}
    own = ask(zoned, "web", "HTTPS")
    assert own.data()[0].startswith('1 . alpn="h2" port=8443')
    assert {data for _, data in own.additional_data("A")} == {"10.9.0.1", "10.9.0.2"}
    alias = ask(zoned, "alias-mode", "HTTPS")
    assert alias.data() == [f"0 web.{ZONE}"]
    assert {data for _, data in alias.additional_data("A")} == {"10.9.0.1", "10.9.0.2"}


def test_an_rrset_has_one_ttl(zoned):
    found = ask(zoned, "mixed")
    found.assert_positive("10.9.5.1", "10.9.5.2")
    assert len(found.ttls()) == 1 and found.ttls() <= {120, 300}


@pytest.mark.parametrize("name", ["WeB.sVc.LoCaL.", "I-1.WEB.svc.LOCAL.", "FoO.WiLd.SvC.lOcAl."])
def test_the_question_is_echoed_byte_for_byte(zoned, name):
    found = zoned.dig(name, "A")
    assert found.status == "NOERROR" and found.answer
    assert found.question == name
    assert found.owners() <= {name, name.lower()}


def test_any_does_not_amplify(zoned):
    for name in ("web", "", "many", "big"):
        found = ask(zoned, name, "ANY", "+notcp", "+ignore")
        assert found.status == "NOERROR"
        assert len({record.type for record in found.answer}) <= 1 and found.size_bytes <= 512


def test_names_out_of_all_zones_are_refused(zoned):
    for name, rrtype in (("www.example.com", "A"), (".", "NS"), ("local", "A"), ("xsvc.local", "A"), (".", "SOA")):
        zoned.dig(name, rrtype).assert_refused()
        zoned.dig(name, rrtype, "+tcp", "+rec").assert_refused()
