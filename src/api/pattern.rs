//! The patterns of the API's strings: each with the regular expression of the model, which messages show, and with a
//! predicate in Rust that accepts exactly the texts that match it.

pub(super) use crate::registry::pattern::{NAMESPACE_NAME_PUBLIC, Pattern, SERVICE_NAME};

pub(super) static NAMESPACE_NAME_HTTP: Pattern = Pattern {
    text: "^(?!arn:)[!-~]{1,1024}$",
    holds: |text| is_graphic(text, 1024) && !text.starts_with("arn:"),
};

pub(super) static NAMESPACE_NAME_PRIVATE: Pattern = Pattern {
    text: "^(?!arn:)[!-~]{1,253}$",
    holds: |text| is_graphic(text, 253) && !text.starts_with("arn:"),
};

pub(super) static NAMESPACE_NAME: Pattern =
    Pattern { text: "^[!-~]{1,1024}$", holds: |text| is_graphic(text, 1024) };

/// The pattern of InstanceId in RegisterInstance; other operations limit only the length of an instance id.
pub(super) static INSTANCE_ID: Pattern = Pattern {
    text: "^[0-9a-zA-Z_/:.@-]+$",
    holds: |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/:.@-".contains(&byte))
    },
};

pub(super) static ATTRIBUTE_KEY: Pattern =
    Pattern { text: "^[a-zA-Z0-9!-~]+$", holds: |text| is_graphic(text, usize::MAX) };

/// The pattern of AttrValue, which may end in spaces and tabs but not begin with one.
pub(super) static ATTRIBUTE_VALUE: Pattern = Pattern {
    text: r"^([a-zA-Z0-9!-~][ \ta-zA-Z0-9!-~]*){0,1}[a-zA-Z0-9!-~]{0,1}$",
    holds: |text| {
        !text.starts_with([' ', '\t'])
            && text.bytes().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t'))
    },
};

fn is_graphic(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &Pattern, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!((pattern.holds)(text), "{text:?} is {pattern:?}");
        }
        for text in bad {
            assert!(!(pattern.holds)(text), "{text:?} is not {pattern:?}");
        }
    }

    #[test]
    fn namespace_names() {
        let name = "x".repeat(253);
        let long = "x".repeat(1024);
        let longer = "x".repeat(1025);
        check(
            &NAMESPACE_NAME_HTTP,
            &["a", "!~", "production.local", "a.", "..", "ARN:x", "xarn:", &long],
            &["", "arn:", "arn:aws", "a b", "a\n", "ü", "\u{7f}", &longer],
        );
        check(
            &NAMESPACE_NAME_PRIVATE,
            &["drone-private", "a.b.", "a/\"\\", &name],
            &["", "arn:x", " a", &long],
        );
        check(&NAMESPACE_NAME, &["arn:x", "a", &long], &["", "a b", &longer]);
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(300));
        check(
            &NAMESPACE_NAME_PUBLIC,
            &["example.com", "a.b", "1.2", "a-b.c--d.e", &format!("{label}.{label}")],
            &[
                "", "com", "a.b.", ".a.b", "a..b", "-a.b", "a-.b", "a.-b", "a.b-", "a_b.c", "ü.b", ".",
                &longest,
            ],
        );
    }

    #[test]
    fn service_names() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}");
        assert_eq!(longest.len(), 127);
        check(
            &SERVICE_NAME,
            &[
                "a",
                ".",
                "backend",
                "_http._tcp",
                "a.b.c",
                "a-b",
                "a_",
                "__",
                "_a",
                "0",
                "a--b",
                &label,
                &longest,
            ],
            &[
                "",
                "_",
                "-",
                "..",
                "a.",
                ".a",
                "a..b",
                "-a",
                "a-",
                "a b",
                "a/b",
                "a._",
                "ü",
                "a\n",
                &format!("{label}x"),
                &format!("{longest}x"),
                &format!("{longest}.x"),
            ],
        );
    }

    #[test]
    fn instance_ids_and_attributes() {
        check(&INSTANCE_ID, &["web-1", "a/b:c.d@e_f", "-", "."], &["", "a b", "a+b", "ü", "a\n"]);
        check(&ATTRIBUTE_KEY, &["AWS_INSTANCE_IPV4", "!", "~", "a=b"], &["", "a b", "a\t", "ü", "\u{7f}"]);
        check(
            &ATTRIBUTE_VALUE,
            &["", "a", "~", "a b", "a\tb", "a ", "a b\t ", "!\"#"],
            &[" ", "\t", " a", "\ta", "a\nb", "ü", "a\u{7f}", "a\u{0}"],
        );
    }
}
