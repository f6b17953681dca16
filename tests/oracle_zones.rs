//! Compares the reader of master files with BIND's: both make equal record data from the text of every type.
//!
//! BIND's record data are taken from the raw format of `named-compilezone` (`tests/oracle/bind.rs`).

#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

#[path = "oracle/bind.rs"]
mod bind;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use cloudmap_dns::zone::rdata::rdata_text;
use cloudmap_dns::zone::{Name, RecordType, master_file};

use bind::{Compiled, ORIGIN, compile};

/// All types that BIND 9.18 reads, with data in presentation format.
const TYPES: &[(&str, u16, &[&str])] = &[
    ("A", 1, &["192.0.2.1"]),
    ("NS", 2, &["ns", "ns.example.net."]),
    ("CNAME", 5, &["@", "a.example."]),
    // A zone has only one SOA record, which `bind::zone` writes at the head of every zone of this test.
    ("SOA", 6, &[]),
    ("MB", 7, &["host", "host.example."]),
    ("MG", 8, &["mailbox"]),
    ("MR", 9, &["mailbox"]),
    ("NULL", 10, &[r"\# 3 000102", r"\# 0"]),
    ("WKS", 11, &["10.0.0.1 TCP (telnet ftp SMTP\n 0 65535)", "10.0.0.1 17 domain", "10.0.0.1 250"]),
    ("PTR", 12, &["host"]),
    ("HINFO", 13, &["PC-Intel \"Linux 6\""]),
    ("MINFO", 14, &["owner errors.example."]),
    ("MX", 15, &["10 mail", "0 ."]),
    ("TXT", 16, &["a", r#""a b" c "\"\\\009" "" \065"#]),
    ("RP", 17, &["mailbox ."]),
    ("AFSDB", 18, &["1 host"]),
    ("X25", 19, &["311061700956", "\"3110\""]),
    ("ISDN", 20, &["150862028003217 004", "\"150862028003217\"", "\"\" \"\""]),
    ("RT", 21, &["10 relay"]),
    ("NSAP", 22, &["0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00", "0X39840F80005A"]),
    ("NSAP-PTR", 23, &["host"]),
    (
        "SIG",
        24,
        &[
            "A 5 3 86400 20030322173103 19700101000000 2642 signer oJB1",
            "0 DSA 0 0 20380119031408 20030322173103 1 . AQ ID",
        ],
    ),
    (
        "KEY",
        25,
        &[
            "0 3 1 AQIDBA==",
            "NOKEY|ZONE 255 0",
            "49152 TLS DH",
            "zone|ksk DNSSEC rsasha1 AQID",
            "0x0200 4 4 AQID",
        ],
    ),
    ("PX", 26, &["50 rfc822.example. x400"]),
    ("GPOS", 27, &["-32.6882 116.8652 \"10.0\""]),
    ("AAAA", 28, &["2001:DB8::1", "::ffff:192.0.2.1"]),
    ("LOC", 29, &["52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m", "42 S 71 6 W 0"]),
    ("NXT", 30, &["next A MX SIG KEY LOC NXT", "next", "next 1 127 TYPE64"]),
    ("EID", 31, &["e32c6f78163a9348", "e3 2c"]),
    ("NIMLOC", 32, &["32251A030067"]),
    ("SRV", 33, &["1 2 80 host"]),
    ("ATMA", 34, &["47.0079.00060000000000000000.00a03e000002.00", "+358.400", "+1", r"\# 3 020455"]),
    ("NAPTR", 35, &[r#"100 10 u E2U+sip "!^.*$!sip:info@example.com!" ."#, r#"1 2 "" "" "" next"#]),
    ("KX", 36, &["10 host"]),
    ("CERT", 37, &["PGP 0 0 mQ==", "65534 65535 RSASHA1 AQ ID", "oid 1 PRIVATEOID AQID"]),
    (
        "A6",
        38,
        &[
            "0 2001:db8::1",
            "65 2001:db8:0:0:8000::1 prefix",
            "127 ffff::ffff a.",
            "128 prefix",
            "8 ff01::1 .",
        ],
    ),
    ("DNAME", 39, &["target"]),
    ("SINK", 40, &["1 2 3 AQ ID", "255 0 1"]),
    (
        "APL",
        42,
        &[
            "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8",
            "1:0.0.0.0/0",
            "!2:2001:db8::1/128 1:10.1.2.3/8",
            "",
            r"\# 5 0003010155",
        ],
    ),
    (
        "DS",
        43,
        &[
            "60485 RSASHA1 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
            "1 ECDSA256 SHA-256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "1 13 GOST 00",
        ],
    ),
    (
        "SSHFP",
        44,
        &["4 2 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "4 3", "4 3 aa bb"],
    ),
    (
        "IPSECKEY",
        45,
        &[
            "10 1 2 192.0.2.38 AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==",
            "10 0 2 . AQNR",
            "10 2 2 2001:db8::1 AQ NR",
            "10 3 0 gateway AQNR",
        ],
    ),
    (
        "RRSIG",
        46,
        &[
            "A 5 3 86400 20030322173103 1048354263 2642 signer oJB1",
            "TYPE65280 NSEC3RSASHA1 3 0 20030322173103 20030322173103 1 a. AQID",
            "257 13 1 1 20030322173103 20030322173103 1 a. AQID",
        ],
    ),
    ("NSEC", 47, &["next A MX RRSIG NSEC TYPE1234", "next TYPE65535"]),
    ("DNSKEY", 48, &["256 3 8 AQID", "ZONE DNSSEC ED25519 AQ ID", "49152 3 8 AQID"]),
    ("DHCID", 49, &["AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=", "AAIB Y2/A"]),
    (
        "NSEC3",
        50,
        &[
            "1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
            "SHA-1 0 0 - 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S",
            "9 0 65535 - 00",
        ],
    ),
    ("NSEC3PARAM", 51, &["1 0 12 aabbccdd", "sha-1 0 0 -"]),
    ("TLSA", 52, &["3 1 1 0123456789abcdef"]),
    ("SMIMEA", 53, &["3 1 1 ab cd"]),
    ("HIP", 55, &["2 200100107B1A74DF365639CC39F1D578 AQID", "2 20 AQID rvs.example. rvs"]),
    ("NINFO", 56, &["a \"b c\""]),
    ("RKEY", 57, &["0 3 8 AQID"]),
    ("TALINK", 58, &["previous ."]),
    ("CDS", 59, &["0 0 0 00", "1 8 253 ab"]),
    ("CDNSKEY", 60, &["0 3 0 AA=="]),
    ("OPENPGPKEY", 61, &["mQ EN"]),
    ("CSYNC", 62, &["66 3 A NS AAAA", "0 0"]),
    ("ZONEMD", 63, &["1 1 240 000102030405060708090a0b"]),
    ("SVCB", 64, &["1 . alpn=h2,h3 port=53", "0 target"]),
    (
        "HTTPS",
        65,
        &[
            "16 target ipv4hint=192.0.2.1 mandatory=ipv4hint",
            "1 . dohpath=/q{?dns} ech=AQID no-default-alpn alpn=h3",
        ],
    ),
    ("DSYNC", 66, &["CDS NOTIFY 5359 scanner", "TYPE65280 2 0 .", "62 1 65535 a."]),
    ("HHIT", 67, &["AQID"]),
    ("BRID", 68, &["AQ ID"]),
    ("SPF", 99, &["\"v=spf1 -all\""]),
    ("UINFO", 100, &[r"\# 1 00"]),
    ("UID", 101, &[r"\# 1 00"]),
    ("GID", 102, &[r"\# 1 00"]),
    ("UNSPEC", 103, &[r"\# 1 00"]),
    ("NID", 104, &["10 0014:4fff:ff20:ee64"]),
    ("L32", 105, &["10 10.1.2.0"]),
    ("L64", 106, &["10 2001:DB8:1140:1000"]),
    ("LP", 107, &["10 l64-subnet"]),
    ("EUI48", 108, &["00-00-5e-00-53-2A", "0-0-5e-0-53-2a"]),
    ("EUI64", 109, &["00-00-5e-ef-10-00-00-2a"]),
    ("URI", 256, &["10 1 \"ftp://ftp.example/public\""]),
    ("CAA", 257, &["0 issue \"ca.example.net; policy=ev\"", "128 TBS Unknown"]),
    ("AVC", 258, &["\"app-name:WOLFGANG|app-class:OAM\" b"]),
    ("DOA", 259, &["0 1 2 \"\" aGVsbG8=", "4294967295 1 255 text/plain -", "0 0 0 a AQ ID"]),
    (
        "AMTRELAY",
        260,
        &["10 0 1 203.0.113.15", "10 0 2 2001:db8::15", "128 1 3 relay", "10 1 0 .", r"\# 3 000455"],
    ),
    ("RESINFO", 261, &["qnamemin exterr=15-17 \"infourl=https://resolver.example/\""]),
    ("WALLET", 262, &["ETH 0x1"]),
    ("TA", 32_768, &["60485 RSASHA1 253 2BB183AF"]),
    ("DLV", 32_769, &["60485 RSASHA1 253 2BB1 83AF"]),
    (
        "KEYDATA",
        65_533,
        &[
            "20200101000000 20200102000000 19700101000000 257 3 8 AQID",
            "20200101000000 19700101000000 19700101000000 0 0 0",
            r"\# 1 00",
        ],
    ),
];
/// Types that BIND knows and refuses in a zone: obsolete ones, and those that occur only in messages.
const NOT_IN_ZONES: &[&str] = &["MD", "MF", "OPT", "TKEY", "TSIG", "IXFR", "AXFR", "MAILB", "MAILA", "ANY"];
/// Types that earlier releases of BIND 9.18 do not read.
const NEW: &[&str] = &["DSYNC", "HHIT", "BRID", "RESINFO", "WALLET"];

const WRONG: &[&str] = &[
    r"A \# 3 0a0000",
    "MD host",
    r"TYPE4 \# 1 00",
    "MB",
    r"MB \# 2 0161",
    "MINFO owner",
    r"MINFO \# 1 00",
    "WKS 10.0.0.1",
    "WKS 10.0.0.1 256",
    "WKS 10.0.0.1 TCP no-such-service",
    "WKS 10.0.0.1 TCP 65536",
    r"WKS \# 6 0a0000010600",
    "NULL 1",
    "UID 1",
    "X25 311",
    "X25 31106a",
    r"X25 \# 4 03313233",
    "ISDN a b c",
    r"ISDN \# 2 0261",
    "RT 10",
    "NSAP 47",
    "NSAP 0x",
    "NSAP 0x470",
    r"NSAP \# 0",
    "SIG A 5 3 86400 20030322173103 20030322173103 2642 signer",
    "KEY 0 3 1",
    "KEY ZONE|NOPE 3 1 AQID",
    "KEY NOKEY 3 1 AQID",
    "KEY 65536 3 1 AQID",
    r"KEY \# 4 00000301",
    r"KEY \# 5 c000030101",
    "PX 50 a.",
    "GPOS 1 2",
    "NXT next 128",
    "NXT next TYPE0",
    r"NXT \# 2 0080",
    r"NXT \# 2 0000",
    r"NXT \# 18 000000000000000000000000000000000001",
    "EID e3f",
    "EID",
    r"NIMLOC \# 0",
    "ATMA 47..00",
    "ATMA .47",
    "ATMA 47.",
    "ATMA 470",
    "ATMA +",
    "ATMA +4a",
    r"ATMA \# 1 00",
    r"ATMA \# 2 0161",
    "CERT NOPE 0 0 mQ==",
    "CERT 1 0 0",
    r"CERT \# 5 0001000000",
    "A6 129 ::1",
    "A6 64 ::1",
    "A6 0 ::1 a.",
    r"A6 \# 3 818000",
    r"A6 \# 13 3ff000000000000000000000016100",
    "SINK 1 2",
    r"SINK \# 2 0102",
    "APL 192.0.2.0/24",
    "APL 1:192.0.2.0/33",
    "APL 2:192.0.2.0/24",
    "APL 3:00/8",
    "APL 1:192.0.2.0",
    r"APL \# 5 00011801",
    r"APL \# 6 000118020a00",
    r"APL \# 9 000118050a00000102",
    r"APL \# 5 000121010a",
    "IPSECKEY 10 4 2 . AQNR",
    "IPSECKEY 10 0 2 a. AQNR",
    "IPSECKEY 10 1 2 2001:db8::1 AQNR",
    "IPSECKEY 10 1 2 192.0.2.38",
    "IPSECKEY 10 0 0 .",
    r"IPSECKEY \# 3 0a0002",
    r"IPSECKEY \# 4 0a040201",
    r"IPSECKEY \# 7 0a0102c0000226",
    "NSEC3 1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg2 A",
    "NSEC3 1 1 12 aabbccd 2vptu5timamqttgl4luu9kg21e0aor3s A",
    "NSEC3 1 1 12",
    r"NSEC3 \# 8 0100000000020102",
    "NSEC3PARAM 1 0 12 zz",
    r"NSEC3PARAM \# 6 010000000201",
    "DHCID",
    r"DHCID \# 0",
    "HIP 2 200100107B1A74DF365639CC39F1D578",
    "HIP 2 20010 AQID",
    "HIP 256 20 AQID",
    r"HIP \# 6 000200010102",
    r"HIP \# 5 0102000020",
    r"HIP \# 7 01020001200161",
    "RKEY 1 3 8 AQID",
    r"RKEY \# 5 0001030801",
    "TALINK a.",
    "DSYNC CDS NOPE 5359 a.",
    "DSYNC CDS NOTIFY 65536 a.",
    "DSYNC CDS NOTIFY 5359",
    r"DSYNC \# 5 003b0114ef",
    "HHIT",
    r"BRID \# 0",
    r"NINFO \# 0",
    "NID 10 0014:4fff:ff20",
    "NID 10 0014:4fff:ff20:ee64:1",
    "NID 10 0014:4fff::ee64",
    "NID 10 00014:4fff:ff20:ee64",
    r"NID \# 9 000a00144fffff20ee",
    "L32 10 10.1.2",
    r"L32 \# 5 000a0a0102",
    "L64 10 2001:db8::",
    r"L64 \# 11 000a00144fffff20ee6400",
    "LP 10",
    "EUI48 00-00-5e-00-53",
    "EUI48 000-00-5e-00-53-2a",
    "EUI48 00:00:5e:00:53:2a",
    r"EUI48 \# 5 00005e0053",
    "EUI64 00-00-5e-ef-10-00-00",
    r"EUI64 \# 6 00005e00532a",
    "AVC",
    "DOA 0 1 2 a",
    "DOA 0 1 256 a -",
    "DOA 0 1 2 a - AQID",
    r"DOA \# 11 0000000000000001020261",
    "AMTRELAY 10 2 1 203.0.113.15",
    "AMTRELAY 10 0 4 a.",
    "AMTRELAY 10 0 1 a",
    "AMTRELAY 10 0 0 a.",
    "AMTRELAY 10 0 1",
    r"AMTRELAY \# 3 0a0000",
    r"AMTRELAY \# 5 0a01cb0071",
    r"AMTRELAY \# 3 0a0301",
    r"WALLET \# 1 02",
    "TA 60485 RSASHA1 253",
    r"DLV \# 4 ec4505fd",
    "KEYDATA 20200101000000 20200102000000 19700101000000 257 3",
];

/// Reads a zone with this project's reader. Returns types and data of its records by owner, or the first error.
fn read(text: &str) -> Result<Compiled, String> {
    let mut no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    let origin: Name = ORIGIN.parse().unwrap();
    let records = master_file::read(Path::new("zone"), text.as_bytes(), &origin, &mut no_files)
        .map_err(|errors| errors[0].to_string())?;
    let mut read = Compiled::new();
    for record in records.iter().map(|located| located.value) {
        let owner = record.owner.as_wire().to_ascii_lowercase();
        read.entry(owner).or_default().insert((record.rtype.0, record.rdata.to_vec()));
    }
    Ok(read)
}

/// Mnemonics and numbers of the types that the installed BIND knows, taken from its text of an NSEC record with all types.
fn known_to_bind() -> BTreeMap<String, u16> {
    let types: String = (1..=u16::MAX).map(|number| format!(" TYPE{number}")).collect();
    let text = bind::text(&format!("all NSEC .{types}\n"));
    let words = text.lines().find(|line| line.contains("NSEC")).unwrap().split_whitespace();
    let shown: Vec<&str> = words.skip_while(|word| *word != ".").skip(1).collect();
    assert_eq!(shown.len(), usize::from(u16::MAX));
    (1..=u16::MAX)
        .zip(shown)
        .filter(|(_, word)| !word.starts_with("TYPE"))
        .map(|(number, word)| (word.into(), number))
        .collect()
}

fn types() -> impl Iterator<Item = &'static (&'static str, u16, &'static [&'static str])> {
    let known = known_to_bind();
    TYPES.iter().filter(move |(mnemonic, ..)| {
        // KEYDATA is BIND's own type in the private range: BIND reads its mnemonic but does not write it.
        let is_known = known.contains_key(*mnemonic) || *mnemonic == "KEYDATA";
        assert!(is_known || NEW.contains(mnemonic), "BIND does not know {mnemonic}");
        is_known
    })
}

#[test]
fn every_type_of_bind_is_known() {
    for (mnemonic, number) in known_to_bind() {
        if !NOT_IN_ZONES.contains(&mnemonic.as_str()) {
            assert!(TYPES.iter().any(|(known, ..)| *known == mnemonic), "{mnemonic} is not in the table");
            assert_eq!(mnemonic.parse(), Ok(RecordType(number)));
            assert_eq!(RecordType(number).to_string(), mnemonic);
        }
    }
}

#[test]
fn data_of_every_type_is_read_as_bind_reads_it() {
    let mut zone = String::new();
    let mut owners = 0;
    for (mnemonic, number, texts) in types() {
        assert_eq!(mnemonic.to_lowercase().parse(), Ok(RecordType(*number)));
        for text in *texts {
            owners += 1;
            writeln!(zone, "r{owners} {mnemonic} {text}").unwrap();
            writeln!(zone, "n{owners} CLASS1 type{number} {text}").unwrap();
        }
    }
    let ours = read(&bind::zone(&zone)).unwrap();
    assert_eq!(ours.len(), 2 * owners + 2, "each has an owner, and the zone's head two");
    assert_same(&ours, &compile(&zone));

    // Write all data again, in generic format under the mnemonic and the number of the type (RFC 3597 §5) and in our
    // presentation format. All three have to be read as the original data.
    let mut again = String::new();
    for (owner, records) in &ours {
        let owner = Name::from_wire(owner).unwrap();
        for (number, rdata) in records.iter().filter(|_| owner.label_count() > 2) {
            let rtype = RecordType(*number);
            let hex: String = rdata.iter().map(|octet| format!("{octet:02x}")).collect();
            writeln!(again, "m.{owner} {} \\# {} {hex}", rtype.to_string().to_lowercase(), rdata.len())
                .unwrap();
            writeln!(again, "t.{owner} TYPE{number} \\# {} {hex}", rdata.len()).unwrap();
            writeln!(again, "s.{owner} {rtype} {}", rdata_text(rtype, rdata)).unwrap();
        }
    }
    let ours_again = read(&bind::zone(&again)).unwrap();
    assert_same(&ours_again, &compile(&again));
    let data = |read: &Compiled| read.values().flatten().cloned().collect::<BTreeSet<_>>();
    assert_eq!(data(&ours_again), data(&ours));
}

#[test]
fn data_that_bind_refuses_is_refused() {
    let known: BTreeSet<&str> = types().map(|(mnemonic, ..)| *mnemonic).collect();
    for line in WRONG {
        let mnemonic = line.split(' ').next().unwrap();
        if NEW.contains(&mnemonic) && !known.contains(mnemonic) {
            continue;
        }
        let line = format!("wrong {line}\n");
        let error = read(&bind::zone(&line)).expect_err(&line);
        assert!(error.starts_with("zone:5:"), "{line}{error}");
        assert!(!bind::accepts(&line), "BIND reads {line}, which we refuse: {error}");
    }
}

#[test]
fn owners_in_quotes_are_read_as_bind_reads_them() {
    let zone = r#"
"a" TXT relative
"a b" TXT blank
"a.b" TXT "two labels"
"c\.d.e" TXT "a dot in a label"
"f\032\"\009\;;()" TXT escapes
"absolute.x.example." TXT absolute
"@" TXT origin
"\@" TXT "an at sign"
"*" TXT wildcard
"IN" 300 IN TXT class
	TXT "the owner before"
"#;
    let ours = read(&bind::zone(zone)).unwrap();
    assert_eq!(ours.len(), 11);
    assert_same(&ours, &compile(zone));
    for wrong in ["\"\" TXT a\n", "\"a..b\" TXT a\n", "\"a\\\" TXT a\n", "\"a TXT a\n"] {
        assert!(read(&bind::zone(wrong)).is_err(), "{wrong}");
        assert!(!bind::accepts(wrong), "{wrong}");
    }
}

#[track_caller]
fn assert_same(ours: &Compiled, theirs: &Compiled) {
    for (owner, records) in theirs {
        let name = Name::from_wire(owner).unwrap();
        assert_eq!(ours.get(owner), Some(records), "{name}: ours, then BIND's");
    }
    assert_eq!(ours.len(), theirs.len());
}
