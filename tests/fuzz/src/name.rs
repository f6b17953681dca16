//! Checks of names: parsing of presentation and wire format, and conversion between them.

use std::cmp::Ordering;

use cloudmap_dns::zone::name::{LABEL_OCTETS_MAX, NAME_OCTETS_MAX};
use cloudmap_dns::zone::query_name::name_hash;
use cloudmap_dns::zone::{Name, QueryName};

pub fn check(input: &[u8]) {
    let origin: Name = "svc.local.".parse().expect("a name");
    for origin in [&origin, &Name::root()] {
        if let Ok(name) = Name::parse(input, origin) {
            check_name(&name);
        }
    }
    if let Ok(text) = std::str::from_utf8(input) {
        // `FromStr` has no origin, so `@` is an ordinary label there.
        let is_name = input == b"@" || Name::parse(input, &Name::root()).is_ok();
        assert_eq!(text.parse::<Name>().is_ok(), is_name);
    }
    let naive = naive_len(input);
    match QueryName::read(input) {
        Ok(read) => {
            let len = read.as_wire().len();
            assert_eq!(Some(len), naive);
            assert_eq!(read.as_wire(), input[..len].to_ascii_lowercase());
            check_name(&Name::from_wire(&input[..len]).expect("the name of a query is a name"));
        }
        Err(_) => assert_eq!(naive, None),
    }
    assert_eq!(Name::from_wire(input).is_ok(), naive == Some(input.len()));
    let (left, right) = input.split_at(input.len() / 2);
    if let (Ok(left), Ok(right)) = (Name::parse(left, &origin), Name::parse(right, &origin)) {
        check_pair(&left, &right);
    }
}

/// Length of the uncompressed name at the start of the input, by RFC 1035 §3.1 and §2.3.4, or `None` if there is none.
fn naive_len(wire: &[u8]) -> Option<usize> {
    let mut at = 0;
    while *wire.get(at)? != 0 {
        let label = usize::from(wire[at]);
        if label > LABEL_OCTETS_MAX {
            return None;
        }
        at += 1 + label;
    }
    (at < NAME_OCTETS_MAX).then_some(at + 1)
}

fn check_name(name: &Name) {
    let wire = name.as_wire();
    assert_eq!(naive_len(wire), Some(wire.len()));
    let text = name.to_string();
    let again = Name::parse(text.as_bytes(), &Name::root()).expect("the presentation format is a name");
    assert_eq!(again.as_wire(), wire, "{text}");
    assert_eq!(Name::from_wire(wire).as_ref(), Ok(name));
    assert_eq!(Name::from_labels(name.labels()).as_ref(), Ok(name));
    let query = QueryName::read(wire).expect("a name can be asked for");
    assert_eq!(query.label_count(), name.label_count());
    let mut suffix = Some(name.to_lower());
    for labels in 0..=name.label_count() {
        let expected = suffix.as_ref().expect("a name has as many suffixes as labels");
        assert_eq!(query.suffix(labels), expected.as_wire());
        assert_eq!(query.suffix_hash(labels), name_hash(expected.as_wire()));
        assert!(name.is_at_or_below(expected));
        suffix = expected.parent();
    }
    assert_eq!(suffix, None);
}

fn check_pair(left: &Name, right: &Name) {
    let order = left.cmp(right);
    assert_eq!(right.cmp(left), order.reverse());
    assert_eq!(order == Ordering::Equal, left == right);
    assert_eq!(left == right, left.to_lower().as_wire() == right.to_lower().as_wire());
    if left != right && left.is_at_or_below(right) {
        assert_eq!(order, Ordering::Greater, "{left} is below {right}, and comes after it");
    }
}
