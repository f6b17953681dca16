use super::corefile::normalized;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Domain of the cluster that this process runs in; `None` outside of a cluster.
pub(super) fn cluster_domain() -> Option<String> {
    // The file is short and read only once, so that blocking the thread is harmless.
    domain_in(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default())
}

/// Domain from a container's resolver configuration, whose search list contains `svc.<domain>`.
fn domain_in(resolv_conf: &str) -> Option<String> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search"));
    let mut words = lines.flat_map(str::split_whitespace);
    words.find_map(|word| word.strip_prefix("svc.")).map(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_domain_is_read_from_the_search_list() {
        for (text, expected) in [
            (
                "search shop.svc.corp.example svc.corp.example corp.example\nnameserver 10.43.0.10\n",
                Some("corp.example"),
            ),
            ("nameserver 10.0.0.1\nsearch svc.Cluster.Local.\n", Some("cluster.local")),
            ("search example.org\n", None),
            ("", None),
        ] {
            assert_eq!(domain_in(text).as_deref(), expected, "{text}");
        }
    }
}
