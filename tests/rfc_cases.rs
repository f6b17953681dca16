//! Examples of the RFCs, copied literally: a zone, queries, and their responses.
//!
//! Authority sections follow today's rules instead of RFC 1034: negative answers have the SOA record (RFC 2308), and positive
//! ones have no NS records.

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[expect(dead_code, reason = "there is no EDNS in these queries")]
#[path = "oracle/message.rs"]
mod message;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use cloudmap_dns::dns::{Common, CookieSecrets, Limits, Transport, Verdict, View, Worker, answer};
use cloudmap_dns::zone::contents::Contents;
use cloudmap_dns::zone::file_records::FileRecords;
use cloudmap_dns::zone::{DirectoryWriter, Name, Record, RecordType, Rrset, master_file};

const NOERROR: u16 = 0;
const NXDOMAIN: u16 = 3;
const YXDOMAIN: u16 = 6;
const REFUSED: u16 = 5;
const AA: bool = true;
const REFERRED: bool = false;

/// A question, the response code, AA, and the three sections as lines of a master file without TTLs.
type Case =
    (&'static str, u16, bool, &'static [&'static str], &'static [&'static str], &'static [&'static str]);

fn read(origin: &str, text: &str) -> FileRecords {
    let mut no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    master_file::read(Path::new("rfc"), text.as_bytes(), &origin.parse().unwrap(), &mut no_files).unwrap()
}

fn directory(zones: &[(&str, &str)]) -> DirectoryWriter {
    let mut directory = DirectoryWriter::default();
    for (origin, text) in zones {
        let apex: Name = origin.parse().unwrap();
        let contents = Contents::new(read(origin, text));
        contents.check_whole(&apex, Path::new("rfc")).unwrap();
        let mut owners = BTreeMap::<Name, Vec<Rrset>>::new();
        for owned in contents.rrsets() {
            owners.entry(owned.owner).or_default().push(owned.rrset);
        }
        directory.put_zone(&apex, Arc::new(AtomicU32::new(1)), true);
        for (owner, rrsets) in owners {
            directory.set_rrsets(&apex, &owner, rrsets);
        }
    }
    directory
}

/// A line to compare records by: owner, type and data in lower case. The data of a SOA record are left out.
fn line(owner: &[u8], rtype: RecordType, rdata: &[u8]) -> String {
    let owner = Name::from_wire(owner).unwrap();
    match rtype {
        RecordType::SOA => format!("{owner} SOA"),
        _ => format!("{owner} {rtype} {rdata:?}"),
    }
    .to_ascii_lowercase()
}

fn expected(lines: &[&str]) -> Vec<String> {
    let text = format!("$TTL 1\n{}\n", lines.join("\n"));
    let records = read(".", &text);
    let mut lines: Vec<String> = records
        .iter()
        .map(|located| {
            let Record { owner, rtype, rdata, .. } = &located.value;
            line(owner.as_wire(), *rtype, &rdata.to_ascii_lowercase())
        })
        .collect();
    lines.sort();
    lines
}

fn check(zones: &[(&str, &str)], cases: &[Case]) {
    let directory = directory(zones);
    let view = View { directory: &directory, generation: 1, is_stale: false };
    let mut worker = Worker::new(Common::new("rfc", CookieSecrets::new(&[[0; 16]]).unwrap()));
    let transport = Transport::Tcp { idle_timeout: Duration::from_secs(30) };
    let limits = Limits { transport, client: "127.0.0.1".parse().unwrap(), now_seconds: 0 };
    let mut out = vec![0; 65_535];
    for (asked, code, is_ours, answers, authorities, additionals) in cases {
        let (name, rtype) = asked.split_once(' ').unwrap();
        let (name, rtype): (Name, RecordType) = (name.parse().unwrap(), rtype.parse().unwrap());
        let header: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let query = [header, name.as_wire(), &rtype.0.to_be_bytes(), &[0, 1]].concat();
        let Verdict::Reply(reply) = answer(&view, &query, &limits, &mut worker, &mut out) else {
            panic!("{asked}: no reply");
        };
        let message = message::read(&out[..reply.len]).unwrap();
        assert_eq!((reply.code.0, message.has(0x0400)), (*code, *is_ours), "{asked}: code and AA");
        for (section, lines) in message.sections.iter().zip([answers, authorities, additionals]) {
            let mut actual: Vec<String> = section
                .iter()
                .map(|record| {
                    line(&record.owner, RecordType(record.rtype), &record.rdata.to_ascii_lowercase())
                })
                .collect();
            actual.sort();
            assert_eq!(actual, expected(lines), "{asked}");
        }
    }
}

/// RFC 1034 §6.1: the root zone.
const ROOT: &str = "
$TTL 86400
.             SOA SRI-NIC.ARPA. HOSTMASTER.SRI-NIC.ARPA. 870611 1800 300 604800 86400
.             NS A.ISI.EDU.
.             NS C.ISI.EDU.
.             NS SRI-NIC.ARPA.
MIL.          NS SRI-NIC.ARPA.
MIL.          NS A.ISI.EDU.
EDU.          NS SRI-NIC.ARPA.
EDU.          NS C.ISI.EDU.
SRI-NIC.ARPA. A 26.0.0.73
SRI-NIC.ARPA. A 10.0.0.51
SRI-NIC.ARPA. MX 0 SRI-NIC.ARPA.
SRI-NIC.ARPA. HINFO DEC-2060 TOPS20
ACC.ARPA.     A 26.6.0.65
ACC.ARPA.     HINFO PDP-11/70 UNIX
ACC.ARPA.     MX 10 ACC.ARPA.
USC-ISIC.ARPA. CNAME C.ISI.EDU.
73.0.0.26.IN-ADDR.ARPA. PTR SRI-NIC.ARPA.
65.0.6.26.IN-ADDR.ARPA. PTR ACC.ARPA.
51.0.0.10.IN-ADDR.ARPA. PTR SRI-NIC.ARPA.
52.0.0.10.IN-ADDR.ARPA. PTR C.ISI.EDU.
103.0.3.26.IN-ADDR.ARPA. PTR A.ISI.EDU.
A.ISI.EDU.    A 26.3.0.103
C.ISI.EDU.    A 10.0.0.52
";
const SOA: &[&str] = &[". SOA . . 0 0 0 0 0"];
const SRI_NIC: [&str; 2] = ["SRI-NIC.ARPA. A 26.0.0.73", "SRI-NIC.ARPA. A 10.0.0.51"];

#[test]
fn rfc_1034_section_6_2() {
    let edu: &[&str] = &["EDU. NS SRI-NIC.ARPA.", "EDU. NS C.ISI.EDU."];
    let edu_glue: &[&str] = &[SRI_NIC[0], SRI_NIC[1], "C.ISI.EDU. A 10.0.0.52"];
    let cname: &[&str] = &["USC-ISIC.ARPA. CNAME C.ISI.EDU."];
    check(
        &[(".", ROOT)],
        &[
            ("SRI-NIC.ARPA. A", NOERROR, AA, &SRI_NIC, &[], &[]),
            ("SRI-NIC.ARPA. MX", NOERROR, AA, &["SRI-NIC.ARPA. MX 0 SRI-NIC.ARPA."], &[], &SRI_NIC),
            ("SRI-NIC.ARPA. NS", NOERROR, AA, &[], SOA, &[]),
            ("SIR-NIC.ARPA. A", NXDOMAIN, AA, &[], SOA, &[]),
            (
                "BRL.MIL. A",
                NOERROR,
                REFERRED,
                &[],
                &["MIL. NS SRI-NIC.ARPA.", "MIL. NS A.ISI.EDU."],
                &[SRI_NIC[0], SRI_NIC[1], "A.ISI.EDU. A 26.3.0.103"],
            ),
            // This server does not have EDU, so it answers the alias and a referral to the servers of EDU.
            ("USC-ISIC.ARPA. A", NOERROR, AA, cname, edu, edu_glue),
            ("USC-ISIC.ARPA. CNAME", NOERROR, AA, cname, &[], &[]),
        ],
    );
}

#[test]
fn rfc_4592_section_2_2_1() {
    let zone = r#"
$TTL 3600
@                   SOA ns.example.com. host.example.com. 1 1h 1h 1h 1h
@                   NS ns.example.com.
@                   NS ns.example.net.
*                   TXT "this is a wildcard"
*                   MX 10 host1
sub.*               TXT "this is not a wildcard"
host1               A 192.0.2.1
_ssh._tcp.host1     SRV 0 0 22 host1
_ssh._tcp.host2     SRV 0 0 22 host2
subdel              NS ns.example.com.
subdel              NS ns.example.net.
"#;
    let soa: &[&str] = &["example. SOA . . 0 0 0 0 0"];
    let subdel: &[&str] = &["subdel.example. NS ns.example.com.", "subdel.example. NS ns.example.net."];
    let host1: &[&str] = &["host1.example. A 192.0.2.1"];
    check(
        &[("example", zone)],
        &[
            ("host3.example. MX", NOERROR, AA, &["host3.example. MX 10 host1.example."], &[], host1),
            ("host3.example. A", NOERROR, AA, &[], soa, &[]),
            ("foo.bar.example. TXT", NOERROR, AA, &["foo.bar.example. TXT \"this is a wildcard\""], &[], &[]),
            ("host1.example. MX", NOERROR, AA, &[], soa, &[]),
            ("sub.*.example. MX", NOERROR, AA, &[], soa, &[]),
            ("_telnet._tcp.host1.example. SRV", NXDOMAIN, AA, &[], soa, &[]),
            ("host.subdel.example. A", NOERROR, REFERRED, &[], subdel, &[]),
            ("ghost.*.example. MX", NXDOMAIN, AA, &[], soa, &[]),
            // §2.2.2 has empty non-terminals, and §4.9 a query for the wildcard by its own name.
            ("_tcp.host1.example. A", NOERROR, AA, &[], soa, &[]),
            ("host2.example. A", NOERROR, AA, &[], soa, &[]),
            ("*.example. TXT", NOERROR, AA, &["*.example. TXT \"this is a wildcard\""], &[], &[]),
        ],
    );
}

#[test]
fn rfc_6672_section_2_2() {
    let soa = "$TTL 1h\n@ SOA ns.invalid. h.invalid. 1 1h 1h 1h 1h\n@ NS ns.invalid.\n";
    let zone = |dname: &str| format!("{soa}{dname}\n");
    let com: &[&str] = &["com. SOA . . 0 0 0 0 0"];
    // A DNAME replaces neither its owner name nor a name that ends in the owner's octets but not in its labels.
    check(
        &[("com", &zone("example DNAME example.net.\nb.sub DNAME example.net."))],
        &[
            ("com. A", NOERROR, AA, &[], com, &[]),
            ("example.com. A", NOERROR, AA, &[], com, &[]),
            ("ab.sub.com. A", NXDOMAIN, AA, &[], com, &[]),
            (
                "a.example.com. A",
                NOERROR,
                AA,
                &["example.com. DNAME example.net.", "a.example.com. CNAME a.example.net."],
                &[],
                &[],
            ),
            (
                "a.b.example.com. A",
                NOERROR,
                AA,
                &["example.com. DNAME example.net.", "a.b.example.com. CNAME a.b.example.net."],
                &[],
                &[],
            ),
        ],
    );
    let cycle: &[&str] = &["example.com. DNAME example.com.", "cyc.example.com. CNAME cyc.example.com."];
    check(
        &[("com", &zone("example DNAME example"))],
        &[("cyc.example.com. A", NOERROR, AA, cycle, &[], &[])],
    );
    check(
        &[("x", &zone("@ DNAME ."))],
        &[
            ("shortloop.x. A", NOERROR, AA, &["x. DNAME .", "shortloop.x. CNAME shortloop."], &[], &[]),
            (
                "shortloop.x.x. A",
                NOERROR,
                AA,
                &["x. DNAME .", "shortloop.x.x. CNAME shortloop.x.", "shortloop.x. CNAME shortloop."],
                &[],
                &[],
            ),
        ],
    );
    // §2.2: the substituted name would be longer than 255 octets.
    let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".");
    let dname: &'static str = format!("long.com. DNAME {long}.").leak();
    check(
        &[("com", &zone(&format!("long DNAME {long}.")))],
        &[("a-name-of-some-length.long.com. A", YXDOMAIN, AA, vec![dname].leak(), &[], &[])],
    );
}

#[test]
fn rfc_2308_section_2_and_rfc_8020() {
    let zone = "
$TTL 1h
@       SOA ns1 hostmaster.ns1 1997102000 1800 900 604800 1200
@       NS ns1
ns1     A 127.0.0.2
an      CNAME tripple
another MX 10 ns1
a.b.c   A 127.0.0.3
out     CNAME tripple.yy.
";
    let soa: &[&str] = &["xx. SOA . . 0 0 0 0 0"];
    check(
        &[("xx", zone)],
        &[
            // RFC 2308 §2.1 and RFC 6604 §3: the response code is that of the last name of the chain.
            ("an.xx. A", NXDOMAIN, AA, &["an.xx. CNAME tripple.xx."], soa, &[]),
            ("an.xx. CNAME", NOERROR, AA, &["an.xx. CNAME tripple.xx."], &[], &[]),
            // RFC 2308 §2.2.
            ("another.xx. A", NOERROR, AA, &[], soa, &[]),
            // A target outside of the zone is not looked up, and the response code is not that of the target.
            ("out.xx. A", NOERROR, AA, &["out.xx. CNAME tripple.yy."], &[], &[]),
            ("tripple.yy. A", REFUSED, false, &[], &[], &[]),
            // RFC 8020 §2: a name exists if names below it exist, and no name exists below one that does not.
            ("b.c.xx. A", NOERROR, AA, &[], soa, &[]),
            ("c.xx. A", NOERROR, AA, &[], soa, &[]),
            ("x.a.b.c.xx. A", NXDOMAIN, AA, &[], soa, &[]),
        ],
    );
}

#[test]
fn rfc_2181_section_6_and_rfc_4035_section_3_1_4_1() {
    let parent = "
$TTL 1h
@      SOA ns h 1 1h 1h 1h 1h
@      NS ns
ns     A 192.0.2.1
sub    NS ns.sub
sub    DS 1 8 2 0011223344556677889900112233445566778899001122334455667788990011
ns.sub A 192.0.2.2
own    NS ns.own
own    DS 2 8 2 0011223344556677889900112233445566778899001122334455667788990011
ns.own A 192.0.2.3
";
    let child = "$TTL 1h\n@ SOA ns h 1 1h 1h 1h 1h\n@ NS ns\nns A 192.0.2.3\n";
    let sub: &[&str] = &["sub.test. NS ns.sub.test."];
    let glue: &[&str] = &["ns.sub.test. A 192.0.2.2"];
    let ds = "DS 1 8 2 0011223344556677889900112233445566778899001122334455667788990011";
    let sub_ds: &'static str = format!("sub.test. {ds}").leak();
    let own_ds: &'static str = format!("own.test. {ds}").replace("DS 1", "DS 2").leak();
    check(
        &[("test", parent), ("own.test", child)],
        &[
            // RFC 2181 §6.1: the parent is not authoritative for the NS records of a zone cut or for the glue.
            ("sub.test. NS", NOERROR, REFERRED, &[], sub, glue),
            ("ns.sub.test. A", NOERROR, REFERRED, &[], sub, glue),
            // RFC 4035 §3.1.4.1: the parent is authoritative for DS, also if this server has the child zone.
            ("sub.test. DS", NOERROR, AA, vec![sub_ds].leak(), &[], &[]),
            ("own.test. DS", NOERROR, AA, vec![own_ds].leak(), &[], &[]),
            ("own.test. NS", NOERROR, AA, &["own.test. NS ns.own.test."], &[], &["ns.own.test. A 192.0.2.3"]),
            ("www.own.test. A", NXDOMAIN, AA, &[], &["own.test. SOA . . 0 0 0 0 0"], &[]),
        ],
    );
}
