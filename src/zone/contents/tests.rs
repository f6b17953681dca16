//! Tests of the rules about records at one name, below zone cuts and at the apex.

use std::path::Path;

use super::*;
use crate::zone::master_file;

const APEX: &str = "$TTL 60\n@ SOA ns hm 1 2 3 4 5\n@ NS ns\nns A 10.0.0.1\n";

fn contents(text: &str) -> Contents {
    let mut no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
    Contents::new(master_file::read(Path::new("f"), text.as_bytes(), &origin(), &mut no_files).unwrap())
}

fn origin() -> Name {
    "x.test".parse().unwrap()
}

fn whole(text: &str) -> Checked {
    contents(text).check_whole(&origin(), Path::new("f"))
}

#[track_caller]
fn assert_found(found: &[MasterFileError], expected: &[&str], text: &str) {
    let found: Vec<String> = found.iter().map(MasterFileError::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let (place, message) = expected.split_once(' ').unwrap();
        assert!(found.starts_with(&format!("f:{place}: ")) && found.contains(message), "{text}\n{found}");
    }
}

#[test]
fn wrong_zones_are_refused_with_line_and_column() {
    struct Case {
        text: &'static str,
        errors: &'static [&'static str],
    }
    for case in [
        Case { text: "www A 10.0.0.1\nw.other. A 10.0.0.1", errors: &["6:1 w.other. is not in the zone"] },
        Case { text: "a SOA ns hm 1 2 3 4 5", errors: &["5:1 only be at the apex"] },
        Case { text: "@ SOA ns hm 2 2 3 4 5", errors: &["5:1 second SOA"] },
        Case { text: "@ CNAME a", errors: &["5:1 cannot be at the apex"] },
        Case { text: "a CNAME b\na A 10.0.0.1", errors: &["5:1 also A (f:6:1)"] },
        Case { text: "a CNAME b\n CNAME c", errors: &["6:2 second CNAME"] },
        Case { text: "a DNAME b\n DNAME c", errors: &["6:2 second DNAME"] },
        Case {
            text: "u.t.a A 10.0.0.1\na DNAME b\na TXT x\nab A 10.0.0.1\nT.A A 10.0.0.1",
            errors: &["5:1 below the DNAME at a.x.test. (f:6:1)", "9:1 below the DNAME"],
        },
    ] {
        assert_found(&whole(&format!("{APEX}{}", case.text)).unwrap_err(), case.errors, case.text);
    }
    assert_found(&whole("").unwrap_err(), &["1:1 no SOA at its apex", "1:1 no NS at its apex"], "");
}

#[test]
fn overlays_leave_the_apex_to_the_zone() {
    let overlay = |text: &str| contents(text).check_overlay(&origin());
    let errors = overlay(APEX).unwrap_err();
    assert_found(&errors, &["2:1 its own SOA", "3:1 its own NS"], APEX);
    let text = "$TTL 60\n@ MX 10 mail\nsub NS ns.sub\n";
    assert_found(&overlay(text).unwrap(), &[], text);
    assert_eq!(contents(text).rrsets().count(), 2);
    assert_found(&overlay("").unwrap(), &[], "");
    assert_eq!(contents("").rrsets().count(), 0);
}

#[test]
fn questionable_records_are_served_with_a_warning() {
    struct Case {
        text: &'static str,
        warnings: &'static [&'static str],
    }
    for case in [
        Case { text: "a CNAME b\na CNAME b\na NSEC b CNAME", warnings: &[] },
        // A CNAME may have KEY and SIG records beside it (RFC 2535 §2.3.5), and signatures have the TTLs of what they sign.
        Case {
            text: "a CNAME b\na KEY 49152 3 1\na 30 SIG KEY 1 3 30 2 1 1 a AA==\na SIG CNAME 1 3 60 2 1 1 a AA==",
            warnings: &[],
        },
        Case { text: "a 30 A 10.0.0.1\na 20 A 10.0.0.2", warnings: &["6:1 20 is used for all"] },
        Case { text: "a DS 1 8 2 aa", warnings: &["5:1 has a DS but no NS"] },
        Case { text: "@ DS 1 8 2 aa", warnings: &["5:1 belongs to the parent"] },
        Case {
            text: "c NS n.c\nn.c A 10.0.0.1\nn.c TXT x\nc DS 1 8 2 aa\nc TXT y\nd.n.c NS n",
            warnings: &["7:1 TXT is never served", "9:1 TXT is never served", "10:1 NS is never served"],
        },
        Case {
            text: "a NS 10.0.0.1\nb MX 1 10.0.0.1.\nc SRV 0 0 1 10.0.0.1\nd MX 1 10.0.0.1.in-addr.arpa.",
            warnings: &["5:1 NS names an address", "6:1 MX names an address", "7:1 SRV names an address"],
        },
    ] {
        assert_found(&whole(&format!("{APEX}{}", case.text)).unwrap(), case.warnings, case.text);
    }
}

#[test]
fn rrsets_are_grouped_in_canonical_order() {
    let text = format!("{APEX}B TXT b\na.B A 10.0.0.1\nb A 10.0.0.1\nB TXT a\nb TXT b\na A 10.0.0.1\n");
    whole(&text).unwrap();
    let shown: Vec<String> = contents(&text)
        .rrsets()
        .map(|owned| format!("{} {} {}", owned.owner, owned.rrset.rtype, owned.rrset.len()))
        .collect();
    let expected = ["x.test. NS 1", "x.test. SOA 1", "a.x.test. A 1", "b.x.test. A 1", "B.x.test. TXT 2"];
    assert_eq!(shown[..5], expected);
    assert_eq!(shown[5], "a.B.x.test. A 1");
}

#[test]
fn an_rrset_that_no_message_can_carry_is_refused() {
    let mut text = APEX.to_owned();
    for number in 0..300 {
        text.push_str(&format!("big TXT \"{number:0250}\"\n"));
    }
    assert_found(&whole(&text).unwrap_err(), &["5:1 no message can carry them"], "300 strings");
}

#[test]
fn records_of_an_owner_can_be_found_and_split_off() {
    let contents = contents(&format!("{APEX}B TXT b\na.b A 10.0.0.1\nb A 10.0.0.2\n"));
    let at = |contents: &Contents, owner: &str| -> Vec<RecordType> {
        let records = contents.at(&owner.parse().unwrap());
        records.into_iter().flat_map(OwnerRecords::rrsets).map(|rrset| rrset.rtype).collect()
    };
    assert_eq!(at(&contents, "b.X.test"), [RecordType::A, RecordType::TXT]);
    assert_eq!(at(&contents, "X.test"), [RecordType::NS, RecordType::SOA]);
    assert_eq!(at(&contents, "c.x.test"), []);
    assert_eq!(at(&contents, "test"), []);
    let (rest, left_out) = contents.without(&origin(), &[RecordType::SOA, RecordType::NS]);
    assert_eq!((left_out.len(), rest.record_count()), (2, contents.record_count() - 2));
    assert_eq!(at(&rest, "x.test"), []);
    assert_eq!(at(&rest, "b.x.test"), [RecordType::A, RecordType::TXT]);
}

#[test]
fn too_many_warnings_are_cut_to_the_first_of_the_file() {
    let mut text = APEX.to_owned();
    for number in (0..3 * COLLECTED_MAX).rev() {
        text.push_str(&format!("n{number:05} DS 1 8 2 aa\n"));
    }
    let warnings = whole(&text).unwrap();
    let lines: Vec<usize> = warnings.iter().map(|warning| warning.place.line as usize).collect();
    assert_eq!(lines, (5..5 + ERRORS_MAX).collect::<Vec<_>>());
}
