//! Tests of record data from text to wire form and back, with the examples of the RFCs.

use proptest::prelude::*;

use super::*;
use crate::zone::presentation::{Entries, Spot};
use layout::Kind;

fn known_types() -> Vec<RecordType> {
    (1..=u16::MAX).map(RecordType).filter(|rtype| layout::fields(*rtype).is_some()).collect()
}

fn parse(rtype: RecordType, text: &str) -> Result<Vec<u8>, TextError> {
    let origin: Name = "example.com".parse().unwrap();
    let entry = match Entries::new(text.as_bytes()).next().transpose()? {
        Some(entry) => entry,
        None => crate::zone::presentation::Entry {
            words: vec![],
            indented: false,
            end: Spot { line: 1, column: 1 },
        },
    };
    read(rtype, &mut entry.cursor(), &origin).map(Vec::from)
}

fn octets(hex: &str) -> Vec<u8> {
    encoding::from_hex(hex.replace(' ', "").as_bytes()).unwrap()
}

#[test]
fn data_is_read_to_wire_form_and_shown() {
    struct Case {
        rtype: RecordType,
        text: &'static str,
        hex: &'static str,
        shown: &'static str,
    }
    let cases = [
        Case { rtype: RecordType::A, text: "10.1.0.52", hex: "0A010034", shown: "10.1.0.52" },
        Case {
            rtype: RecordType::AAAA,
            text: "2001:DB8:0::1",
            hex: "20010DB8000000000000000000000001",
            shown: "2001:db8::1",
        },
        Case {
            rtype: RecordType::MX,
            text: "10 Foo",
            hex: "000A 03466F6F 076578616d706c65 03636f6d 00",
            shown: "10 Foo.example.com.",
        },
        Case { rtype: RecordType::MX, text: "0 .", hex: "0000 00", shown: "0 ." },
        Case {
            rtype: RecordType::TXT,
            text: r#"a "b c" \065\; "" "#,
            hex: "0161 03622063 02413B 00",
            shown: r#""a" "b c" "A;" """#,
        },
        Case { rtype: RecordType::TXT, text: r#"k="v""#, hex: "026B3D 0176", shown: r#""k=" "v""# },
        Case {
            rtype: RecordType::SPF,
            text: r#""v=spf1 -all""#,
            hex: "0B763D73706631202D616C6C",
            shown: r#""v=spf1 -all""#,
        },
        Case { rtype: RecordType::HINFO, text: "PC \"\"", hex: "025043 00", shown: "\"PC\" \"\"" },
        Case {
            rtype: RecordType::SOA,
            text: r"a. b\.c. 1 2h 3 4 1m",
            hex: "016100 03622E6300 00000001 00001C20 00000003 00000004 0000003C",
            shown: r"a. b\.c. 1 7200 3 4 60",
        },
        Case { rtype: RecordType::SRV, text: "1 2 80 a.", hex: "0001 0002 0050 016100", shown: "1 2 80 a." },
        // RFC 3403 §6.2, with the escape of a backslash that master files need.
        Case {
            rtype: RecordType::NAPTR,
            text: r#"100 10 "" "" "!^urn:cid:.+@([^\\.]+\\.)(.*)$!\\2!i" ."#,
            hex: "0064 000A 00 00 21 215E75726E3A6369643A2E2B40285B5E5C2E5D2B5C2E29282E2A2924215C322169 00",
            shown: r#"100 10 "" "" "!^urn:cid:.+@([^\\.]+\\.)(.*)$!\\2!i" ."#,
        },
        Case {
            rtype: RecordType::CAA,
            text: "0 issue ca.example.net",
            hex: "00 056973737565 63612E6578616D706C652E6E6574",
            shown: "0 issue \"ca.example.net\"",
        },
        Case { rtype: RecordType::CAA, text: "128 tbs \"\"", hex: "80 03746273", shown: "128 tbs \"\"" },
        Case {
            rtype: RecordType::URI,
            text: "10 1 \"ftp://a\"",
            hex: "000A 0001 6674703A2F2F61",
            shown: "10 1 \"ftp://a\"",
        },
        Case {
            rtype: RecordType::TLSA,
            text: "3 1 1 ( d2ab de24\n 07 )",
            hex: "030101 D2ABDE2407",
            shown: "3 1 1 D2ABDE2407",
        },
        Case { rtype: RecordType::SSHFP, text: "2 1 123456", hex: "0201 123456", shown: "2 1 123456" },
        Case {
            rtype: RecordType::DS,
            text: "60485 RSASHA1 1 2BB1 83AF",
            hex: "EC45 05 01 2BB183AF",
            shown: "60485 5 1 2BB183AF",
        },
        Case {
            rtype: RecordType::DNSKEY,
            text: "256 3 5 AQ PS Kg==",
            hex: "0100 03 05 0103D22A",
            shown: "256 3 5 AQPSKg==",
        },
        Case { rtype: RecordType::AFSDB, text: "1 a.", hex: "0001 016100", shown: "1 a." },
        Case { rtype: RecordType::RP, text: "a. .", hex: "016100 00", shown: "a. ." },
        // The first example of this type is shortened from RFC 4034 §4.3.
        Case {
            rtype: RecordType::NSEC,
            text: "host.example.com. (A MX RRSIG NSEC TYPE1234)",
            hex: "04686f7374076578616d706c6503636f6d00 0006400100000003 041b0000000000000000000000000000000000000000000000000000 20",
            shown: "host.example.com. A MX RRSIG NSEC TYPE1234",
        },
        Case {
            rtype: RecordType::RRSIG,
            text: "A 5 3 86400 20030322173103 1048354263 2642 a. oJB1",
            hex: "0001 05 03 00015180 3E7C9DD7 3E7C9DD7 0A52 016100 A09075",
            shown: "A 5 3 86400 1048354263 1048354263 2642 a. oJB1",
        },
        // The first three LOC records are the examples of RFC 1876 §4.
        Case {
            rtype: RecordType::LOC,
            text: "42 21 54 N 71 06 18 W -24m 30m",
            hex: "00 33 16 13 89172DD0 70BE15F0 00988D20",
            shown: "42 21 54.000 N 71 6 18.000 W -24.00m 30m 10000m 10m",
        },
        Case {
            rtype: RecordType::LOC,
            text: "42 21 43.528 N 71 05 06.284 W -25m 1m 3000m 10m",
            hex: "00 12 35 13 891704E8 70BF2E14 00988CBC",
            shown: "42 21 43.528 N 71 5 6.284 W -25.00m 1m 3000m 10m",
        },
        Case {
            rtype: RecordType::LOC,
            text: "32 7 19 S 116 2 25 E 10m",
            hex: "00 12 16 13 791B7D28 98E64868 00989A68",
            shown: "32 7 19.000 S 116 2 25.000 E 10.00m 1m 10000m 10m",
        },
        Case {
            rtype: RecordType::LOC,
            text: "0 n 180 e 0 0.05",
            hex: "00 50 16 13 80000000 A69FB200 00989680",
            shown: "0 0 0.000 N 180 0 0.000 E 0.00m 0.05m 10000m 10m",
        },
        Case {
            rtype: RecordType(731),
            text: "\\# 6 abcdef ( 01 23\n 45 )",
            hex: "abcdef012345",
            shown: r"\# 6 ABCDEF012345",
        },
        Case { rtype: RecordType(62347), text: r"\# 0", hex: "", shown: r"\# 0" },
        Case { rtype: RecordType::A, text: r"\# 4 0A000001", hex: "0a000001", shown: "10.0.0.1" },
        Case { rtype: RecordType::NS, text: r"\# 3 016100", hex: "016100", shown: "a." },
    ];
    for case in cases {
        let wire = parse(case.rtype, case.text).unwrap_or_else(|error| panic!("{}: {error}", case.text));
        assert_eq!(wire, octets(case.hex), "{}", case.text);
        assert_eq!(rdata_text(case.rtype, &wire), case.shown);
        assert_eq!(parse(case.rtype, case.shown).unwrap(), wire, "{}", case.shown);
    }
}

#[test]
fn data_of_rare_types_is_read_to_wire_form_and_shown() {
    for (rtype, text, hex, shown) in [
        (RecordType::MB, "a", "0161076578616d706c6503636f6d00", "a.example.com."),
        (RecordType::MG, "a", "0161076578616d706c6503636f6d00", "a.example.com."),
        (RecordType::MR, "a.", "016100", ""),
        (RecordType::MINFO, "a b.", "0161076578616d706c6503636f6d00016200", "a.example.com. b."),
        (RecordType::NULL, r#"\# 3 000102"#, "000102", ""),
        (
            RecordType::WKS,
            "10.0.0.1 TCP 25 domain 80",
            "0a000001060000004000000400000080",
            "10.0.0.1 6 25 53 80",
        ),
        (RecordType::WKS, "10.0.0.1 250", "0a000001fa", ""),
        (RecordType::X25, "311061700956", "0c333131303631373030393536", r#""311061700956""#),
        (
            RecordType::ISDN,
            "150862028003217 004",
            "0f31353038363230323830303332313703303034",
            r#""150862028003217" "004""#,
        ),
        (RecordType::ISDN, r#""150862028003217""#, "0f313530383632303238303033323137", ""),
        (RecordType::RT, "10 a.", "000a016100", ""),
        (
            RecordType::NSAP,
            "0x47.0005.80.005a00.0000.0001.e133.ffffff000161.00",
            "47000580005a0000000001e133ffffff00016100",
            "0x47000580005A0000000001E133FFFFFF00016100",
        ),
        (RecordType::NSAP_PTR, "a.", "016100", ""),
        (
            RecordType::SIG,
            "A 5 3 86400 20030322173103 20030322173103 2642 a. oJB1",
            "00010503000151803e7c9dd73e7c9dd70a52016100a09075",
            "A 5 3 86400 20030322173103 20030322173103 2642 a. oJB1",
        ),
        (RecordType::KEY, "0 3 1 AQIDBA==", "0000030101020304", ""),
        (RecordType::KEY, "NOKEY|ZONE 255 0", "c100ff00", "49408 255 0"),
        (RecordType::PX, "50 a. b.", "0032016100016200", ""),
        (
            RecordType::GPOS,
            r#"-32.6882 116.8652 "10.0""#,
            "082d33322e36383832083131362e383635320431302e30",
            r#""-32.6882" "116.8652" "10.0""#,
        ),
        (RecordType::NXT, "a. A MX 127", "01610040010000000000000000000000000001", "a. A MX TYPE127"),
        (RecordType::EID, "e3 2c6f78163a9348", "e32c6f78163a9348", "E32C6F78163A9348"),
        (RecordType::NIMLOC, "32251a030067", "32251a030067", "32251A030067"),
        (RecordType::ATMA, "47.0079.00", "0047007900", "47007900"),
        (RecordType::ATMA, "+358.400", "01333538343030", "+358400"),
        (RecordType::CERT, "PGP 0 0 mQ==", "000300000099", "3 0 0 mQ=="),
        (RecordType::CERT, "1 2 RSASHA1 AQ ID", "0001000205010203", "1 2 5 AQID"),
        (RecordType::A6, "0 2001:db8::1", "0020010db8000000000000000000000001", ""),
        (RecordType::A6, "65 2001:db8:0:0:8000::1 a.", "410000000000000001016100", "65 ::1 a."),
        (RecordType::A6, "128 a.", "80016100", ""),
        (RecordType::SINK, "1 2 3", "010203", ""),
        (RecordType::SINK, "1 2 3 AQ ID", "010203010203", "1 2 3 AQID"),
        (
            RecordType::APL,
            "1:192.168.32.0/21 !1:192.168.38.0/28 2:ff00::/8",
            "00011503c0a82000011c83c0a82600020801ff",
            "",
        ),
        (RecordType::IPSECKEY, "10 1 2 192.0.2.38 AQNR", "0a0102c0000226010351", ""),
        (RecordType::IPSECKEY, "10 0 2 . AQNR", "0a0002010351", ""),
        (RecordType::IPSECKEY, "10 3 2 a. AQNR", "0a0302016100010351", ""),
        (RecordType::IPSECKEY, "10 2 2 2001:db8::1 AQNR", "0a020220010db8000000000000000000000001010351", ""),
        (
            RecordType::NSEC3,
            "1 1 12 aabbccdd 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
            "0101000c04aabbccdd1417f3df17b2b2adaef615257de4d2020b80ac6c7c0006400000000002",
            "1 1 12 AABBCCDD 2vptu5timamqttgl4luu9kg21e0aor3s A RRSIG",
        ),
        (
            RecordType::NSEC3,
            "SHA-1 0 0 - 2VPTU5TIMAMQTTGL4LUU9KG21E0AOR3S",
            "01000000001417f3df17b2b2adaef615257de4d2020b80ac6c7c",
            "1 0 0 - 2vptu5timamqttgl4luu9kg21e0aor3s",
        ),
        (RecordType::NSEC3PARAM, "1 0 12 aabbccdd", "0100000c04aabbccdd", "1 0 12 AABBCCDD"),
        (RecordType::DHCID, "AAIBY2/A uA==", "000201636fc0b8", "AAIBY2/AuA=="),
        (
            RecordType::HIP,
            "2 200100107B1A74DF365639CC39F1D578 AQID a b.",
            "10020003200100107b1a74df365639cc39f1d5780102030161076578616d706c6503636f6d00016200",
            "2 200100107B1A74DF365639CC39F1D578 AQID a.example.com. b.",
        ),
        (RecordType::NINFO, r#"a "b c""#, "016103622063", r#""a" "b c""#),
        (RecordType::RKEY, "0 3 8 AQID", "00000308010203", ""),
        (RecordType::TALINK, "a. b.", "016100016200", ""),
        (RecordType::DSYNC, "CDS NOTIFY 5359 a.", "003b0114ef016100", "CDS 1 5359 a."),
        (RecordType::HHIT, "AQID", "010203", ""),
        (RecordType::BRID, "AQ ID", "010203", "AQID"),
        (RecordType::NID, "10 0014:4fff:ff20:ee64", "000a00144fffff20ee64", "10 14:4fff:ff20:ee64"),
        (RecordType::L32, "10 10.1.2.0", "000a0a010200", ""),
        (RecordType::L64, "10 2001:db8:1140:1000", "000a20010db811401000", ""),
        (RecordType::LP, "10 a.", "000a016100", ""),
        (RecordType::EUI48, "00-00-5e-00-53-2A", "00005e00532a", "00-00-5e-00-53-2a"),
        (RecordType::EUI64, "00-00-5e-ef-10-00-00-2a", "00005eef1000002a", ""),
        (
            RecordType::AVC,
            r#""app-name:WOLFGANG" a"#,
            "116170702d6e616d653a574f4c4647414e470161",
            r#""app-name:WOLFGANG" "a""#,
        ),
        (RecordType::DOA, r#"0 1 2 "" aGVsbG8="#, "0000000000000001020068656c6c6f", ""),
        (
            RecordType::DOA,
            "1234567890 1 2 text/plain -",
            "499602d200000001020a746578742f706c61696e",
            r#"1234567890 1 2 "text/plain" -"#,
        ),
        (RecordType::AMTRELAY, "10 0 1 203.0.113.15", "0a01cb00710f", ""),
        (RecordType::AMTRELAY, "10 0 2 2001:db8::15", "0a0220010db8000000000000000000000015", ""),
        (RecordType::AMTRELAY, "128 1 3 a.", "8083016100", ""),
        (RecordType::AMTRELAY, "10 1 0 .", "0a80", ""),
        (
            RecordType::RESINFO,
            "qnamemin exterr=15-17",
            "08716e616d656d696e0c6578746572723d31352d3137",
            r#""qnamemin" "exterr=15-17""#,
        ),
        (RecordType::WALLET, r#"ETH "0x1""#, "0345544803307831", r#""ETH" "0x1""#),
        (RecordType::TA, "60485 RSASHA1 253 2BB183AF", "ec4505fd2bb183af", "60485 5 253 2BB183AF"),
        (RecordType::DLV, "60485 RSASHA1 253 2BB183AF", "ec4505fd2bb183af", "60485 5 253 2BB183AF"),
        (
            RecordType::KEYDATA,
            "20200101000000 20200102000000 19700101000000 257 3 8 AQID",
            "5e0be1005e0d32800000000001010308010203",
            r#"\# 19 5E0BE1005E0D32800000000001010308010203"#,
        ),
        (RecordType::AMTRELAY, r#"\# 3 000455"#, "000455", ""),
        (RecordType::APL, r#"\# 5 0003010155"#, "0003010155", ""),
        (RecordType::ATMA, r#"\# 3 020455"#, "020455", ""),
        (RecordType::APL, "", "", r"\# 0"),
    ] {
        let wire = parse(rtype, text).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        assert_eq!(wire, octets(hex), "{rtype} {text}");
        let shown = if shown.is_empty() { text } else { shown };
        assert_eq!(rdata_text(rtype, &wire), shown);
        assert_eq!(parse(rtype, shown).unwrap(), wire, "{rtype} {shown}");
    }
}

#[test]
fn service_parameters_are_as_in_rfc_9460_appendix_d() {
    const FOO_COM: &str = "03666f6f 076578616d706c65 03636f6d 00";
    const FOO_ORG: &str = "03666f6f 076578616d706c65 036f7267 00";
    struct Case {
        text: &'static str,
        hex: [&'static str; 3],
        shown: &'static str,
    }
    for case in [
        Case { text: "0 foo.example.com.", hex: ["0000", FOO_COM, ""], shown: "0 foo.example.com." },
        Case { text: "1 .", hex: ["0001", "00", ""], shown: "1 ." },
        Case {
            text: "16 foo.example.com. port=53",
            hex: ["0010", FOO_COM, "0003 0002 0035"],
            shown: "16 foo.example.com. port=53",
        },
        Case {
            text: "1 foo.example.com. key667=hello",
            hex: ["0001", FOO_COM, "029b 0005 68656c6c6f"],
            shown: r#"1 foo.example.com. key667="hello""#,
        },
        Case {
            text: r#"1 foo.example.com. key667="hello\210qoo""#,
            hex: ["0001", FOO_COM, "029b 0009 68656c6c6fd2716f6f"],
            shown: r#"1 foo.example.com. key667="hello\210qoo""#,
        },
        Case {
            text: r#"1 foo.example.com. ipv6hint="2001:db8::1,2001:db8::53:1""#,
            hex: [
                "0001",
                FOO_COM,
                "0006 0020 20010db8000000000000000000000001 20010db8000000000000000000530001",
            ],
            shown: "1 foo.example.com. ipv6hint=2001:db8::1,2001:db8::53:1",
        },
        Case {
            text: r#"1 foo.example.com. ipv6hint="2001:db8:122:344::192.0.2.33""#,
            hex: ["0001", FOO_COM, "0006 0010 20010db8012203440000 0000c0000221"],
            shown: "1 foo.example.com. ipv6hint=2001:db8:122:344::c000:221",
        },
        Case {
            text: "16 foo.example.org. (alpn=h2,h3-19 mandatory=ipv4hint,alpn\n ipv4hint=192.0.2.1)",
            hex: [
                "0010",
                FOO_ORG,
                "0000 0004 0001 0004  0001 0009 02 6832 05 68332d3139  0004 0004 c0000201",
            ],
            shown: r#"16 foo.example.org. mandatory=alpn,ipv4hint alpn="h2,h3-19" ipv4hint=192.0.2.1"#,
        },
        Case {
            text: r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
            hex: ["0010", FOO_ORG, "0001 000c 08 665c6f6f2c626172 02 6832"],
            shown: r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
        },
        Case {
            text: r"16 foo.example.org. alpn=f\\\092oo\092,bar,h2",
            hex: ["0010", FOO_ORG, "0001 000c 08 665c6f6f2c626172 02 6832"],
            shown: r#"16 foo.example.org. alpn="f\\\\oo\\,bar,h2""#,
        },
        Case {
            text: r#"1 . ohttp dohpath="/dns-query{?dns}" ech=AEU= no-default-alpn alpn=h3 key3="\000\053""#,
            hex: [
                "0001",
                "00",
                "0001 0003 02 6833 0002 0000 0003 0002 0035 0005 0002 0045 0007 0010 \
                 2f646e732d71756572797b3f646e737d 0008 0000",
            ],
            shown: r#"1 . alpn="h3" no-default-alpn port=53 ech=AEU= dohpath="/dns-query{?dns}" key8"#,
        },
    ] {
        for rtype in [RecordType::SVCB, RecordType::HTTPS] {
            let wire = parse(rtype, case.text).unwrap_or_else(|error| panic!("{}: {error}", case.text));
            assert_eq!(wire, octets(&case.hex.concat()), "{}", case.text);
            assert_eq!(rdata_text(rtype, &wire), case.shown);
            assert_eq!(parse(rtype, case.shown).unwrap(), wire, "{}", case.shown);
        }
    }
}

#[test]
fn wrong_data_is_refused_at_its_word() {
    struct Case {
        rtype: RecordType,
        text: &'static str,
        column: u32,
        message: &'static str,
    }
    for case in [
        Case {
            rtype: RecordType::A,
            text: "10.0.0",
            column: 1,
            message: "address such as 192.0.2.1, not `10.0.0`",
        },
        Case {
            rtype: RecordType::A,
            text: "10.0.0.1 10.0.0.2",
            column: 10,
            message: "`10.0.0.2` is too much",
        },
        Case { rtype: RecordType::A, text: "\"10.0.0.1\"", column: 1, message: "without quotes" },
        Case { rtype: RecordType::A, text: "", column: 1, message: "data of the A record is missing" },
        Case { rtype: RecordType::AAAA, text: "::g", column: 1, message: "2001:db8::1" },
        Case {
            rtype: RecordType::MX,
            text: "10",
            column: 3,
            message: "the host of the MX record is missing",
        },
        Case { rtype: RecordType::MX, text: "65536 a", column: 1, message: "from 0 to 65535" },
        Case { rtype: RecordType::MX, text: "+1 a", column: 1, message: "from 0 to 65535" },
        Case { rtype: RecordType::NS, text: "a..b", column: 1, message: "a label is empty" },
        Case { rtype: RecordType::SOA, text: "a b 1 2 3 4 5x", column: 13, message: "minimum TTL" },
        Case { rtype: RecordType::TXT, text: r#"a "\256""#, column: 3, message: "backslash" },
        Case { rtype: RecordType::CAA, text: "0 is-sue x", column: 3, message: "letters and digits" },
        Case { rtype: RecordType::URI, text: "0 0 \"\"", column: 5, message: "must not be empty" },
        Case { rtype: RecordType::DS, text: "1 8 2 abc", column: 7, message: "even number" },
        Case { rtype: RecordType::DS, text: "1 8 2 ab xy", column: 10, message: "hex digits, not `xy`" },
        Case {
            rtype: RecordType::DS,
            text: "1 8 2",
            column: 6,
            message: "digest of the DS record is missing",
        },
        Case { rtype: RecordType::DNSKEY, text: "256 3 8 AQP", column: 9, message: "base64" },
        Case { rtype: RecordType::NSEC, text: "a. A NOPE", column: 6, message: "expected a record type" },
        Case { rtype: RecordType::LOC, text: "91 N 0 E 0", column: 1, message: "degrees from 0 to 90" },
        Case { rtype: RecordType::LOC, text: "90 0 1 N 0 E 0", column: 6, message: "over 90 degrees" },
        Case { rtype: RecordType::LOC, text: "1 60 N 0 E 0", column: 3, message: "minutes from 0 to 59" },
        Case { rtype: RecordType::LOC, text: "1 1 1.0001 N 0 E 0", column: 5, message: "seconds" },
        Case { rtype: RecordType::LOC, text: "1 1 1 X 0 E 0", column: 7, message: "expected N or S" },
        Case { rtype: RecordType::LOC, text: "1 N 1 E 42849672.96", column: 9, message: "altitude" },
        Case { rtype: RecordType::LOC, text: "1 N 1 E 1 90000001000", column: 11, message: "size" },
        Case { rtype: RecordType(731), text: "10.0.0.1", column: 1, message: r"must be written as `\#`" },
        Case {
            rtype: RecordType(731),
            text: r"\# 3 0A00",
            column: 4,
            message: "3 octets are announced, but 2 follow",
        },
        Case { rtype: RecordType(731), text: r"\# x", column: 4, message: "number of octets" },
        Case { rtype: RecordType::A, text: r"\# 3 0A0000", column: 1, message: "not valid data of type A" },
        Case { rtype: RecordType::NS, text: r"\# 2 C00C", column: 1, message: "not valid data of type NS" },
        // First the failure cases of RFC 9460 §D.3, then others that break rules of that RFC.
        Case {
            rtype: RecordType::SVCB,
            text: "1 foo. ( key123=abc key123=def )",
            column: 21,
            message: "key123 is given twice",
        },
        Case { rtype: RecordType::SVCB, text: "1 foo. mandatory", column: 8, message: "needs a value" },
        Case { rtype: RecordType::SVCB, text: "1 foo. alpn", column: 8, message: "needs a value" },
        Case { rtype: RecordType::SVCB, text: "1 foo. port", column: 8, message: "needs a value" },
        Case { rtype: RecordType::SVCB, text: "1 foo. ipv4hint", column: 8, message: "needs a value" },
        Case { rtype: RecordType::SVCB, text: "1 foo. ipv6hint", column: 8, message: "needs a value" },
        Case {
            rtype: RecordType::SVCB,
            text: "1 foo. no-default-alpn=abc",
            column: 8,
            message: "takes no value",
        },
        Case {
            rtype: RecordType::SVCB,
            text: "1 foo. mandatory=key123",
            column: 8,
            message: "key123 is mandatory but not given",
        },
        Case {
            rtype: RecordType::SVCB,
            text: "1 foo. mandatory=mandatory",
            column: 8,
            message: "no value of mandatory",
        },
        Case {
            rtype: RecordType::SVCB,
            text: "1 foo. ( mandatory=key123,key123 key123=abc)",
            column: 10,
            message: "no value of mandatory",
        },
        Case { rtype: RecordType::SVCB, text: "1 . no-default-alpn", column: 5, message: "needs an alpn" },
        Case { rtype: RecordType::SVCB, text: "1 . alpn=h2,,h3", column: 5, message: "no value of alpn" },
        Case { rtype: RecordType::SVCB, text: r"1 . alpn=h2\\x", column: 5, message: "no value of alpn" },
        Case { rtype: RecordType::SVCB, text: "1 . Port=53", column: 5, message: "no parameter" },
        Case { rtype: RecordType::SVCB, text: "1 . key01=a", column: 5, message: "no parameter" },
        Case { rtype: RecordType::SVCB, text: "1 . key65535=a", column: 5, message: "no parameter" },
        Case { rtype: RecordType::SVCB, text: "1 . key3=5", column: 5, message: "no value of port" },
        Case {
            rtype: RecordType::SVCB,
            text: r#"1 . alpn="h2"x"#,
            column: 14,
            message: "expected a parameter",
        },
        Case {
            rtype: RecordType::SVCB,
            text: r#"1 . "alpn=h2""#,
            column: 5,
            message: "expected a parameter",
        },
        Case { rtype: RecordType::SVCB, text: "1 . dohpath=/q", column: 5, message: "no value of dohpath" },
    ] {
        let error = parse(case.rtype, case.text).expect_err(case.text);
        assert_eq!(error.at, Spot { line: 1, column: case.column }, "{}: {error}", case.text);
        assert!(error.message.contains(case.message), "{}: {error}", case.text);
    }
    let long = format!("\"{}\"", "x".repeat(256));
    assert!(parse(RecordType::TXT, &long).unwrap_err().message.contains("at most 255"));
    let longest = vec!["x"; 32_767].join(" ");
    assert_eq!(parse(RecordType::TXT, &longest).unwrap().len(), RDATA_OCTETS_MAX - 1);
    assert!(parse(RecordType::TXT, &format!("{longest} x")).unwrap_err().message.contains("over 65535"));
}

#[test]
fn wrong_data_of_rare_types_is_refused_at_its_word() {
    for (rtype, text, column, message) in [
        (RecordType::MD, "a", 1, "MD is obsolete; write MX (RFC 1035"),
        (RecordType::MINFO, "a", 2, "the mailbox of errors of the MINFO record is missing"),
        (RecordType::NULL, "a", 1, r"must be written as `\#`"),
        (RecordType::WKS, "10.0.0.1", 9, "the protocol of the WKS record is missing"),
        (RecordType::WKS, "10.0.0.1 NOPE", 10, "from 0 to 255 or a word such as ICMP, not `NOPE`"),
        (RecordType::WKS, "10.0.0.1 6 smtp nope", 17, "from 0 to 65535 or a word such as ECHO, not `nope`"),
        (RecordType::X25, "311", 1, "must be 4 to 255 digits, not `311`"),
        (RecordType::ISDN, "1 2 3", 5, "`3` is too much"),
        (RecordType::NSAP, "470005", 1, "must be 0x and an even number of hex digits"),
        (RecordType::SIG, "A 5 3 86400 1 1 1 a.", 21, "the signature of the SIG record is missing"),
        (RecordType::KEY, "0 3 1", 6, "the public key of the KEY record is missing"),
        (RecordType::KEY, "ZONE|NOPE 3 1 AQID", 1, "or words such as NOCONF|ZONE, not `ZONE|NOPE`"),
        (RecordType::KEY, "NOKEY 3 1 AQID", 11, "`AQID` is too much"),
        (RecordType::RKEY, "256 3 1 AQID", 1, "must be 0, not `256`"),
        (RecordType::PX, "1 a", 4, "the X.400 domain of the PX record is missing"),
        (RecordType::NXT, "a A 128", 5, "must be from 1 to 127, not `128`"),
        (RecordType::NXT, "a A NOPE", 5, "expected a record type such as A or TYPE65280, found `NOPE`"),
        (RecordType::ATMA, "47..00", 1, "single dots between them, not `47..00`"),
        (RecordType::CERT, "NOPE 1 1 AQID", 1, "from 0 to 65535 or a word such as PKIX, not `NOPE`"),
        (RecordType::CERT, "1 1 1", 6, "the certificate of the CERT record is missing"),
        (RecordType::A6, "129 ::1", 1, "the prefix length of the A6 record must be a number from 0 to 128"),
        (RecordType::A6, "64 ::1", 7, "the prefix name of the A6 record is missing"),
        (RecordType::SINK, "1 2 3 x", 7, "must be base64 with its padding, not `x`"),
        (RecordType::APL, "1:10.0.0.0/8 1:10.0.0.0/33", 14, "as in 1:192.0.2.0/24"),
        (RecordType::IPSECKEY, "10 4 2 . AQNR", 4, "1 (IPv4 address), 2 (IPv6 address) or 3 (name), not `4`"),
        (RecordType::IPSECKEY, "10 0 2 a. AQNR", 8, "must be `.` where the type is 0, not `a.`"),
        (RecordType::IPSECKEY, "10 1 2 ::1 AQNR", 8, "must be an address such as 192.0.2.1, not `::1`"),
        (RecordType::IPSECKEY, "10 3 2 a.", 10, "the public key of the IPSECKEY record is missing"),
        (RecordType::NSEC3, "1 0 0 abc 00", 7, "in hex, or - for none, not `abc`"),
        (RecordType::NSEC3, "1 0 0 - 00", 9, "must be the 20 octets of SHA-1 in base32hex"),
        (RecordType::NSEC3PARAM, "1 0 0", 6, "the salt of the NSEC3PARAM record is missing"),
        (RecordType::DHCID, "A", 1, "must be base64"),
        (RecordType::HIP, "2 20", 5, "the public key of the HIP record is missing"),
        (RecordType::HIP, "2 200 AQID", 3, "must be 1 to 255 octets in hex, one word, not `200`"),
        (RecordType::HIP, "2 20 AQID a..b", 11, "a rendezvous server of the HIP record must be a name"),
        (RecordType::DSYNC, "CDS 256 1 a.", 5, "or a word such as NOTIFY, not `256`"),
        (RecordType::NID, "10 14:4fff::ee64", 4, "must be four groups of up to four hex digits"),
        (RecordType::EUI48, "00:00:5e:00:53:2a", 1, "must be 6 octets in hex, as in 00-00-5e-00-53-2a"),
        (RecordType::EUI64, "00-00-5e-00-53-2a", 1, "must be 8 octets in hex, as in 00-00-5e-ef-10-00-00-2a"),
        (RecordType::DOA, "0 1 2 a", 8, "the object of the DOA record is missing"),
        (RecordType::DOA, "0 1 2 a - AQID", 9, "must be base64"),
        (RecordType::AMTRELAY, "10 2 1 192.0.2.1", 4, "the discovery flag of the AMTRELAY record must be"),
        (RecordType::AMTRELAY, "10 1 4 a.", 6, "or 3 (name), not `4`"),
        (RecordType::AMTRELAY, "10 1 1", 7, "the relay of the AMTRELAY record is missing"),
        (RecordType::KEY, r"\# 5 c000030101", 1, "not valid data of type KEY"),
        (RecordType::APL, r"\# 6 000118020a00", 1, "not valid data of type APL"),
        // A name before numbers was left out. The error must not be about the last number.
        (
            RecordType::SOA,
            "a. ( 2017042745 7200 3600 1209600 3600 )",
            6,
            "the mailbox of the SOA record is missing before `2017042745`",
        ),
        (
            RecordType::SOA,
            "2017042745 2h 1h 2w 1h",
            1,
            "the primary name server of the SOA record is missing before `2017042745`",
        ),
        (RecordType::SOA, "a b 1 2h 1h 2w", 15, "the minimum TTL of the SOA record is missing"),
        (RecordType::SOA, "a", 2, "the mailbox of the SOA record is missing"),
        (RecordType::SRV, "1 2 80", 7, "the target of the SRV record is missing"),
    ] {
        let error = parse(rtype, text).expect_err(text);
        assert_eq!(error.at, Spot { line: 1, column }, "{rtype} {text}: {error}");
        assert!(error.message.contains(message), "{rtype} {text}: {error}");
    }
}

#[test]
fn invalid_data_is_shown_in_hex() {
    for (rtype, hex, shown) in [
        (RecordType::A, "0A0000", r"\# 3 0A0000"),
        (RecordType::MX, "000AC00C", r"\# 4 000AC00C"),
        (RecordType::TXT, "", r"\# 0"),
        (RecordType::TXT, "0561", r"\# 2 0561"),
        (RecordType::LOC, "01121613800000008000000000989680", r"\# 16 01121613800000008000000000989680"),
        (RecordType::SVCB, "0001000001000302683200", r"\# 11 0001000001000302683200"),
    ] {
        assert_eq!(rdata_text(rtype, &octets(hex)), shown);
        assert!(!is_valid(rtype, &octets(hex)));
    }
    assert!(is_valid(RecordType(65_280), b"anything"));
}

/// True for types of which some valid data has no text form: data of unknown formats, and BIND's private type.
fn has_data_without_text(rtype: RecordType) -> bool {
    [RecordType::APL, RecordType::ATMA, RecordType::AMTRELAY, RecordType::KEYDATA].contains(&rtype)
}

fn a_name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..9), 0..5).prop_map(|labels| {
        Name::from_labels(labels.iter().map(|label| &label[..])).unwrap().as_wire().to_vec()
    })
}

fn any_octets(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), sizes)
}

fn a_field(kind: Kind) -> BoxedStrategy<Vec<u8>> {
    let string = |octets: Vec<u8>| [&[octets.len() as u8], &octets[..]].concat();
    let strings = proptest::collection::vec(any_octets(0..20).prop_map(string), 1..4);
    match kind {
        Kind::Name => a_name().boxed(),
        Kind::U8 | Kind::Code8(_) => any_octets(1..2).boxed(),
        Kind::GatewayType => (0u8..5).prop_map(|value| vec![value]).boxed(),
        // Flag and relay type are in one octet, which `RelayType` makes.
        Kind::Discovery => Just(vec![]).boxed(),
        Kind::RelayType => {
            (0u8..5, any::<bool>()).prop_map(|(value, flag)| vec![u8::from(flag) << 7 | value]).boxed()
        }
        Kind::Gateway => prop_oneof![Just(vec![]), any_octets(4..5), any_octets(16..17), a_name()].boxed(),
        Kind::U16 | Kind::Code16(_) | Kind::KeyFlags | Kind::Type => any_octets(2..3).boxed(),
        Kind::NoKeyFlags => Just(vec![0, 0]).boxed(),
        Kind::PublicKey => prop_oneof![Just(vec![]), any_octets(1..40)].boxed(),
        Kind::Eui48 => any_octets(6..7).boxed(),
        Kind::Eui64 | Kind::Locator => any_octets(8..9).boxed(),
        Kind::OptionalString => prop_oneof![Just(vec![]), any_octets(0..256).prop_map(string)].boxed(),
        Kind::X121 => "[0-9]{3,15}".prop_map(move |digits| string(digits.into_bytes())).boxed(),
        Kind::Salt => any_octets(0..256).prop_map(string).boxed(),
        Kind::NameHash => prop_oneof![any_octets(20..21), any_octets(0..40)].prop_map(string).boxed(),
        Kind::Atm => (0u8..3, "[0-9]{0,9}")
            .prop_map(|(format, digits)| [&[format], digits.as_bytes()].concat())
            .boxed(),
        Kind::Ports => any_octets(0..40).boxed(),
        Kind::LowTypes => any_octets(0..18).boxed(),
        Kind::AddressInParts => (0u8..131, any::<u8>(), any_octets(16..17), a_name())
            .prop_map(|(length, first, octets, name)| {
                let mut suffix = octets.get(usize::from(length / 8)..).unwrap_or_default().to_vec();
                if let Some(octet) = suffix.first_mut() {
                    *octet = first & (0xff >> (length % 8));
                }
                [&[length][..], &suffix[..], if length == 0 { &[][..] } else { &name[..] }].concat()
            })
            .boxed(),
        Kind::Prefixes => {
            let prefix = (0u16..4, 0u8..35, any::<bool>(), any_octets(0..5)).prop_map(
                |(family, length, flag, address)| {
                    let size = u8::from(flag) << 7 | address.len() as u8;
                    [&family.to_be_bytes()[..], &[length, size], &address].concat()
                },
            );
            proptest::collection::vec(prefix, 0..4).prop_map(|prefixes| prefixes.concat()).boxed()
        }
        Kind::HostIdentity => {
            (any_octets(0..256), any::<u8>(), any_octets(0..40), proptest::collection::vec(a_name(), 0..4))
                .prop_map(|(tag, algorithm, key, servers)| {
                    [&[tag.len() as u8, algorithm, 0, key.len() as u8], &tag[..], &key, &servers.concat()]
                        .concat()
                })
                .boxed()
        }
        Kind::U32 | Kind::Seconds | Kind::Moment | Kind::Date | Kind::Ipv4 => any_octets(4..5).boxed(),
        Kind::Ipv6 => any_octets(16..17).boxed(),
        Kind::String => any_octets(0..256).prop_map(string).boxed(),
        Kind::Strings => strings.prop_map(|strings| strings.concat()).boxed(),
        Kind::Tag => "[a-zA-Z0-9]{1,15}".prop_map(move |tag| string(tag.into_bytes())).boxed(),
        Kind::Text
        | Kind::FullText
        | Kind::Hex
        | Kind::HexOrNone
        | Kind::Base64
        | Kind::Base64OrNone
        | Kind::Base64OrDash
        | Kind::Nsap => any_octets(0..40).boxed(),
        Kind::Types => (any::<u8>(), any_octets(1..33))
            .prop_map(move |(window, bits)| [&[window], &string(bits)[..]].concat())
            .boxed(),
        Kind::Location => (proptest::collection::vec(0u8..10, 6), any::<[i32; 2]>(), any::<u32>())
            .prop_map(|(digits, angles, altitude)| {
                let mut octets = vec![0];
                octets.extend(
                    digits.as_chunks::<2>().0.iter().map(|[mantissa, exponent]| mantissa << 4 | exponent),
                );
                let angle = |value: i32, max: i32| ((1u32 << 31) as i64 + i64::from(value % max)) as u32;
                octets.extend_from_slice(&angle(angles[0], 324_000_000).to_be_bytes());
                octets.extend_from_slice(&angle(angles[1], 648_000_000).to_be_bytes());
                octets.extend_from_slice(&altitude.to_be_bytes());
                octets
            })
            .boxed(),
        Kind::Parameters => {
            let value = |key: u16| match key {
                0 => Just(vec![0, 1]).boxed(),
                1 => proptest::collection::vec(any_octets(1..9).prop_map(string), 1..4)
                    .prop_map(|ids| ids.concat())
                    .boxed(),
                2 | 8 => Just(vec![]).boxed(),
                3 => any_octets(2..3).boxed(),
                4 => any_octets(8..9).boxed(),
                6 => any_octets(16..17).boxed(),
                7 => Just(b"/q{?a,dns}".to_vec()).boxed(),
                _ => any_octets(1..20).boxed(),
            };
            let parameter = move |key: u16| {
                proptest::option::of(value(key)).prop_map(move |value| match value {
                    None => vec![],
                    Some(value) => {
                        [&key.to_be_bytes(), &(value.len() as u16).to_be_bytes(), &value[..]].concat()
                    }
                })
            };
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 667, 65_534].map(parameter).prop_map(|all| all.concat()).boxed()
        }
    }
}

fn a_record() -> impl Strategy<Value = (RecordType, Vec<u8>)> {
    proptest::sample::select(known_types()).prop_flat_map(|rtype| {
        let fields: Vec<_> = layout::fields(rtype).unwrap().iter().map(|(_, kind)| a_field(*kind)).collect();
        (Just(rtype), fields.prop_map(|fields| fields.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn shown_data_reads_back_to_equal_data((rtype, wire) in a_record()) {
        let text = rdata_text(rtype, &wire);
        if is_valid(rtype, &wire) {
            prop_assert!(!text.starts_with(r"\#") || has_data_without_text(rtype));
            prop_assert_eq!(parse(rtype, &text).unwrap(), wire);
        } else {
            prop_assert!(parse(rtype, &text).is_err());
        }
    }

    #[test]
    fn any_data_is_shown((rtype, wire) in (proptest::sample::select(known_types()), any_octets(0..60))) {
        let text = rdata_text(rtype, &wire);
        prop_assert_eq!(parse(rtype, &text).ok(), is_valid(rtype, &wire).then_some(wire));
    }

    #[test]
    fn unknown_types_round_trip(wire in any_octets(0..60)) {
        let text = rdata_text(RecordType(65_280), &wire);
        prop_assert_eq!(parse(RecordType(65_280), &text).unwrap(), wire);
    }

    #[test]
    fn any_text_is_read_or_refused(
        rtype in proptest::sample::select(known_types()),
        text in r#"([0-9]{1,4} )?([a-z0-9.=,"\\]{1,8}|[NSEW]|alpn="[a-z,\\]{0,9}"|port=[0-9]| ){0,12}"#,
    ) {
        if let Ok(wire) = parse(rtype, &text) {
            prop_assert!(is_valid(rtype, &wire), "{} {:?}", text, wire);
        }
    }
}
