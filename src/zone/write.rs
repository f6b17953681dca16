//! Writer of master files (RFC 1035 §5), for commands that export or show a zone.

use std::fmt::Write as _;

use super::rdata::rdata_text;
use super::{Name, RecordType, Rrset};

/// Writes the rrsets as a master file of the zone `origin`, which reads back to equal rrsets. Each line is one record with
/// absolute names: first the SOA, then the others by owner in canonical order (RFC 4034 §6.1) and by type.
pub fn write_zone<'a>(origin: &Name, rrsets: impl Iterator<Item = (&'a Name, &'a Rrset)>) -> String {
    let mut rrsets: Vec<_> = rrsets.collect();
    let is_not_soa = |owner: &Name, rrset: &Rrset| !(rrset.rtype == RecordType::SOA && owner == origin);
    rrsets.sort_by(|(a, a_rrset), (b, b_rrset)| {
        let soa_first = is_not_soa(a, a_rrset).cmp(&is_not_soa(b, b_rrset));
        soa_first.then_with(|| a.cmp(b)).then_with(|| a_rrset.rtype.cmp(&b_rrset.rtype))
    });
    let mut text = format!("$ORIGIN {origin}\n");
    for (owner, rrset) in rrsets {
        for rdata in rrset.rdatas() {
            let data = rdata_text(rrset.rtype, rdata);
            // Writing to a String cannot fail.
            writeln!(text, "{owner}\t{}\tIN\t{}\t{data}", rrset.ttl, rrset.rtype).unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::zone::contents::Contents;
    use crate::zone::master_file;

    const ZONE: &str = r#"
$TTL 1h
a\.b TXT "x;y" "\"z\\" \007
www  300 A 10.0.0.2
www  300 A 10.0.0.1
*.w  HTTPS 1 . alpn="h2,h\\,3" port=8443
@    NS  ns
ns   AAAA 2001:db8::1
\@\$ TYPE65280 \# 2 00 FF
@    SOA ns host\.master 7 1h 10m 1w 5m
"#;

    #[test]
    fn a_written_zone_reads_back_to_equal_rrsets() {
        let origin: Name = "X.test".parse().unwrap();
        let read = |text: &str| {
            let mut no_files = |_: &Path| Err(std::io::ErrorKind::NotFound.into());
            let records = master_file::read(Path::new("f"), text.as_bytes(), &origin, &mut no_files).unwrap();
            let contents = Contents::new(records);
            contents.check_whole(&origin, Path::new("f")).unwrap();
            contents.rrsets().map(|owned| (owned.owner, owned.rrset)).collect::<Vec<_>>()
        };
        let first = read(ZONE);
        let written = write_zone(&origin, first.iter().map(|(owner, rrset)| (owner, rrset)));
        assert_eq!(read(&written), first);
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines[0], "$ORIGIN X.test.");
        assert_eq!(lines[1], r"X.test.	3600	IN	SOA	ns.X.test. host\.master.X.test. 7 3600 600 604800 300");
        assert_eq!(lines[2], "X.test.	3600	IN	NS	ns.X.test.");
        assert!(lines.contains(&r"\@\$.X.test.	3600	IN	TYPE65280	\# 2 00FF"), "{written}");
        assert!(lines.contains(&r#"*.w.X.test.	3600	IN	HTTPS	1 . alpn="h2,h\\,3" port=8443"#), "{written}");
    }
}
