//! Parser for the Corefiles of other authors, which finds the zones of their server blocks.
//!
//! The syntax is that of Caddy version 1, as CoreDNS reads it: keys of a block up to `{`, with spaces or commas
//! between them; nested braces; `"` around words; `#` before comments; `(name) { }` for snippets; `import` of other
//! files; and a file that is one block may lack its braces. Text that can't be parsed is skipped, because text of
//! others is never refused.

use std::collections::BTreeSet;

/// Limit of the tokens that are read of one text; the rest is skipped. A ConfigMap has at most 1 MiB.
const TOKENS_MAX: usize = 500_000;
const PORT: &str = "53";
/// Scheme that a key may begin with. Blocks for other schemes don't conflict with DNS.
const SCHEME: &str = "dns://";

/// Zones of the server blocks for DNS on port 53, in lower case and without a final dot, so that `.` is empty.
/// `cluster` are those of the plugin `kubernetes`, which are the cluster's own names.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Corefile {
    pub(super) zones: BTreeSet<String>,
    pub(super) cluster: BTreeSet<String>,
}

#[derive(Debug)]
struct Token<'t> {
    text: &'t str,
    is_first_of_line: bool,
}

impl Corefile {
    pub(super) fn read(text: &str) -> Corefile {
        let mut corefile = Corefile::default();
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            // An `import` takes all of its line; the text that it imports is not available here.
            if tokens[at].text == "import" {
                at = end_of_line(&tokens, at);
                continue;
            }
            if tokens[at].text == "}" {
                at += 1;
                continue;
            }
            let (keys, body) = keys(&tokens, at);
            let is_snippet = keys.first().is_some_and(|key| key.starts_with('(') && key.ends_with(')'));
            if !is_snippet {
                corefile.zones.extend(keys.iter().filter_map(|key| zone_at_53(key)));
            }
            let has_braces = tokens.get(body).is_some_and(|token| token.text == "{");
            let end = if has_braces { end_of_block(&tokens, body) } else { tokens.len() };
            corefile.read_plugins(&tokens[body..end]);
            at = end.max(at + 1);
        }
        corefile
    }

    fn read_plugins(&mut self, body: &[Token<'_>]) {
        for (at, token) in body.iter().enumerate() {
            if token.text == "kubernetes" && token.is_first_of_line {
                let zones = body[at + 1..end_of_line(body, at)].iter().take_while(|token| token.text != "{");
                self.cluster.extend(zones.map(|token| normalized(token.text)));
            }
        }
    }
}

/// Name of a zone in lower case and without a final dot.
pub(super) fn normalized(zone: &str) -> String {
    zone.strip_suffix('.').unwrap_or(zone).to_ascii_lowercase()
}

fn keys<'t>(tokens: &[Token<'t>], start: usize) -> (Vec<&'t str>, usize) {
    let mut keys = Vec::new();
    let mut goes_on = true;
    let mut at = start;
    while let Some(token) = tokens.get(at).filter(|token| token.text != "{") {
        // A line that ends in a comma continues on the next one; a line without braces after it has all of the keys.
        if token.is_first_of_line && at > start && !goes_on {
            break;
        }
        goes_on = token.text.ends_with(',');
        keys.extend(token.text.split(',').filter(|key| !key.is_empty()));
        at += 1;
    }
    (keys, at)
}

/// Zone of a block's key; `None` if the key is not for DNS on port 53.
fn zone_at_53(key: &str) -> Option<String> {
    let key = key.to_ascii_lowercase();
    let name = key.strip_prefix(SCHEME).unwrap_or(&key);
    if name.contains("://") || name.contains(['{', '$', '/', '}']) {
        return None;
    }
    let (zone, port) = name.rsplit_once(':').unwrap_or((name, PORT));
    (port == PORT).then(|| normalized(zone))
}

fn end_of_block(tokens: &[Token<'_>], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

fn end_of_line(tokens: &[Token<'_>], start: usize) -> usize {
    let next = tokens.iter().skip(start + 1).position(|token| token.is_first_of_line);
    next.map_or(tokens.len(), |after| start + 1 + after)
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut is_first_of_line = true;
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(first) = rest.chars().next() {
        if tokens.len() >= TOKENS_MAX {
            break;
        }
        if first == '\n' {
            is_first_of_line = true;
            rest = &rest[1..];
        } else if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first == '#' {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else {
            let is_quoted = first == '"';
            let word = if is_quoted { &rest[1..] } else { rest };
            let end = if is_quoted {
                end_of_quoted(word)
            } else {
                word.find(char::is_whitespace).unwrap_or(word.len())
            };
            tokens.push(Token { text: &word[..end], is_first_of_line });
            is_first_of_line = false;
            rest = &word[end..];
            if is_quoted {
                rest = rest.strip_prefix('"').unwrap_or(rest);
            }
        }
    }
    tokens
}

/// Position of the closing quote, or the end if there is none. A quote after `\` does not close.
fn end_of_quoted(word: &str) -> usize {
    let mut is_escaped = false;
    for (at, character) in word.char_indices() {
        match character {
            '"' if !is_escaped => return at,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_all_forms_of_blocks_are_found_even_in_damaged_texts() {
        for (text, expected) in [
            ("", &[][..]),
            ("production.local:53 {\n errors\n}\n", &["production.local"]),
            ("Production.Local. {\n}\n", &["production.local"]),
            (
                "dns://a.test:53 b.test,c.test, d.test {\n forward . 10.0.0.1\n}",
                &["a.test", "b.test", "c.test", "d.test"],
            ),
            ("a.test,\nb.test {\n}\nc.test {\n}", &["a.test", "b.test", "c.test"]),
            ("a.test:5353 b.test:53 {\n}", &["b.test"]),
            ("tls://a.test https://b.test grpc://c.test dns://d.test {\n}", &["d.test"]),
            ("# a.test {\n\"b.test\" { # c.test {\n}\n", &["b.test"]),
            ("(snippet) {\n errors\n}\nimport other/*.server\na.test {\n import snippet\n}", &["a.test"]),
            (". {\n kubernetes x.test {\n  pods insecure\n }\n}\na.test {\n}", &["", "a.test"]),
            ("a.test\nforward . 10.0.0.1\n", &["a.test"]),
            ("a.test {\n hosts {\n  10.0.0.1 \"b.test {\"\n }\n}\nc.test {\n}", &["a.test", "c.test"]),
            ("{$ZONE}:53 10.0.0.0/24 a.test {\n}", &["a.test"]),
            ("a.test {", &["a.test"]),
            ("}\na.test {\n}", &["a.test"]),
            ("\"a.test", &["a.test"]),
            ("{", &[]),
            ("\u{feff}a.test {\n}", &["a.test"]),
        ] {
            let found = Corefile::read(text);
            let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(found.zones, expected, "{text:?}");
        }
    }

    #[test]
    fn zones_of_the_kubernetes_plugin_are_the_clusters_own() {
        let text = ".:53 {\n  errors\n  kubernetes Cluster.Local in-addr.arpa ip6.arpa {\n    pods insecure\n  }\n  \
                    forward . /etc/resolv.conf\n}\nb.test {\n  kubernetes corp.example\n  cache\n}\n";
        let expected = ["cluster.local", "corp.example", "in-addr.arpa", "ip6.arpa"].map(String::from);
        assert_eq!(Corefile::read(text).cluster, BTreeSet::from(expected));
    }
}
