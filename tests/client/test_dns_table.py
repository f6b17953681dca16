"""The rows of answers: each kind of name, type and ending, over UDP and TCP, section by section. Zones are in zones/."""

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
    """A question, and the whole answer: each section's records, relative to the zone, with `;` between them."""

    row: str
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
        """As `Reply.texts` gives it."""
        origin = dns.name.from_text(self.zone)
        return sorted(self._record(line.strip(), origin) for line in text.split(";") if line.strip())

    @staticmethod
    def _record(line, origin):
        owner, ttl, rrtype, data = line.split(maxsplit=3)
        rdata = dns.rdata.from_text("IN", rrtype, data, origin, relativize=False)
        owner = dns.name.from_text(owner, None if owner.endswith(".") else origin).to_text().lower()
        return owner, int(ttl), dns.rdatatype.to_text(dns.rdatatype.from_text(rrtype)), rdata.to_text()

    def __str__(self):
        return f"{self.row}: {self.qname or '@'} {self.qtype}"


def nodata(row, qname, qtype="A", **more):
    return Case(row, qname, qtype, authority=NEGATIVE_SOA, **more)


def nxdomain(row, qname, qtype="A", answer=""):
    return Case(row, qname, qtype, answer, NEGATIVE_SOA, rcode=NXDOMAIN)


def refused(row, qname, qtype="A"):
    return Case(row, qname, qtype, rcode=REFUSED, aa=False)


def referral(row, qname, qtype="A", authority=SUB, additional=SUB_GLUE, **more):
    return Case(row, qname, qtype, authority=authority, additional=additional, aa=False, **more)


ANSWERS = [
    Case("1", "web", "A", WEB),
    Case("1", "i-2.web", "AAAA", "i-2.web 300 AAAA fd00::2"),
    Case("1", "", "SOA", "@ 300 SOA ns hostmaster 2026010101 7200 900 1209600 60"),
    Case("1", "", "NS", "@ 300 NS ns", additional="ns 300 A 10.9.0.53"),
    Case("1", "", "MX", "@ 300 MX 10 mail", additional="mail 300 A 10.9.0.25"),
    Case("1", "", "TXT", '@ 300 TXT "apex" "two strings"'),
    Case("1", "", "CAA", '@ 300 CAA 0 issue "ca.example"'),
    Case("1", "many", "PTR", "many 300 PTR web"),
    Case("1", "many", "RP", "many 300 RP hostmaster web"),
    nxdomain("2", "nope"),
    nxdomain("2", "a.b.c.nope", "SRV"),
    nxdomain("2", "nope", "TYPE65281"),
    nodata("3", "i-1.web", "AAAA"),
    nodata("3", "web", "MX"),
    nodata("3", ""),
    nodata("3", "web", "SOA"),
    nodata("3", "web", "NS"),
    nodata("4", "_tcp.web"),
    nodata("4", "_tcp.web", "SRV"),
    nodata("4", "b.ent"),
    nodata("4", "ent", "TXT"),
    nxdomain("5", "x.i-1.web"),
    nxdomain("5", "x._http._tcp.web", "SRV"),
    nxdomain("5", "c.ent"),
    Case("6", "foo.wild", "A", "foo.wild 300 A 10.9.1.1"),
    Case("6", "a.b.c.foo.wild", "TXT", 'a.b.c.foo.wild 300 TXT "wild"'),
    Case("6", "*.wild", "A", "*.wild 300 A 10.9.1.1"),
    Case("6", "x.\\*.x.wild", "A", "x.\\*.x.wild 300 A 10.9.1.1"),
    nodata("7", "foo.wild", "AAAA"),
    nodata("7", "*.wild", "AAAA"),
    nodata("7", "foo.star"),
    nodata("8", "wild"),
    nodata("8", "y.wild"),
    nxdomain("8", "x.y.wild"),
    nxdomain("8", "x.host.y.wild"),
    nxdomain("8", "x.*.wild"),
    Case("8", "below.*.star", "A", "below.*.star 300 A 10.9.1.3"),
    nodata("8", "*.star"),
    Case("9", "alias", "A", f"alias 300 CNAME web; {WEB}"),
    Case("9", "alias2", "A", f"alias2 300 CNAME alias; alias 300 CNAME web; {WEB}"),
    Case("9", "alias2", "CNAME", "alias2 300 CNAME alias"),
    Case("9", "alias-to-wild", "A", "alias-to-wild 300 CNAME any.wild; any.wild 300 A 10.9.1.1"),
    Case("9", "foo.wildalias", "A", f"foo.wildalias 300 CNAME web; {WEB}"),
    Case("9", "foo.wildalias", "CNAME", "foo.wildalias 300 CNAME web"),
    Case("9", "alias-to-ent", "A", "alias-to-ent 300 CNAME b.ent", NEGATIVE_SOA),
    Case("9", "alias", "MX", "alias 300 CNAME web", NEGATIVE_SOA),
    Case("9", "alias", "SOA", "alias 300 CNAME web", NEGATIVE_SOA),
    Case("9", "alias", "HTTPS", "alias 300 CNAME web; web 300 HTTPS 1 . alpn=h2 port=8443", additional=WEB),
    nxdomain("10", "alias-to-nothing", "A", "alias-to-nothing 300 CNAME nothing"),
    nxdomain("10", "alias-to-nothing", "MX", "alias-to-nothing 300 CNAME nothing"),
    Case("10", "alias-to-nothing", "CNAME", "alias-to-nothing 300 CNAME nothing"),
    nxdomain("10", "x.alias"),
    Case("11", "out", "A", "out 300 CNAME www.example.com."),
    Case("11", "out", "MX", "out 300 CNAME www.example.com."),
    Case("12", "loop1", "A", "loop1 300 CNAME loop2; loop2 300 CNAME loop1"),
    Case("12", "self", "A", "self 300 CNAME self"),
    Case("12", "loop1", "CNAME", "loop1 300 CNAME loop2"),
    Case("13", "_http._tcp.web", "SRV", "_http._tcp.web 300 SRV 1 1 8080 i-1.web; _http._tcp.web 300 SRV 1 1 8081 i-2.web",
         additional="i-1.web 300 A 10.9.0.1; i-2.web 300 A 10.9.0.2; i-2.web 300 AAAA fd00::2"),
    referral("14", "x.sub"),
    referral("14", "sub"),
    referral("14", "sub", "NS"),
    referral("14", "ns.sub"),
    referral("14", "a.b.c.hidden.sub", "TXT"),
    referral("14", "x.away", "A", "away 300 NS ns.example.com.", ""),
    Case("14", "alias-to-sub", "A", "alias-to-sub 300 CNAME x.sub", SUB, SUB_GLUE),
    Case("14", "alias-to-sub", "CNAME", "alias-to-sub 300 CNAME x.sub"),
    refused("15", "www.example.com."),
    refused("15", ".", "NS"),
    refused("15", ".", "SOA"),
    refused("15", "local."),
    refused("15", "xsvc.local."),
    refused("15", "svc.local.example."),
    refused("15", "1.0.0.127.in-addr.arpa.", "PTR"),
    nodata("16", "", "TYPE666"),
    Case("16", "strange", "TYPE65280", "strange 300 TYPE65280 \\# 4 DEADBEEF"),
    Case("16", "known-as-unknown", "A", "known-as-unknown 300 A 10.9.6.1"),
    nodata("16", "strange", "TYPE65281"),
    nodata("43", "", "DS"),
    nodata("43", "sub", "DS"),
    Case("43", "signed", "DS", "signed 300 DS 12345 13 2 49FD46E6C4B45C55D4AC69CBD3CD34AC1AFE51DE00112233445566778899AABB"),
    referral("43", "x.sub", "DS"),
    Case("46", "web", "HTTPS", "web 300 HTTPS 1 . alpn=h2 port=8443", additional=WEB),
    Case("46", "service-mode", "SVCB", "service-mode 300 SVCB 1 i-2.web port=53",
         additional="i-2.web 300 A 10.9.0.2; i-2.web 300 AAAA fd00::2"),
    Case("46", "alias-mode", "HTTPS", "alias-mode 300 HTTPS 0 web", additional=WEB),
    nodata("46", "web", "SVCB"),
    Case("47", "mixed", "A", "mixed 120 A 10.9.5.1; mixed 120 A 10.9.5.2"),
    # RFC 6672: the owner of a DNAME is not redirected, all below it is.
    Case("DNAME", "host.dname", "A", "dname 300 DNAME target; host.dname 300 CNAME host.target; host.target 300 A 10.9.3.2"),
    # As BIND, Knot and NSD have it: the CNAME that was synthesized is what was asked for.
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
    Case("2", "nope", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("3", "ns", "TXT", "", WIDE_SOA, **WIDE),
    Case("1", "dot\\.ted", "A", "dot\\.ted 300 A 10.8.6.1", **WIDE),
    Case("2", "dot.ted", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("1", "\\000\\001\\255", "TXT", '\\000\\001\\255 300 TXT "\\000\\001\\255"', **WIDE),
    Case("1", "under_score", "A", "under_score 300 A 10.8.6.3", **WIDE),
    Case("4", "4", "A", "", WIDE_SOA, **WIDE),
    Case("4", "2.3.4", "A", "", WIDE_SOA, **WIDE),
    Case("1", LONG, "A", f"{LONG} 300 A 10.8.7.1", **WIDE),
    Case("3", LONG, "AAAA", "", WIDE_SOA, **WIDE),
    Case("4", LONG.removeprefix("aa."), "A", "", WIDE_SOA, **WIDE),
    Case("4", "a.a", "A", "", WIDE_SOA, **WIDE),
    Case("2", "b.a.a", "A", "", WIDE_SOA, rcode=NXDOMAIN, **WIDE),
    Case("9", "link-1", "A", "; ".join(f"link-{n} 300 CNAME link-{n + 1}" for n in range(1, 8)) + "; link-8 300 A 10.8.5.1", **WIDE),
    Case("9", "mixed", "A", "mixed 300 CNAME uPPer; upper 300 A 10.8.6.2", **WIDE),
    Case("DNAME", "host.far", "A", "far 300 DNAME nearer; host.far 300 CNAME host.nearer; nearer 300 DNAME near; "
         "host.nearer 300 CNAME host.near; host.near 300 A 10.8.5.2", **WIDE),
    Case("DNAME", "below-alias", "A", "below-alias 300 CNAME host.far; far 300 DNAME nearer; host.far 300 CNAME host.nearer; "
         "nearer 300 DNAME near; host.nearer 300 CNAME host.near; host.near 300 A 10.8.5.2", **WIDE),
    Case("12", "x.back", "A", "x.back 300 CNAME again.back; again.back 300 CNAME again.back", **WIDE),
    Case("6", "x.y.any", "MX", "x.y.any 300 MX 10 ns", additional="ns 300 A 10.8.0.53; ns 300 AAAA fd00:8::53", **WIDE),
    Case("6", "_http._tcp.any", "SRV", "_http._tcp.any 300 SRV 1 1 80 ns",
         additional="ns 300 A 10.8.0.53; ns 300 AAAA fd00:8::53", **WIDE),
    Case("8", "q.x.any", "TXT", 'q.x.any 300 TXT "closer"', **WIDE),
    Case("8", "q.x.any", "A", "", WIDE_SOA, **WIDE),
    Case("8", "x.any", "A", "", WIDE_SOA, **WIDE),
    referral("14", "q.cut.any", "A", "cut.any 300 NS ns.elsewhere.example.", "", **WIDE),
    # Glue of another delegation is needed as much (RFC 9471 section 2.2).
    referral("14", "q.sibling", "A", "sibling 300 NS ns-1.glue; sibling 300 NS ns.elsewhere.example.",
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


# Row 9: a resolver that reads no further than it must finds each alias before what it names.
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


# Row 12: redirects that never end do, in the time of one query.
@pytest.mark.parametrize("qname", ["x.grow", "x.grow-on", f"{'l' * 63}.{'l' * 63}.grow"])
def test_redirects_without_an_end_end(client, qname):
    found = client.ask(f"{qname}.wide.local.", edns=opt())
    assert found.rcode in (NOERROR, YXDOMAIN) and len(found.octets) <= 16384
    assert found.has(TC) or found.counts[1] > 0


# Row 17.
@pytest.mark.parametrize("qname", ["WeB.sVc.LoCaL.", "I-2.WEB.svc.LOCAL.", "FoO.WiLd.SvC.lOcAl.", "nOpE.SVC.local.", "ALIAS.svc.local.",
                                   "HOST.Dname.svc.local.", "upper.WIDE.local.", "mIxEd.wide.local.", "X.SUB.svc.local."])
def test_owners_that_are_the_question_have_its_case(client, qname):
    """`Client` sees that the question is the same octets, and that such an owner is a pointer to it."""
    found = client.ask(qname, edns=opt())
    for rr in found.sections[0]:
        assert rr.owner == qname or rr.owner.lower() != qname.lower()


def test_a_case_for_every_letter(client):
    """RFC 4343: letters of ASCII fold, the octets around them and above 127 don't."""
    wide = name("wide.local.")
    assert client.ask(b"\x05uPpEr" + wide).rcode == NOERROR
    for octets in (b"@PPER", b"[PPER", b"`pper", b"{pper", b"\xd5PPER", bytes(octet ^ 0x20 for octet in b"under_score")):
        found = client.ask(bytes([len(octets)]) + octets + wide)
        assert found.rcode == NXDOMAIN, octets


# Row 18.
@pytest.mark.parametrize("qname", ["web.svc.local.", "svc.local.", "many.svc.local.", "foo.wild.svc.local.", "alias2.svc.local.",
                                   "medium.svc.local.", "mails.wide.local."])
def test_any_is_one_rrset(client, qname):
    found = client.ask(qname, "ANY", edns=opt())
    assert found.rcode == NOERROR and found.has(AA) and not found.has(TC)
    assert len({rr.type for rr in found.sections[0]}) == 1 and found.counts[2] == 0


@pytest.mark.parametrize("qname, rcode", [("nope.svc.local.", NXDOMAIN), ("b.ent.svc.local.", NOERROR)])
def test_any_of_nothing_is_negative(client, qname, rcode):
    found = client.ask(qname, "ANY")
    assert (found.rcode, found.counts[1], [rr.type for rr in found.sections[1]]) == (rcode, 0, ["SOA"])


@pytest.mark.parametrize("rrtype", [253, 254], ids=["MAILB", "MAILA"])
def test_obsolete_questions_about_mail_have_no_data(client, rrtype):
    found = client.send(message(question("web.svc.local.", rrtype)))
    assert found.rcode in (NOERROR, FORMERR, NOTIMP) and found.counts[1] == 0


# Rows 19 to 22: the whole rrset, or the records of it that fit, with TC. A header and a question of 34 octets; 16 for each record.
@pytest.mark.parametrize("size, records", [(None, 29), (0, 29), (1, 29), (511, 29), (512, 29), (525, 30), (700, 40), (1232, 40), (4096, 40),
                                         (65535, 40)])
def test_a_truncated_answer_has_the_records_that_fit(zoned, size, records):
    found = Client(zoned.resolver, "udp").ask("medium.svc.local.", edns=opt(size=size) if size is not None else b"")
    assert (found.has(TC), found.counts[1]) == (records < 40, records)
    assert found.rcode == NOERROR and found.has(AA) and len(set(found.texts(0))) == records


def test_truncation_begins_after_the_last_octet_that_fits(zoned):
    """40 records of 16 octets, a header, a question and an OPT record: each size around it."""
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
def test_streams_carry_the_whole_answer(zoned, qname, rrtype, count):
    for edns in (b"", opt(size=512), opt()):
        found = Client(zoned.resolver, "tcp").ask(qname, rrtype, edns=edns)
        assert found.counts[1] == count and len(set(found.texts(0))) == count


def test_additional_rrsets_are_whole_and_dropped_without_a_word(zoned):
    """RFC 2181 section 9: what is left out of the additional section is no truncation."""
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
    """RFC 9471: glue is not optional."""
    over_udp = Client(zoned.resolver, "udp").ask("x.glue.wide.local.", edns=opt())
    assert over_udp.has(TC) and not over_udp.has(AA) and over_udp.rcode == NOERROR
    over_tcp = Client(zoned.resolver, "tcp").ask("x.glue.wide.local.", edns=opt())
    assert over_tcp.counts[1:3] == (0, 25) and len(over_tcp.texts(2)) == 50


def test_names_below_the_reach_of_pointers_are_right(zoned):
    """Pointers hold 14 bits (RFC 1035 section 4.1.4): names that stand at octet 16,384 or after cannot be pointed to."""
    found = Client(zoned.resolver, "tcp").ask("crowd.wide.local.", "SRV")
    assert len(found.octets) > 3 * 16384
    targets = {data.split()[3] for _, _, _, data in found.texts(0)}
    assert targets == {f"member-{n}.wide.local." for n in range(1, 1301)}
    assert {owner for owner, _, _, _ in found.texts(2)} <= targets


# Row 35.
@pytest.mark.parametrize("flags", [0, RD, CD, RD | CD, RA, Z, 0x0020, TC, AA, 0x07F0, 0x000F, 0x07FF], ids=hex)
@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("qname, rcode, aa", [("web.svc.local.", NOERROR, True), ("nope.svc.local.", NXDOMAIN, True),
                                              ("www.example.com.", REFUSED, False), ("x.sub.svc.local.", NOERROR, False)])
def test_flags_of_queries_change_nothing_but_rd_and_cd(client, flags, edns, qname, rcode, aa):
    """`Client` checks RD, CD, RA, AD and Z of the reply."""
    found = client.ask(qname, edns=edns, flags=flags)
    assert (found.rcode, found.has(AA), found.has(TC)) == (rcode, aa, False)


# Row 36: RFC 8906 section 3.1.4.
@pytest.mark.parametrize("opcode", [IQUERY, STATUS, 3, *range(6, 16)])
@pytest.mark.parametrize("body", [question("web.svc.local."), b"", b"\xff\xff\xff"], ids=["question", "empty", "nonsense"])
@pytest.mark.parametrize("flags", [0, RD | CD, 0x07F0], ids=hex)
def test_other_opcodes_are_not_implemented(client, opcode, body, flags):
    found = client.send(message(body, opcode=opcode, flags=flags))
    assert found.rcode == NOTIMP and found.counts[1:] == (0, 0, 0)
    assert found.flags == QR | opcode << 11 | NOTIMP, "no flag of a query of unknown meaning"


# Row 37.
@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
@pytest.mark.parametrize("opcode", [NOTIFY, UPDATE])
@pytest.mark.parametrize("zone", ["svc.local.", "example.com.", "web.svc.local.", "."])
def test_notify_and_update_are_refused_aloud(client, opcode, zone, edns):
    for rrtype in ("SOA", "A"):
        found = client.send(message(question(zone, rrtype), edns, opcode=opcode, flags=AA if opcode == NOTIFY else 0))
        assert found.rcode in (NOTAUTH, REFUSED, NOTIMP) and found.counts[1:3] == (0, 0)


def test_an_update_changes_nothing(client):
    rr = record("new.svc.local.", "A", bytes([192, 0, 2, 1]), ttl=60)
    found = client.send(message(question("svc.local.", "SOA") + rr, opcode=UPDATE, counts=(1, 0, 1, 0)))
    assert found.rcode in (NOTAUTH, REFUSED, NOTIMP)
    assert client.ask("new.svc.local.").rcode == NXDOMAIN


# Row 38: RFC 9619.
@pytest.mark.parametrize("questions, count", [(b"", 0), (question("web.svc.local.") * 2, 2), (question("web.svc.local."), 2), (b"", 65535),
                                              (question("web.svc.local.") + b"\xc0\x0c\x00\x01\x00\x01", 2),
                                              (question("web.svc.local.") * 3, 3)],
                         ids=["none", "two equal", "one missing", "65535", "compressed", "three"])
@pytest.mark.parametrize("edns", [b"", opt()], ids=["plain", "EDNS"])
def test_a_query_has_one_question(client, questions, count, edns):
    found = client.send(message(questions, edns, counts=(count, 0, 0, 1 if edns else 0)))
    assert found.rcode == FORMERR and found.counts[1:3] == (0, 0)


# Row 39.
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


def test_the_longest_name_is_a_name(client):
    """255 octets, one label of them of 63 (RFC 1035 section 2.3.4)."""
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
def test_records_that_a_query_need_not_have_are_ignored_or_refused(client, body, counts):
    """IXFR has a SOA there (RFC 1995); nothing says what else is an error, but all of it has to be answered."""
    found = client.send(message(question("web.svc.local."), counts=counts, body=body))
    assert found.rcode in (NOERROR, FORMERR)
    assert found.rcode == FORMERR or found.counts[1] == 2


@pytest.mark.parametrize("rrtype, rdata", [
    ("A", b""), ("A", b"\x01\x02\x03"), ("A", b"\x01\x02\x03\x04\x05"), ("AAAA", b"\x00" * 15), ("NS", b""), ("NS", b"\x01a"),
    ("NS", b"\x00\x00"), ("CNAME", b"\xff\xff"), ("PTR", b"\x40a\x00"), ("MX", b"\x00\x01"), ("SRV", b"\x00\x01\x00\x01\x00"),
    ("SOA", b"\x00\x00" + b"\x00" * 19), ("SOA", b"\x00\x00" + b"\x00" * 21), ("TXT", b""), ("TXT", b"\x02a"), ("DNAME", b"\x01a"),
    ("ANY", b""), ("AXFR", b"\x00")])
@pytest.mark.parametrize("section", [1, 2, 3], ids=["answer", "authority", "additional"])
def test_data_that_is_not_its_types_is_a_format_error(client, rrtype, rdata, section):
    counts = [1, 0, 0, 0]
    counts[section] = 1
    found = client.send(message(question("web.svc.local."), counts=tuple(counts), body=record("x.", rrtype, rdata)))
    assert found.rcode == FORMERR and found.counts == (1, 0, 0, 0)


@pytest.mark.parametrize("rrtype, rdata", [
    ("NS", b"\xc0\x0c"), ("MX", b"\x00\x01\xc0\x0c"), ("SRV", b"\x00" * 6 + b"\x01a\x00"), ("SOA", b"\xc0\x0c\x01a\xc0\x0c" + b"\x00" * 20),
    ("TXT", b"\x00"), ("TXT", b"\x01a\x00\x02bc"), ("AAAA", b"\x00" * 16), ("NSEC", b"")])
def test_data_of_its_types_form_changes_nothing(client, rrtype, rdata):
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
def test_what_is_no_query_is_dropped(zoned, packet):
    assert zoned.resolver.is_silent_to(packet)


@pytest.mark.parametrize("ident", [0, 1, 0x00FF, 0xFF00, 0xFFFF], ids=hex)
def test_the_id_is_echoed(client, ident):
    """`Client` checks it."""
    assert client.ask("web.svc.local.", ident=ident).rcode == NOERROR
    assert client.send(message(b"\x40", ident=ident)).rcode == FORMERR


# Row 40.
@pytest.mark.parametrize("rdclass", [2, HS, NONE, ANY_CLASS, 5, 65280, 65535])
@pytest.mark.parametrize("qname", ["web.svc.local.", "nope.svc.local.", "www.example.com."])
def test_other_classes_are_refused(client, rdclass, qname):
    found = client.ask(qname, rdclass=rdclass)
    assert found.rcode == REFUSED and not found.has(AA) and found.counts[1:3] == (0, 0)


def test_class_zero_is_refused_or_a_format_error(client):
    assert client.send(message(question("web.svc.local.", rdclass=0))).rcode in (REFUSED, FORMERR, NOTIMP)


@pytest.mark.parametrize("qname", ["version.bind.", "VERSION.bind.", "version.server.", "id.server.", "hostname.bind."])
def test_chaos_tells_who_answers(client, qname):
    """RFC 4892; or nothing at all."""
    found = client.ask(qname, "TXT", rdclass=CH)
    assert found.rcode in (NOERROR, REFUSED)
    if found.rcode == NOERROR:
        assert [(rr.type, rr.rdclass) for rr in found.sections[0]] == [("TXT", CH)]
        assert found.sections[0][0].rdata[0] == len(found.sections[0][0].rdata) - 1 > 0


@pytest.mark.parametrize("qname, rrtype", [("authors.bind.", "TXT"), ("web.svc.local.", "A"), ("svc.local.", "SOA"), (".", "NS"),
                                           ("x.version.bind.", "TXT")])
def test_chaos_tells_nothing_else(client, qname, rrtype):
    assert client.ask(qname, rrtype, rdclass=CH).rcode == REFUSED


# Row 41.
@pytest.mark.parametrize("rrtype", [0, 41, *range(128, 133), 249, 250, 253, 254], ids=str)
def test_meta_types_have_no_data(client, rrtype):
    found = client.send(message(question("web.svc.local.", rrtype)))
    assert found.rcode in (NOERROR, FORMERR, NOTIMP) and found.counts[1] == 0


# Row 42. What streams from elsewhere may transfer is another file's subject.
@pytest.mark.parametrize("zone", ["svc.local.", "web.svc.local.", "example.com."])
def test_transfers_are_refused_over_udp(zoned, zone):
    found = Client(zoned.resolver, "udp").ask(zone, "AXFR", edns=opt())
    assert found.rcode == REFUSED and found.counts[1:3] == (0, 0)


def test_transfers_of_zones_that_are_not_here_are_refused(client):
    for rrtype in ("AXFR", "IXFR"):
        assert client.ask("example.com.", rrtype).rcode in (REFUSED, NOTAUTH)


# Row 45.
@pytest.mark.parametrize("qname, rrtype, errors", [
    ("www.example.com.", "A", [20]), (".", "NS", [20]), ("web.svc.local.", "A", []), ("nope.svc.local.", "A", []),
    ("b.ent.svc.local.", "A", []), ("x.sub.svc.local.", "A", []), ("alias-to-nothing.svc.local.", "A", [])])
def test_extended_errors(client, qname, rrtype, errors):
    assert client.ask(qname, rrtype, edns=opt()).extended_errors == errors


def test_transfers_over_udp_are_prohibited(zoned):
    assert Client(zoned.resolver, "udp").ask("svc.local.", "AXFR", edns=opt()).extended_errors == [18]


def test_long_and_short_queries_share_a_stream(zoned):
    """RFC 7766: answers to what can be read, whatever stands between."""
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
