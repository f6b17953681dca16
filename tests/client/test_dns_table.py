"""A table of answers for all kinds of names, types and results, over UDP and TCP, section by section. The zones are in zones/."""

import struct
from dataclasses import dataclass

import dns.name
import dns.rdata
import dns.rdatatype
import pytest

from harness.packet import (AA, ANY_CLASS, CD, CH, FORMERR, HS, IN, IQUERY, NOERROR, NONE, NOTAUTH, NOTIFY, NOTIMP, NXDOMAIN, QR, RA,
                            RD, REFUSED, STATUS, TC, UPDATE, YXDOMAIN, Z, Client, message, name, opt, question, record)

NEGATIVE_SOA = "@ 60 SOA ns hostmaster 2026010101 7200 900 1209600 60"
WEB = "web 300 A 10.9.0.1; web 300 A 10.9.0.2"
SUB = "sub 300 NS ns.sub; sub 300 NS ns"
SUB_GLUE = "ns.sub 300 A 10.9.2.53; ns.sub 300 AAAA fd00::253; ns 300 A 10.9.0.53"


@dataclass
class Case:
    """A question and its whole answer. Sections are records relative to the zone, separated by `;`."""

    topic: str
    qname: str
    qtype: str = "A"
    answer: str = ""
    authority: str = ""
    additional: str = ""
    rcode: int = NOERROR
    aa: bool = True
    zone: str = "svc.local."

    @property
    def full_name(self):
        return self.qname if self.qname.endswith(".") else f"{self.qname}.{self.zone}" if self.qname else self.zone

    def section(self, text):
        """Converts a section to the format of `Reply.texts`."""
        origin = dns.name.from_text(self.zone)
        return sorted(self._record(line.strip(), origin) for line in text.split(";") if line.strip())

    @staticmethod
    def _record(line, origin):
        owner, ttl, rrtype, data = line.split(maxsplit=3)
        rdata = dns.rdata.from_text("IN", rrtype, data, origin, relativize=False)
        owner = dns.name.from_text(owner, None if owner.endswith(".") else origin).to_text().lower()
        return owner, int(ttl), dns.rdatatype.to_text(dns.rdatatype.from_text(rrtype)), rdata.to_text()

    def __str__(self):
        return f"{self.topic}: {self.qname or '@'} {self.qtype}"


def nodata(topic, qname, qtype="A", **more):
    return Case(topic, qname, qtype, authority=NEGATIVE_SOA, **more)


def nxdomain(topic, qname, qtype="A", answer=""):
    return Case(topic, qname, qtype, answer, NEGATIVE_SOA, rcode=NXDOMAIN)


def refused(topic, qname, qtype="A"):
    return Case(topic, qname, qtype, rcode=REFUSED, aa=False)


def referral(topic, qname, qtype="A", authority=SUB, additional=SUB_GLUE, **more):
    return Case(topic, qname, qtype, authority=authority, additional=additional, aa=False, **more)


ANSWERS = [
    Case("positive", "web", "A", WEB),
    Case("positive", "i-2.web", "AAAA", "i-2.web 300 AAAA fd00::2"),
    Case("positive", "", "SOA", "@ 300 SOA ns hostmaster 2026010101 7200 900 1209600 60"),
    Case("positive", "", "NS", "@ 300 NS ns", additional="ns 300 A 10.9.0.53"),
    Case("positive", "", "MX", "@ 300 MX 10 mail", additional="mail 300 A 10.9.0.25"),
    Case("positive", "", "TXT", '@ 300 TXT "apex" "two strings"'),
    Case("positive", "", "CAA", '@ 300 CAA 0 issue "ca.example"'),
    Case("positive", "many", "PTR", "many 300 PTR web"),
    Case("positive", "many", "RP", "many 300 RP hostmaster web"),
    nxdomain("no such name", "nope"),
    nxdomain("no such name", "a.b.c.nope", "SRV"),
    nxdomain("no such name", "nope", "TYPE65281"),
    nodata("no such type", "i-1.web", "AAAA"),
    nodata("no such type", "web", "MX"),
    nodata("no such type", ""),
    nodata("no such type", "web", "SOA"),
    nodata("no such type", "web", "NS"),
    nodata("empty non-terminal", "_tcp.web"),
    nodata("empty non-terminal", "_tcp.web", "SRV"),
    nodata("empty non-terminal", "b.ent"),
    nodata("empty non-terminal", "ent", "TXT"),
    nxdomain("below a name", "x.i-1.web"),
    nxdomain("below a name", "x._http._tcp.web", "SRV"),
    nxdomain("below a name", "c.ent"),
    Case("wildcard", "foo.wild", "A", "foo.wild 300 A 10.9.1.1"),
    Case("wildcard", "a.b.c.foo.wild", "TXT", 'a.b.c.foo.wild 300 TXT "wild"'),
    Case("wildcard", "*.wild", "A", "*.wild 300 A 10.9.1.1"),
    Case("wildcard", "x.\\*.x.wild", "A", "x.\\*.x.wild 300 A 10.9.1.1"),
    nodata("wildcard without the type", "foo.wild", "AAAA"),
    nodata("wildcard without the type", "*.wild", "AAAA"),
    nodata("wildcard without the type", "foo.star"),
    nodata("closest encloser", "wild"),
    nodata("closest encloser", "y.wild"),
    nxdomain("closest encloser", "x.y.wild"),
    nxdomain("closest encloser", "x.host.y.wild"),
    nxdomain("closest encloser", "x.*.wild"),
    Case("closest encloser", "below.*.star", "A", "below.*.star 300 A 10.9.1.3"),
    nodata("closest encloser", "*.star"),
    Case("alias", "alias", "A", f"alias 300 CNAME web; {WEB}"),
    Case("alias", "alias2", "A", f"alias2 300 CNAME alias; alias 300 CNAME web; {WEB}"),
    Case("alias", "alias2", "CNAME", "alias2 300 CNAME alias"),
    Case("alias", "alias-to-wild", "A", "alias-to-wild 300 CNAME any.wild; any.wild 300 A 10.9.1.1"),
    Case("alias", "foo.wildalias", "A", f"foo.wildalias 300 CNAME web; {WEB}"),
    Case("alias", "foo.wildalias", "CNAME", "foo.wildalias 300 CNAME web"),
    Case("alias", "alias-to-ent", "A", "alias-to-ent 300 CNAME b.ent", NEGATIVE_SOA),
    Case("alias", "alias", "MX", "alias 300 CNAME web", NEGATIVE_SOA),
    Case("alias", "alias", "SOA", "alias 300 CNAME web", NEGATIVE_SOA),
    Case("alias", "alias", "HTTPS", "alias 300 CNAME web; web 300 HTTPS 1 . alpn=h2 port=8443", additional=WEB),
    nxdomain("alias to nothing", "alias-to-nothing", "A", "alias-to-nothing 300 CNAME nothing"),
    nxdomain("alias to nothing", "alias-to-nothing", "MX", "alias-to-nothing 300 CNAME nothing"),
    Case("alias to nothing", "alias-to-nothing", "CNAME", "alias-to-nothing 300 CNAME nothing"),
    nxdomain("alias to nothing", "x.alias"),
    Case("alias out of the zone", "out", "A", "out 300 CNAME www.example.com."),
    Case("alias out of the zone", "out", "MX", "out 300 CNAME www.example.com."),
    Case("loop", "loop1", "A", "loop1 300 CNAME loop2; loop2 300 CNAME loop1"),
    Case("loop", "self", "A", "self 300 CNAME self"),
    Case("loop", "loop1", "CNAME", "loop1 300 CNAME loop2"),
    Case("SRV", "_http._tcp.web", "SRV", "_http._tcp.web 300 SRV 1 1 8080 i-1.web; _http._tcp.web 300 SRV 1 1 8081 i-2.web",
         additional="i-1.web 300 A 10.9.0.1; i-2.web 300 A 10.9.0.2; i-2.web 300 AAAA fd00::2"),
    referral("referral", "x.sub"),
    referral("referral", "sub"),
    referral("referral", "sub", "NS"),
    referral("referral", "ns.sub"),
    referral("referral", "a.b.c.hidden.sub", "TXT"),
    referral("referral", "x.away", "A", "away 300 NS ns.example.com.", ""),
    Case("referral", "alias-to-sub", "A", "alias-to-sub 300 CNAME x.sub", SUB, SUB_GLUE),
    Case("referral", "alias-to-sub", "CNAME", "alias-to-sub 300 CNAME x.sub"),
    refused("out of all zones", "www.example.com."),
    refused("out of all zones", ".", "NS"),
    refused("out of all zones", ".", "SOA"),
    refused("out of all zones", "local."),
    refused("out of all zones", "xsvc.local."),
    refused("out of all zones", "svc.local.example."),
    refused("out of all zones", "1.0.0.127.in-addr.arpa.", "PTR"),
    nodata("unknown type", "", "TYPE666"),
    Case("unknown type", "strange", "TYPE65280", "strange 300 TYPE65280 \\# 4 DEADBEEF"),
    Case("unknown type", "known-as-unknown", "A", "known-as-unknown 300 A 10.9.6.1"),
    nodata("unknown type", "strange", "TYPE65281"),
    nodata("DS", "", "DS"),
    nodata("DS", "sub", "DS"),
    Case("DS", "signed", "DS", "signed 300 DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE00112233445566778899AABB"),
    referral("DS", "x.sub", "DS"),
    Case("SVCB", "web", "HTTPS", "web 300 HTTPS 1 . alpn=h2 port=8443", additional=WEB),
    Case("SVCB", "service-mode", "SVCB", "service-mode 300 SVCB 1 i-2.web port=53",
         additional="i-2.web 300 A 10.9.0.2; i-2.web 300 AAAA fd00::2"),
    Case("SVCB", "alias-mode", "HTTPS", "alias-mode 300 HTTPS 0 web", additional=WEB),
    nodata("SVCB", "web", "SVCB"),
    Case("TTL of an rrset", "mixed", "A", "mixed 120 A 10.9.5.1; mixed 120 A 10.9.5.2"),
    # RFC 6672: a DNAME redirects the names below its owner, but not the owner itself.
    Case("DNAME", "host.dname", "A", "dname 300 DNAME target; host.dname 300 CNAME host.target; host.target 300 A 10.9.3.2"),
    # As in BIND, Knot DNS and NSD, the synthesized CNAME is the answer to a query for CNAME.
    Case("DNAME", "host.dname", "CNAME", "dname 300 DNAME target; host.dname 300 CNAME host.target"),
    Case("DNAME", "host.dname", "MX", "dname 300 DNAME target; host.dname 300 CNAME host.target", NEGATIVE_SOA),
    nxdomain("DNAME", "nope.dname", "A", "dname 300 DNAME target; nope.dname 300 CNAME nope.target"),
    Case("DNAME", "dname", "A", "dname 300 A 10.9.3.1"),
    Case("DNAME", "dname", "DNAME", "dname 300 DNAME target"),
    nodata("DNAME", "dname", "AAAA"),
    Case("DNAME", ".".join(["l" * 63] * 3 + ["l" * 45, "dname"]), "A", "dname 300 DNAME target", rcode=YXDOMAIN),
]

WIDE = {"zone": "wide.local."}
WIDE_SOA = "@ 300 SOA ns hostmaster 7 7200 900 1209600 3600"
LONG = "aa." + "a." * 119 + "a"
WIDE_ANSWERS = [
    Case("no such name", "nope", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("no such type", "ns", "TXT", "", WIDE_SOA, **WIDE),
    Case("positive", "dot\\.ted", "A", "dot\\.ted 300 A 10.8.6.1", **WIDE),
    Case("no such name", "dot.ted", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("positive", "\\000\\001\\255", "TXT", '\\000\\001\\255 300 TXT "\\000\\001\\255"', **WIDE),
    Case("positive", "under_score", "A", "under_score 300 A 10.8.6.3", **WIDE),
    Case("empty non-terminal", "4", "A", "", WIDE_SOA, **WIDE),
    Case("empty non-terminal", "2.3.4", "A", "", WIDE_SOA, **WIDE),
    Case("positive", LONG, "A", f"{LONG} 300 A 10.8.7.1", **WIDE),
    Case("no such type", LONG, "AAAA", "", WIDE_SOA, **WIDE),
    Case("empty non-terminal", LONG.removeprefix("aa."), "A", "", WIDE_SOA, **WIDE),
    Case("empty non-terminal", "a.a", "A", "", WIDE_SOA, **WIDE),
    Case("no such name", "b.a.a", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("alias", "link-1", "A", "; ".join(f"link-{n} 300 CNAME link-{n + 1}" for n in range(1, 8)) + "; link-8 300 A 10.8.5.1", **WIDE),
    Case("alias", "mixed", "A", "mixed 300 CNAME uPPer; upper 300 A 10.8.6.2", **WIDE),
    Case("DNAME", "host.far", "A", "far 300 DNAME nearer; host.far 300 CNAME host.nearer; nearer 300 DNAME near; "
         "host.nearer 300 CNAME host.near; host.near 300 A 10.8.5.2", **WIDE),
    Case("DNAME", "below-alias", "A", "below-alias 300 CNAME host.far; far 300 DNAME nearer; host.far 300 CNAME host.nearer; "
         "nearer 300 DNAME near; host.nearer 300 CNAME host.near; host.near 300 A 10.8.5.2", **WIDE),
    Case("loop", "x.back", "A", "x.back 300 CNAME again.back; again.back 300 CNAME again.back", **WIDE),
    Case("wildcard", "x.y.any", "MX", "x.y.any 300 MX 10 ns", additional="ns 300 A 10.8.0.53; ns 300 AAAA fd00:8::53", **WIDE),
    Case("wildcard", "_http._tcp.any", "SRV", "_http._tcp.any 300 SRV 1 1 80 ns",
         additional="ns 300 A 10.8.0.53; ns 300 AAAA fd00:8::53", **WIDE),
    Case("closest encloser", "q.x.any", "TXT", 'q.x.any 300 TXT "closer"', **WIDE),
    Case("closest encloser", "q.x.any", "A", "", WIDE_SOA, **WIDE),
    Case("closest encloser", "x.any", "A", "", WIDE_SOA, **WIDE),
    referral("referral", "q.cut.any", "A", "cut.any 300 NS ns.elsewhere.example.", "", **WIDE),
    # Glue of a sibling delegation is required too (RFC 9471 section 2.2).
    referral("referral", "q.sibling", "A", "sibling 300 NS ns-1.glue; sibling 300 NS ns.elsewhere.example.",
             "ns-1.glue 300 A 10.8.1.1; ns-1.glue 300 AAAA fd00:8:1::1", **WIDE),
]


@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("case", ANSWERS + WIDE_ANSWERS, ids=str)
def test_answers(client, case, edns):
    found = client.ask(case.full_name, case.qtype, edns=edns)
    assert (found.rcode, found.has(AA)) == (case.rcode, case.aa), found.message
    if found.has(TC):
        assert not edns and client.transport == "udp", found.message
        assert set(found.texts(0)) <= set(case.section(case.answer)), found.message
        assert set(found.texts(1)) <= set(case.section(case.authority)), found.message
        return
    assert found.texts(0) == case.section(case.answer), found.message
    assert found.texts(1) == case.section(case.authority), found.message
    assert found.texts(2) == case.section(case.additional), found.message


# Each alias comes before its target, for resolvers that read the records of an answer once in their order.
@pytest.mark.parametrize("qname, zone", [("alias2", "svc"), ("link-1", "wide"), ("below-alias", "wide"), ("host.dname", "svc")])
def test_chains_are_in_order(client, qname, zone):
    found = client.ask(f"{qname}.{zone}.local.", edns=opt())
    wanted = f"{qname}.{zone}.local."
    for rrset in found.message.answer:
        owner, data = rrset.name.to_text().lower(), rrset[0].to_text().lower()
        if dns.rdatatype.to_text(rrset.rdtype) == "DNAME":
            assert wanted.endswith(f".{owner}")
        else:
            assert owner == wanted
            wanted = data


# Chains of redirects are limited, so that one query cannot take long.
@pytest.mark.parametrize("qname", ["x.grow", "x.grow-on", f"{'l' * 63}.{'l' * 63}.grow"])
def test_endless_redirects_are_cut_off(client, qname):
    found = client.ask(f"{qname}.wide.local.", edns=opt())
    assert found.rcode in (NOERROR, YXDOMAIN) and len(found.octets) <= 16384
    assert found.has(TC) or found.counts[1] > 0


@pytest.mark.parametrize("qname", ["WeB.sVc.LoCaL.", "I-2.WEB.svc.LOCAL.", "FoO.WiLd.SvC.lOcAl.", "nOpE.SVC.local.", "ALIAS.svc.local.",
                                   "HOST.Dname.svc.local.", "upper.WIDE.local.", "mIxEd.wide.local.", "X.SUB.svc.local."])
def test_owners_that_are_the_question_have_its_case(client, qname):
    """`Client` checks that the question is returned unchanged, and that an owner that equals it is a pointer to it."""
    found = client.ask(qname, edns=opt())
    for rr in found.sections[0]:
        assert rr.owner == qname or rr.owner.lower() != qname.lower()


def test_only_ascii_letters_are_compared_without_case(client):
    """RFC 4343: the case of ASCII letters is ignored; octets next to them and above 127 are compared exactly."""
    wide = name("wide.local.")
    assert client.ask(b"\x05uPpEr" + wide).rcode == NOERROR
    for octets in (b"@PPER", b"[PPER", b"`pper", b"{pper", b"\xd5PPER", bytes(octet ^ 0x20 for octet in b"under_score")):
        found = client.ask(bytes([len(octets)]) + octets + wide)
        assert found.rcode == NXDOMAIN, octets


@pytest.mark.parametrize("qname", ["web.svc.local.", "svc.local.", "many.svc.local.", "foo.wild.svc.local.", "alias2.svc.local.",
                                   "medium.svc.local.", "mails.wide.local."])
def test_any_is_one_rrset(client, qname):
    found = client.ask(qname, "ANY", edns=opt())
    assert found.rcode == NOERROR and found.has(AA) and not found.has(TC)
    assert len({rr.type for rr in found.sections[0]}) == 1 and found.counts[2] == 0


@pytest.mark.parametrize("qname, rcode", [("nope.svc.local.", NXDOMAIN), ("b.ent.svc.local.", NOERROR)])
def test_any_for_a_name_without_records_is_negative(client, qname, rcode):
    found = client.ask(qname, "ANY")
    assert (found.rcode, found.counts[1], [rr.type for rr in found.sections[1]]) == (rcode, 0, ["SOA"])


@pytest.mark.parametrize("rrtype", [253, 254], ids=["MAILB", "MAILA"])
def test_obsolete_questions_about_mail_have_no_data(client, rrtype):
    found = client.send(message(question("web.svc.local.", rrtype)))
    assert found.rcode in (NOERROR, FORMERR, NOTIMP) and found.counts[1] == 0


# The answer has all records or, with TC, those that fit. Header and question have 34 octets, and each record has 16.
@pytest.mark.parametrize("size, records", [(None, 29), (0, 29), (1, 29), (511, 29), (512, 29), (525, 30), (700, 40), (1232, 40), (4096, 40),
                                         (65535, 40)])
def test_a_truncated_answer_has_the_records_that_fit(zoned, size, records):
    found = Client(zoned.resolver, "udp").ask("medium.svc.local.", edns=opt(size=size) if size is not None else b"")
    assert (found.has(TC), found.counts[1]) == (records < 40, records)
    assert found.rcode == NOERROR and found.has(AA) and len(set(found.texts(0))) == records


def test_answers_are_truncated_one_octet_above_the_limit(zoned):
    """Tries all sizes around that of 40 records of 16 octets with header, question and OPT record."""
    udp = Client(zoned.resolver, "udp")
    exact = len(udp.ask("medium.svc.local.", edns=opt()).octets)
    assert exact == 12 + len(name("medium.svc.local.")) + 4 + 40 * 16 + 11
    for size in range(exact - 3, exact + 4):
        found = udp.ask("medium.svc.local.", edns=opt(size=size))
        assert found.has(TC) == (size < exact) and found.counts[1] == (39 if size < exact else 40)


@pytest.mark.parametrize("size", [1232, 1400, 4096, 65535])
def test_datagrams_are_never_larger_than_1232_octets(zoned, size):
    found = Client(zoned.resolver, "udp").ask("big.svc.local.", edns=opt(size=size))
    assert found.has(TC) and found.counts[1:3] == (74, 0) and found.opt


@pytest.mark.parametrize("qname, rrtype, count", [("big.svc.local.", "A", 120), ("crowd.wide.local.", "SRV", 1300),
                                                  ("medium.svc.local.", "A", 40)])
def test_tcp_has_the_whole_answer(zoned, qname, rrtype, count):
    for edns in (b"", opt(size=512), opt()):
        found = Client(zoned.resolver, "tcp").ask(qname, rrtype, edns=edns)
        assert found.counts[1] == count and len(set(found.texts(0))) == count


def test_additional_rrsets_are_dropped_as_a_whole_without_tc(zoned):
    """RFC 2181 section 9: TC is not set for records that are left out of the additional section."""
    over_tcp = Client(zoned.resolver, "tcp").ask("mails.wide.local.", "MX", edns=opt())
    everything = over_tcp.texts(2)
    assert over_tcp.counts[1] == 20 and len(everything) == 80
    udp = Client(zoned.resolver, "udp")
    exact = len(udp.ask("mails.wide.local.", "MX", edns=opt()).octets)
    for size in (1232, 1000, 900, 800, 700, exact):
        found = udp.ask("mails.wide.local.", "MX", edns=opt(size=size))
        if found.has(TC):
            continue
        assert found.counts[1] == 20 and found.opt
        rrsets = {(owner, rrtype) for owner, _, rrtype, _ in found.texts(2)}
        assert found.texts(2) == [entry for entry in everything if (entry[0], entry[2]) in rrsets]


def test_referrals_without_room_for_all_glue_are_truncated(zoned):
    """RFC 9471: glue is required, so TC is set if it does not fit."""
    over_udp = Client(zoned.resolver, "udp").ask("x.glue.wide.local.", edns=opt())
    assert over_udp.has(TC) and not over_udp.has(AA) and over_udp.rcode == NOERROR
    over_tcp = Client(zoned.resolver, "tcp").ask("x.glue.wide.local.", edns=opt())
    assert over_tcp.counts[1:3] == (0, 25) and len(over_tcp.texts(2)) == 50


def test_names_beyond_the_reach_of_compression_pointers_are_right(zoned):
    """Pointers have 14 bits (RFC 1035 section 4.1.4), so they cannot point to names at octet 16,384 or later."""
    found = Client(zoned.resolver, "tcp").ask("crowd.wide.local.", "SRV")
    assert len(found.octets) > 3 * 16384
    targets = {data.split()[3] for _, _, _, data in found.texts(0)}
    assert targets == {f"member-{n}.wide.local." for n in range(1, 1301)}
    assert {owner for owner, _, _, _ in found.texts(2)} <= targets


@pytest.mark.parametrize("flags", [0, RD, CD, RD | CD, RA, Z, 0x0020, TC, AA, 0x07F0, 0x000F, 0x07FF], ids=hex)
@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("qname, rcode, aa", [("web.svc.local.", NOERROR, True), ("nope.svc.local.", NXDOMAIN, True),
                                              ("www.example.com.", REFUSED, False), ("x.sub.svc.local.", NOERROR, False)])
def test_flags_of_queries_change_nothing_but_rd_and_cd(client, flags, edns, qname, rcode, aa):
    """`Client` checks RD, CD, RA, AD and Z of the reply."""
    found = client.ask(qname, edns=edns, flags=flags)
    assert (found.rcode, found.has(AA), found.has(TC)) == (rcode, aa, False)


# RFC 8906 section 3.1.4.
@pytest.mark.parametrize("opcode", [IQUERY, STATUS, 3, *range(6, 16)])
@pytest.mark.parametrize("body", [question("web.svc.local."), b"", b"\xff\xff\xff"], ids=["question", "empty", "nonsense"])
@pytest.mark.parametrize("flags", [0, RD | CD, 0x07F0], ids=hex)
def test_other_opcodes_are_not_implemented(client, opcode, body, flags):
    found = client.send(message(body, opcode=opcode, flags=flags))
    assert found.rcode == NOTIMP and found.counts[1:] == (0, 0, 0)
    assert found.flags == QR | opcode << 11 | NOTIMP, "no flag of a query of unknown meaning"


@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("opcode", [NOTIFY, UPDATE])
@pytest.mark.parametrize("zone", ["svc.local.", "example.com.", "web.svc.local.", "."])
def test_notify_and_update_get_an_error_reply(client, opcode, zone, edns):
    for rrtype in ("SOA", "A"):
        found = client.send(message(question(zone, rrtype), edns, opcode=opcode, flags=AA if opcode == NOTIFY else 0))
        assert found.rcode in (NOTAUTH, REFUSED, NOTIMP) and found.counts[1:3] == (0, 0)


def test_an_update_changes_nothing(client):
    rr = record("new.svc.local.", "A", bytes([192, 0, 2, 1]), ttl=60)
    found = client.send(message(question("svc.local.", "SOA") + rr, opcode=UPDATE, counts=(1, 0, 1, 0)))
    assert found.rcode in (NOTAUTH, REFUSED, NOTIMP)
    assert client.ask("new.svc.local.").rcode == NXDOMAIN


# RFC 9619.
@pytest.mark.parametrize("questions, count", [(b"", 0), (question("web.svc.local.") * 2, 2), (question("web.svc.local."), 2), (b"", 65535),
                                              (question("web.svc.local.") + b"\xc0\x0c\x00\x01\x00\x01", 2),
                                              (question("web.svc.local.") * 3, 3)],
                         ids=["none", "two equal", "one missing", "65535", "compressed", "three"])
@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
def test_a_query_has_one_question(client, questions, count, edns):
    found = client.send(message(questions, edns, counts=(count, 0, 0, 1 if edns else 0)))
    assert found.rcode == FORMERR and found.counts[1:3] == (0, 0)


MALFORMED = {
    "header only": b"",
    "pointer to itself": b"\xc0\x0c\x00\x01\x00\x01",
    "pointer forward": b"\xc0\x12\x00\x01\x00\x01\x00\x00",
    "pointer into the header": b"\xc0\x00\x00\x01\x00\x01",
    "pointer after a label": b"\x03web\xc0\x0c\x00\x01\x00\x01",
    "pointers in a circle": b"\xc0\x0e\xc0\x0c\x00\x01\x00\x01",
    "half a pointer": b"\xc0",
    "pointer out of the message": b"\xff\xff\x00\x01\x00\x01",
    "label type 0x40": b"\x40abc\x00\x00\x01\x00\x01",
    "label type 0x41, bit string": b"\x41\x08\xff\x03svc\x05local\x00\x00\x01\x00\x01",
    "label type 0x80": b"\x80abc\x00\x00\x01\x00\x01",
    "label of 64": b"\x40" + b"l" * 64 + b"\x00\x00\x01\x00\x01",
    "name of 256": (b"\x3f" + b"l" * 63) * 3 + b"\x3e" + b"l" * 62 + b"\x00\x00\x01\x00\x01",
    "name of 257": (b"\x3f" + b"l" * 63) * 4 + b"\x00\x00\x01\x00\x01",
    "name of 1000 labels": b"\x01a" * 1000 + b"\x00\x00\x01\x00\x01",
    "name cut in a label": b"\x03web\x03svc\x05loc",
    "name without an end": b"\x03web\x03svc\x05local",
    "no type": b"\x03web\x00",
    "half a type": b"\x03web\x00\x00",
    "no class": b"\x03web\x00\x00\x01",
    "half a class": b"\x03web\x00\x00\x01\x00",
}


@pytest.mark.parametrize("octets", MALFORMED.values(), ids=MALFORMED)
def test_questions_that_cannot_be_read_are_format_errors(client, octets):
    found = client.send(message(octets, counts=(1, 0, 0, 0), ident=0xFEED))
    assert found.rcode == FORMERR and len(found.octets) == 12


def test_names_of_255_octets_are_valid(client):
    """A name may have 255 octets, and labels of 63 (RFC 1035 section 2.3.4)."""
    longest = (b"\x3f" + b"l" * 63) * 3 + b"\x3d" + b"l" * 61 + b"\x00"
    assert len(longest) == 255 and client.ask(longest).rcode == REFUSED
    in_zone = (b"\x3f" + b"l" * 63) * 3 + b"\x33" + b"l" * 51 + name("svc.local.")
    assert len(in_zone) == 255 and client.ask(in_zone).rcode == NXDOMAIN
    assert client.ask(b"\x01a" * 127 + b"\x00").rcode == REFUSED


@pytest.mark.parametrize("body, counts", [
    (b"", (1, 1, 0, 0)), (b"", (1, 0, 1, 0)), (b"", (1, 0, 0, 1)), (b"", (1, 0xFFFF, 0xFFFF, 0xFFFF)),
    (b"\x00\x00\x29", (1, 0, 0, 1)), (record("web.svc.local.", "A", b"\x01\x02", length=4), (1, 1, 0, 0)),
    (b"\xc0\x50" + record(b"", "A", b"\x01\x02\x03\x04"), (1, 0, 0, 1))],
    ids=["answer missing", "authority missing", "additional missing", "all missing", "cut OPT", "cut data", "pointer forward"])
def test_sections_that_cannot_be_read_are_format_errors(client, body, counts):
    found = client.send(message(question("web.svc.local."), counts=counts, body=body))
    assert found.rcode == FORMERR and found.counts[1:3] == (0, 0)


@pytest.mark.parametrize("body, counts", [
    (record("web.svc.local.", "A", b"\x01\x02\x03\x04"), (1, 1, 0, 0)),
    (record("svc.local.", "SOA", b"\x00\x00" + b"\x00" * 20), (1, 0, 1, 0)),
    (record(b"\xc0\x0c", "A", b"\x01\x02\x03\x04"), (1, 0, 0, 1)),
    (record("x.", 65280, b"anything"), (1, 0, 0, 1))], ids=["answer", "authority", "additional", "unknown type"])
def test_records_in_a_query_are_ignored_or_a_format_error(client, body, counts):
    """Only IXFR has such a record, a SOA (RFC 1995). No RFC says that others are an error, but the query needs a reply."""
    found = client.send(message(question("web.svc.local."), counts=counts, body=body))
    assert found.rcode in (NOERROR, FORMERR)
    assert found.rcode == FORMERR or found.counts[1] == 2


@pytest.mark.parametrize("rrtype, rdata", [
    ("A", b""), ("A", b"\x01\x02\x03"), ("A", b"\x01\x02\x03\x04\x05"), ("AAAA", b"\x00" * 15), ("NS", b""), ("NS", b"\x01a"),
    ("NS", b"\x00\x00"), ("CNAME", b"\xff\xff"), ("PTR", b"\x40a\x00"), ("MX", b"\x00\x01"), ("SRV", b"\x00\x01\x00\x01\x00"),
    ("SOA", b"\x00\x00" + b"\x00" * 19), ("SOA", b"\x00\x00" + b"\x00" * 21), ("TXT", b""), ("TXT", b"\x02a"), ("DNAME", b"\x01a"),
    ("ANY", b""), ("AXFR", b"\x00")])
@pytest.mark.parametrize("section", [1, 2, 3], ids=["answer", "authority", "additional"])
def test_record_data_in_a_wrong_format_is_a_format_error(client, rrtype, rdata, section):
    counts = [1, 0, 0, 0]
    counts[section] = 1
    found = client.send(message(question("web.svc.local."), counts=tuple(counts), body=record("x.", rrtype, rdata)))
    assert found.rcode == FORMERR and found.counts == (1, 0, 0, 0)


@pytest.mark.parametrize("rrtype, rdata", [
    ("NS", b"\xc0\x0c"), ("MX", b"\x00\x01\xc0\x0c"), ("SRV", b"\x00" * 6 + b"\x01a\x00"), ("SOA", b"\xc0\x0c\x01a\xc0\x0c" + b"\x00" * 20),
    ("TXT", b"\x00"), ("TXT", b"\x01a\x00\x02bc"), ("AAAA", b"\x00" * 16), ("NSEC", b"")])
def test_record_data_in_a_valid_format_changes_nothing(client, rrtype, rdata):
    found = client.send(message(question("web.svc.local."), counts=(1, 0, 0, 1), body=record("x.", rrtype, rdata)))
    assert found.rcode == NOERROR and found.counts[1] == 2


@pytest.mark.parametrize("octets", [b"\x00", b"\x00" * 100, b"\xff" * 20], ids=["one", "zeros", "ones"])
def test_octets_after_the_message_are_ignored_or_a_format_error(client, octets):
    found = client.send(message(question("web.svc.local.")) + octets)
    assert found.rcode in (NOERROR, FORMERR)


@pytest.mark.parametrize("packet", [b"", b"\x12", b"\x12\x34", message()[:11], message(question("web.svc.local."), flags=QR),
                                    message(flags=QR), message(question("web.svc.local."), opcode=15, flags=QR | 0x07FF),
                                    message(question("svc.local.", "SOA"), opcode=NOTIFY, flags=QR)],
                         ids=["0", "1", "2", "11", "response", "empty response", "odd response", "NOTIFY's response"])
def test_responses_and_fragments_of_headers_are_dropped(zoned, packet):
    assert zoned.resolver.is_silent_to(packet)


@pytest.mark.parametrize("ident", [0, 1, 0x00FF, 0xFF00, 0xFFFF], ids=hex)
def test_the_id_is_echoed(client, ident):
    """`Client` checks it."""
    assert client.ask("web.svc.local.", ident=ident).rcode == NOERROR
    assert client.send(message(b"\x40", ident=ident)).rcode == FORMERR


@pytest.mark.parametrize("rdclass", [2, HS, NONE, ANY_CLASS, 5, 65280, 65535])
@pytest.mark.parametrize("qname", ["web.svc.local.", "nope.svc.local.", "www.example.com."])
def test_other_classes_are_refused(client, rdclass, qname):
    found = client.ask(qname, rdclass=rdclass)
    assert found.rcode == REFUSED and not found.has(AA) and found.counts[1:3] == (0, 0)


def test_class_zero_is_refused_or_a_format_error(client):
    assert client.send(message(question("web.svc.local.", rdclass=0))).rcode in (REFUSED, FORMERR, NOTIMP)


@pytest.mark.parametrize("qname", ["version.bind.", "VERSION.bind.", "version.server.", "id.server.", "hostname.bind."])
def test_chaos_identity_is_answered_or_refused(client, qname):
    """RFC 4892. A server may also refuse to identify itself."""
    found = client.ask(qname, "TXT", rdclass=CH)
    assert found.rcode in (NOERROR, REFUSED)
    if found.rcode == NOERROR:
        assert [(rr.type, rr.rdclass) for rr in found.sections[0]] == [("TXT", CH)]
        assert found.sections[0][0].rdata[0] == len(found.sections[0][0].rdata) - 1 > 0


@pytest.mark.parametrize("qname, rrtype", [("authors.bind.", "TXT"), ("web.svc.local.", "A"), ("svc.local.", "SOA"), (".", "NS"),
                                           ("x.version.bind.", "TXT")])
def test_other_chaos_queries_have_no_answer(client, qname, rrtype):
    assert client.ask(qname, rrtype, rdclass=CH).rcode == REFUSED


@pytest.mark.parametrize("rrtype", [0, 41, *range(128, 133), 249, 250, 253, 254], ids=str)
def test_meta_types_have_no_data(client, rrtype):
    found = client.send(message(question("web.svc.local.", rrtype)))
    assert found.rcode in (NOERROR, FORMERR, NOTIMP) and found.counts[1] == 0


# Transfers over TCP are in test_dns_transfer.py.
@pytest.mark.parametrize("zone", ["svc.local.", "web.svc.local.", "example.com."])
def test_transfers_are_refused_over_udp(zoned, zone):
    found = Client(zoned.resolver, "udp").ask(zone, "AXFR", edns=opt())
    assert found.rcode == REFUSED and found.counts[1:3] == (0, 0)


def test_transfers_of_unknown_zones_are_refused(client):
    for rrtype in ("AXFR", "IXFR"):
        assert client.ask("example.com.", rrtype).rcode in (REFUSED, NOTAUTH)


@pytest.mark.parametrize("qname, rrtype, errors", [
    ("www.example.com.", "A", [20]), (".", "NS", [20]), ("web.svc.local.", "A", []), ("nope.svc.local.", "A", []),
    ("b.ent.svc.local.", "A", []), ("x.sub.svc.local.", "A", []), ("alias-to-nothing.svc.local.", "A", [])])
def test_extended_errors(client, qname, rrtype, errors):
    assert client.ask(qname, rrtype, edns=opt()).extended_errors == errors


def test_transfers_over_udp_are_prohibited(zoned):
    assert Client(zoned.resolver, "udp").ask("svc.local.", "AXFR", edns=opt()).extended_errors == [18]


def test_long_and_short_queries_share_a_stream(zoned):
    """RFC 7766: all valid queries of a connection are answered, including those after malformed ones."""
    packets = [message(question("web.svc.local."), ident=1), message(b"\x40", ident=2), message(question("nope.svc.local."), ident=3),
               message(question("web.svc.local."), opt(b"".join(struct.pack("!HH", 65001, 0) for _ in range(8000))), ident=4),
               message(question("crowd.wide.local.", "SRV"), ident=5), message(question("web.svc.local."), ident=6)]
    with zoned.resolver.tcp_socket() as stream:
        stream.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))
        replies = {}
        for _ in packets:
            size = struct.unpack("!H", _exactly(stream, 2))[0]
            reply = _exactly(stream, size)
            replies[struct.unpack_from("!H", reply)[0]] = reply[3] & 0xF
    assert replies == {1: NOERROR, 2: FORMERR, 3: NXDOMAIN, 4: NOERROR, 5: NOERROR, 6: NOERROR}


def _exactly(stream, size):
    octets = b""
    while len(octets) < size:
        more = stream.recv(size - len(octets))
        assert more, "closed early"
        octets += more
    return octets


def test_a_class_of_records_is_in(client):
    found = client.ask("_http._tcp.web.svc.local.", "SRV", edns=opt())
    assert {rr.rdclass for section in found.sections for rr in section} == {IN}
