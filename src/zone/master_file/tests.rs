//! Tests of whole files: the records that are read, and the positions of errors.

use std::cell::RefCell;
use std::io;

use proptest::prelude::*;

use super::*;
use crate::zone::Record;

fn origin() -> Name {
    "x.test".parse().unwrap()
}

fn no_files(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

fn read_text(text: &[u8]) -> Result<Vec<Located<Record>>, Vec<MasterFileError>> {
    read(Path::new("z/f"), text, &origin(), &mut no_files).map(|records| records.iter().collect())
}

fn shown(text: &str) -> Vec<String> {
    let records = read_text(text.as_bytes()).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    records.iter().map(|located| located.value.to_string()).collect()
}

#[track_caller]
fn assert_errors(text: &str, expected: &[&str]) {
    let found: Vec<String> = match read_text(text.as_bytes()) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(MasterFileError::to_string).collect(),
    };
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let (place, message) = expected.split_once(' ').unwrap();
        assert!(found.starts_with(&format!("z/f:{place}: ")) && found.contains(message), "{text}\n{found}");
    }
}

#[test]
fn the_example_of_rfc_1035_is_read() {
    let file = r"
@   IN  SOA     VENERA      Action\.domains (
                                 20     ; SERIAL
                                 7200   ; REFRESH
                                 600    ; RETRY
                                 3600000; EXPIRE
                                 60)    ; MINIMUM

        NS      A.ISI.EDU.
        NS      VENERA
        NS      VAXA
        MX      10      VENERA
        MX      20      VAXA

A       A       26.3.0.103

VENERA  A       10.1.0.52
        A       128.9.0.32

VAXA    A       10.2.0.27
        A       128.9.0.33


$INCLUDE <SUBSYS>ISI-MAILBOXES.TXT
";
    // The example's mailboxes have types that are obsolete; MX shows the same inheritance.
    let mailboxes = b"\tTXT more of VAXA\nMOE  MX 1 A.ISI.EDU.\nLARRY\tMX 1 A.ISI.EDU.";
    let origin: Name = "ISI.EDU".parse().unwrap();
    let mut load = |path: &Path| {
        assert_eq!(path, Path::new("zones/<SUBSYS>ISI-MAILBOXES.TXT"));
        Ok(mailboxes.to_vec())
    };
    let records = read(Path::new("zones/isi"), file.as_bytes(), &origin, &mut load).unwrap();
    let records: Vec<_> = records.iter().collect();
    let shown: Vec<String> = records.iter().map(|located| located.value.to_string()).collect();
    assert_eq!(
        shown,
        [
            r"ISI.EDU. 60 IN SOA VENERA.ISI.EDU. Action\.domains.ISI.EDU. 20 7200 600 3600000 60",
            "ISI.EDU. 60 IN NS A.ISI.EDU.",
            "ISI.EDU. 60 IN NS VENERA.ISI.EDU.",
            "ISI.EDU. 60 IN NS VAXA.ISI.EDU.",
            "ISI.EDU. 60 IN MX 10 VENERA.ISI.EDU.",
            "ISI.EDU. 60 IN MX 20 VAXA.ISI.EDU.",
            "A.ISI.EDU. 60 IN A 26.3.0.103",
            "VENERA.ISI.EDU. 60 IN A 10.1.0.52",
            "VENERA.ISI.EDU. 60 IN A 128.9.0.32",
            "VAXA.ISI.EDU. 60 IN A 10.2.0.27",
            "VAXA.ISI.EDU. 60 IN A 128.9.0.33",
            r#"VAXA.ISI.EDU. 60 IN TXT "more" "of" "VAXA""#,
            "MOE.ISI.EDU. 60 IN MX 1 A.ISI.EDU.",
            "LARRY.ISI.EDU. 60 IN MX 1 A.ISI.EDU.",
        ]
    );
    assert_eq!(records[3].place.to_string(), "zones/isi:11:9");
    assert_eq!(records[11].place.to_string(), "zones/<SUBSYS>ISI-MAILBOXES.TXT:1:2");
}

#[test]
fn entries_inherit_owners_and_ttls_from_those_before_them() {
    struct Case {
        text: &'static str,
        records: &'static [&'static str],
    }
    for case in [
        // The last $TTL is the default, also after a record with its own TTL (RFC 2308 §4).
        Case {
            text: "$TTL 1h30m\na A 10.0.0.1\nb 5 A 10.0.0.1\nc A 10.0.0.1\n$ttl 7\nd A 10.0.0.1",
            records: &[
                "a.x.test. 5400 IN A 10.0.0.1",
                "b.x.test. 5 IN A 10.0.0.1",
                "c.x.test. 5400 IN A 10.0.0.1",
                "d.x.test. 7 IN A 10.0.0.1",
            ],
        },
        Case {
            text: "a 5 A 10.0.0.1\nb A 10.0.0.1",
            records: &["a.x.test. 5 IN A 10.0.0.1", "b.x.test. 5 IN A 10.0.0.1"],
        },
        Case {
            text: "a 1W IN A 10.0.0.1\n IN 2d A 10.0.0.2\n CLASS1 TYPE1 10.0.0.3\n 9 in a 10.0.0.4",
            records: &[
                "a.x.test. 604800 IN A 10.0.0.1",
                "a.x.test. 172800 IN A 10.0.0.2",
                "a.x.test. 172800 IN A 10.0.0.3",
                "a.x.test. 9 IN A 10.0.0.4",
            ],
        },
        Case {
            text: "\u{feff}$ORIGIN Sub\r\na\t5\tA\t10.0.0.1\r\n$ORIGIN other.test.\r\n@ NS @\r\n*\\. NS a\\000.",
            records: &[
                "a.Sub.x.test. 5 IN A 10.0.0.1",
                "other.test. 5 IN NS other.test.",
                r"*\..other.test. 5 IN NS a\000.",
            ],
        },
        Case {
            text: "IN 5 IN A 10.0.0.1\nA 5 A 10.0.0.1\n5 5 A 10.0.0.1\n\\$a A 10.0.0.1",
            records: &[
                "IN.x.test. 5 IN A 10.0.0.1",
                "A.x.test. 5 IN A 10.0.0.1",
                "5.x.test. 5 IN A 10.0.0.1",
                r"\$a.x.test. 5 IN A 10.0.0.1",
            ],
        },
        Case {
            text: "\"a b.c\" 5 A 10.0.0.1\n\"d\\.e\\032\\\"\\010\" A 10.0.0.1\n A 10.0.0.2\n\"f.\" A 10.0.0.1\n\"@\" A 10.0.0.1\n\"$TTL\" A 10.0.0.1",
            records: &[
                r"a\032b.c.x.test. 5 IN A 10.0.0.1",
                r#"d\.e\032\"\010.x.test. 5 IN A 10.0.0.1"#,
                r#"d\.e\032\"\010.x.test. 5 IN A 10.0.0.2"#,
                "f. 5 IN A 10.0.0.1",
                "x.test. 5 IN A 10.0.0.1",
                r"\$TTL.x.test. 5 IN A 10.0.0.1",
            ],
        },
        Case {
            text: "$TTL 0\na.example. CLASS1 TYPE731 \\# 6 abcdef (\n 01 23 45 )\n TYPE62347 \\# 0\ne.example. IN A \\# 4 0A000001\ne.example. CLASS1 TYPE1 10.0.0.2",
            records: &[
                r"a.example. 0 IN TYPE731 \# 6 ABCDEF012345",
                r"a.example. 0 IN TYPE62347 \# 0",
                "e.example. 0 IN A 10.0.0.1",
                "e.example. 0 IN A 10.0.0.2",
            ],
        },
        Case {
            text: "$TTL 0\n$GENERATE 1-2 h$ A 10.0.0.$\n MX 1 h\n$GENERATE 0-4/2 ${1,2}.a 5 IN CNAME $.b\n$GENERATE 1-1 t TXT a $ \"b $\"c\n$GENERATE 1-1 m MX \"$ h$\"",
            records: &[
                "h1.x.test. 0 IN A 10.0.0.1",
                "h2.x.test. 0 IN A 10.0.0.2",
                "h2.x.test. 0 IN MX 1 h.x.test.",
                "01.a.x.test. 5 IN CNAME 0.b.x.test.",
                "03.a.x.test. 5 IN CNAME 2.b.x.test.",
                "05.a.x.test. 5 IN CNAME 4.b.x.test.",
                r#"t.x.test. 0 IN TXT "a" "1" "b 1" "c""#,
                "m.x.test. 0 IN MX 1 h1.x.test.",
            ],
        },
        Case { text: "", records: &[] },
    ] {
        assert_eq!(shown(case.text), case.records, "{}", case.text);
    }
}

#[test]
fn errors_have_positions_and_reading_continues_after_them() {
    struct Case {
        text: &'static str,
        errors: &'static [&'static str],
    }
    for case in [
        Case {
            text: "$TTL 5\na A 10.0.0\nb MX ten a\nc A 10.0.0.1 x\nd NOPE x\ne. .e A 1",
            errors: &[
                "2:5 not `10.0.0`",
                "3:6 not `ten`",
                "4:14 `x` is too much",
                "5:3 expected a record type such as A or TYPE65280, found `NOPE`",
                "6:4 expected a record type",
            ],
        },
        Case { text: "a A 10.0.0.1\nb A 10.0.0.1", errors: &["1:1 the record has no TTL; write one"] },
        Case { text: "  5 A 10.0.0.1", errors: &["1:3 no record before it"] },
        Case { text: "a 5", errors: &["1:4 the record type is missing"] },
        Case {
            text: "a 5 MX (\n 10\n)\nb 5 A x",
            errors: &["3:2 the host of the MX record is missing", "4:7 not `x`"],
        },
        Case { text: "a..b 5 A 10.0.0.1", errors: &["1:1 a label is empty"] },
        Case { text: "\"a..b\" 5 A 10.0.0.1", errors: &["1:1 a label is empty"] },
        Case { text: "\"\" 5 A 10.0.0.1", errors: &["1:1 a label is empty"] },
        Case { text: "a 5 \"A\" 10.0.0.1", errors: &["1:5 without quotes"] },
        Case { text: "a 5 MD b\na 5 TYPE4 \\# 1 00", errors: &["1:8 MD is obsolete", "2:11 MF is obsolete"] },
        Case {
            text: "@ SOA company. (\n2017042745 7200 3600 1209600 3600 )",
            errors: &["2:1 the mailbox of the SOA record is missing before `2017042745`"],
        },
        Case {
            text: "a 2147483648 A 10.0.0.1",
            errors: &["1:3 over the largest, 2147483647 seconds (RFC 2181"],
        },
        Case { text: "$TTL 99999w", errors: &["1:6 over the largest"] },
        Case {
            text: "$TTL -1\n$TTL\n$TTL 5 5",
            errors: &["1:6 not `-1`", "2:5 the TTL is missing", "3:8 too much"],
        },
        Case { text: "a SOA b c 1 2 3 4 4294967295", errors: &["1:1 must not be over 2147483647"] },
        Case {
            text: "a CH 5 A 10.0.0.1\nb 5 HS A 1\nc CLASS3 A 1",
            errors: &["1:3 class CH is not served; write IN", "2:5 class HS", "3:3 class CLASS3"],
        },
        Case {
            text: "a 5 ANY x\na 5 TYPE250 x\na 5 OPT x\na 5 AXFR",
            errors: &["1:5 ANY is for queries only", "2:5 TYPE250 is", "3:5 OPT", "4:5 AXFR"],
        },
        Case {
            text: "$FOO x\n$ORIGIN\n$ORIGIN a b",
            errors: &[
                "1:1 `$FOO` is no directive; there are $ORIGIN",
                "2:8 origin is missing",
                "3:11 too much",
            ],
        },
        Case { text: "a 5 TXT \"x\nb 5 A 1", errors: &["1:9 not closed on its line", "2:7 not `1`"] },
        Case { text: "a 5 TXT x)\nb 5 A 1", errors: &["1:10 without a `(`", "2:7 not `1`"] },
        Case { text: "a 5 TXT ( x\nb 5 A 1", errors: &["1:9 never closed"] },
        Case {
            text: "$TTL 5\n$GENERATE 2-1 a$ A 10.0.0.$\n$GENERATE 1-2 a$ A 10.0.0\n$GENERATE 1-300 a$ A 10.0.0.$\n$GENERATE 1-2 a$. CNAME \"\"",
            errors: &[
                "2:11 range must be as 1-10",
                "3:20 not `10.0.0` (for the value 1)",
                "4:22 not `10.0.0.256` (for the value 256)",
                "5:25 the data is empty (for the value 1)",
            ],
        },
        Case {
            text: "$INCLUDE\n$INCLUDE a b c\n$INCLUDE \"\"\n$INCLUDE nope",
            errors: &[
                "1:9 file to include is missing",
                "2:14 too much",
                "3:10 a path",
                "4:10 cannot read the included file z/nope: entity not found",
            ],
        },
    ] {
        assert_errors(case.text, case.errors);
    }
    let many = "x\n".repeat(ERRORS_MAX + 50);
    assert_eq!(read_text(many.as_bytes()).unwrap_err().len(), ERRORS_MAX);
}

#[test]
fn included_files_have_their_own_origin_and_owner() {
    let mut load = |path: &Path| match path.to_str() {
        Some("z/sub/one") => {
            Ok(b" TXT one\nb A 10.0.0.2\n$ORIGIN c\n$INCLUDE two d\n@ TXT c\n$TTL 9\n".to_vec())
        }
        Some("z/sub/two") => Ok(b"@ TXT two\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let text = b"$TTL 5\na A 10.0.0.1\n$INCLUDE sub/one\n TXT again\n";
    let records = read(Path::new("z/f"), text, &origin(), &mut load).unwrap();
    let shown: Vec<String> =
        records.iter().map(|located| format!("{} {}", located.place, located.value)).collect();
    assert_eq!(
        shown,
        [
            "z/f:2:1 a.x.test. 5 IN A 10.0.0.1",
            r#"z/sub/one:1:2 a.x.test. 5 IN TXT "one""#,
            "z/sub/one:2:1 b.x.test. 5 IN A 10.0.0.2",
            r#"z/sub/two:1:1 d.c.x.test. 5 IN TXT "two""#,
            r#"z/sub/one:5:1 c.x.test. 5 IN TXT "c""#,
            r#"z/f:4:2 a.x.test. 9 IN TXT "again""#,
        ]
    );
}

#[test]
fn circular_deep_and_numerous_includes_are_refused() {
    let circle = |path: &Path| match path.to_str() {
        Some("z/a") => Ok(b"$INCLUDE ./f\n$INCLUDE a\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let errors = read(Path::new("z/f"), b"\n$INCLUDE a", &origin(), &mut { circle }).unwrap_err();
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(
        shown[0].starts_with("z/a:1:1: the files include each other in a circle: z/f -> z/a -> z/./f"),
        "{shown:?}"
    );
    assert!(
        shown[1].starts_with("z/a:2:1: the files include each other in a circle: z/f -> z/a -> z/a"),
        "{shown:?}"
    );

    // Each file includes one of another name, which only the limit of the depth ends.
    let count = RefCell::new(0);
    let mut deeper = |_: &Path| {
        *count.borrow_mut() += 1;
        Ok(format!("$INCLUDE f{}", count.borrow()).into_bytes())
    };
    let errors = read(Path::new("f"), b"$INCLUDE f0", &origin(), &mut deeper).unwrap_err();
    assert!(errors[0].message.contains("10 deep"), "{errors:?}");
    assert_eq!(*count.borrow(), INCLUDE_DEPTH_MAX - 1);

    // Includes of empty files are limited by their number alone.
    let text = "$INCLUDE e\n".repeat(INCLUDES_MAX + 10);
    let errors = read(Path::new("f"), text.as_bytes(), &origin(), &mut |_| Ok(Vec::new())).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].place.line as usize, INCLUDES_MAX + 1);
}

#[test]
fn too_much_record_data_is_refused() {
    let data = "x".repeat(250);
    let text = format!(
        "$TTL 5\n$GENERATE 0-65535 a {}\n",
        format_args!("TXT {data} ").to_string() + &format!("\"{data}\" ").repeat(200)
    );
    let errors = read_text(text.as_bytes()).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("bytes of record data"), "{errors:?}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Err(errors) = read_text(&text) {
            prop_assert!(!errors.is_empty() && errors.len() <= ERRORS_MAX);
        }
    }

    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec(proptest::sample::select(&[
        "\n", "\n", "\n", " ", "$ORIGIN", "$TTL", "$INCLUDE", "$GENERATE", "1-3", "a$", "a", "@", "5", "1h", "IN", "A",
        "10.0.0.1", "MX", "TXT", "\"", "(", ")", ";", "\\", "\\#", "${0,3,x}", "SVCB", "alpn=\"h2\"", "LOC", "N", ".",
    ][..]), 0..40)) {
        let mut load = |path: &Path| Ok(path.to_string_lossy().into_owned().into_bytes());
        let text = words.join(" ");
        match read(Path::new("f"), text.as_bytes(), &origin(), &mut load) {
            Err(errors) => prop_assert!(errors.len() <= ERRORS_MAX),
            Ok(records) => {
                let shown: String = records.iter().map(|located| format!("{}\n", located.value)).collect();
                let again = read_text(shown.as_bytes()).unwrap();
                let values = |records: Vec<Located<Record>>| records.into_iter().map(|l| l.value).collect::<Vec<_>>();
                prop_assert_eq!(values(again), values(records.iter().collect()));
            }
        }
    }
}
