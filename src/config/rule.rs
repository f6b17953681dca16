//! What a setting accepts: reading its text, its limits, and writing it back.
//!
//! Called by the table in [`super`]. A rule is the same for a flag, a variable and the file, so a value means the same
//! wherever it stands, and a refusal always says what would be right.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::CookieSecret;

/// How many secondary servers there may be.
const SERVERS_MAX: usize = 64;

/// How a value is written in the settings file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileType {
    /// A quoted string.
    String,
    /// An integer without quotes.
    Integer,
    /// `true` or `false` without quotes.
    Boolean,
    /// An array of strings, or one string with commas.
    Strings,
}

/// Why a value was refused.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Refusal {
    /// Which of the given texts is wrong, from 0; 0 also when it is none in particular.
    pub(super) item: usize,
    /// What is wrong and what would be right.
    pub(super) message: String,
}

/// Reads the texts given for a setting into its value.
type Read<T> = Box<dyn Fn(&[&str]) -> Result<T, Refusal> + Send + Sync>;

/// Writes a value as the texts that [`Read`] reads.
type Write<T> = Box<dyn Fn(&T) -> Vec<String> + Send + Sync>;

/// What a setting of type `T` accepts.
pub(super) struct Rule<T> {
    /// How the value is written in the file.
    pub(super) file_type: FileType,
    /// What stands for the value in help texts.
    pub(super) placeholder: String,
    /// The only words that are accepted, if it is a choice.
    pub(super) words: Vec<&'static str>,
    /// The limits, for the documentation, if it is a number.
    pub(super) limits: Option<String>,
    pub(super) read: Read<T>,
    pub(super) write: Write<T>,
}

/// A choice between words.
pub(super) trait Choice: Copy + Eq + Send + Sync + 'static {
    /// Every word with what it stands for, the default first.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: 'static> Rule<T> {
    /// A rule for exactly one text.
    fn one(
        placeholder: &str,
        file_type: FileType,
        read: impl Fn(&str) -> Result<T, String> + Send + Sync + 'static,
        write: impl Fn(&T) -> Option<String> + Send + Sync + 'static,
    ) -> Rule<T> {
        Rule {
            file_type,
            placeholder: placeholder.to_string(),
            words: Vec::new(),
            limits: None,
            read: Box::new(move |texts| match texts {
                [text] => read(text).map_err(|message| Refusal { item: 0, message }),
                _ => Err(Refusal { item: 0, message: format!("{} values, but it takes one", texts.len()) }),
            }),
            write: Box::new(move |value| write(value).into_iter().collect()),
        }
    }
}

/// How many of something there may be; `what` is its name in the plural.
pub(super) fn count(limits: RangeInclusive<u64>, what: &'static str) -> Rule<usize> {
    let allowed = format!("{} to {}", limits.start(), limits.end());
    Rule { placeholder: "COUNT".to_string(), limits: Some(allowed), ..number(limits, what) }
}

/// A whole number within limits; `unit` is its unit in the plural.
pub(super) fn number<T>(limits: RangeInclusive<u64>, unit: &'static str) -> Rule<T>
where
    T: TryFrom<u64> + Display + 'static,
{
    let allowed = format!("{} to {} {unit}", limits.start(), limits.end());
    let expected = allowed.clone();
    let read = move |text: &str| {
        let number = text.parse().ok().filter(|number| limits.contains(number));
        number
            .and_then(|number: u64| T::try_from(number).ok())
            .ok_or_else(|| format!("`{text}` is not a whole number within {expected}"))
    };
    let write = |value: &T| Some(value.to_string());
    Rule { limits: Some(allowed), ..Rule::one(&unit.to_uppercase(), FileType::Integer, read, write) }
}

/// `true` or `false`.
pub(super) fn boolean() -> Rule<bool> {
    let read = |text: &str| text.parse().map_err(|_| format!("`{text}` is neither true nor false"));
    let rule = Rule::one("true|false", FileType::Boolean, read, |value: &bool| Some(value.to_string()));
    Rule { words: vec!["true", "false"], ..rule }
}

/// One word of a choice.
pub(super) fn choice<T: Choice>() -> Rule<T> {
    let words: Vec<&str> = T::WORDS.iter().map(|(word, _)| *word).collect();
    let (placeholder, expected) = (words.join("|"), words.join(", "));
    let read = move |text: &str| {
        let known = T::WORDS.iter().find(|(word, _)| *word == text);
        known.map(|(_, value)| *value).ok_or_else(|| format!("`{text}` is none of {expected}"))
    };
    let write =
        |value: &T| T::WORDS.iter().find(|(_, known)| known == value).map(|(word, _)| (*word).to_string());
    Rule { words, ..Rule::one(&placeholder, FileType::String, read, write) }
}

/// One word of a choice, or none.
pub(super) fn optional_choice<T: Choice>() -> Rule<Option<T>> {
    let Rule { file_type, placeholder, words, limits, read, write } = choice::<T>();
    Rule {
        file_type,
        placeholder,
        words,
        limits,
        read: Box::new(move |texts| read(texts).map(Some)),
        write: Box::new(move |value| value.iter().flat_map(&write).collect()),
    }
}

/// One other server's address and port, which need not be given.
pub(super) fn optional_server() -> Rule<Option<SocketAddr>> {
    let read = |text: &str| read_server(text).map(Some);
    let write = |server: &Option<SocketAddr>| server.map(|server| server.to_string());
    Rule::one("ADDR:PORT", FileType::String, read, write)
}

/// The name of a Kubernetes Service: a label as RFC 1035 §2.3.1 has them.
pub(super) fn service_name() -> Rule<String> {
    text("NAME", |text| {
        let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let right = (1..=63).contains(&text.len())
            && text.bytes().all(is_known)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-');
        right.then_some(()).ok_or_else(|| {
            format!("`{text}` is not a Service's name; use 1 to 63 lowercase letters, digits and hyphens, a letter first")
        })
    })
}

/// One address and port; port 0 lets the system choose.
pub(super) fn address() -> Rule<SocketAddr> {
    Rule::one("ADDR:PORT", FileType::String, read_address, |address| Some(address.to_string()))
}

/// One or more addresses and ports, none of them twice.
pub(super) fn addresses() -> Rule<Vec<SocketAddr>> {
    list("ADDR:PORT", 1, |text, seen| {
        let address = read_address(text)?;
        if address.port() != 0 && seen.contains(&address) {
            return Err(format!("`{text}` is given twice"));
        }
        Ok(address)
    })
}

/// Any number of addresses of hosts, none of them twice.
pub(super) fn hosts() -> Rule<Vec<IpAddr>> {
    list("IP", 0, |text, seen| {
        let host: IpAddr = text.parse().map_err(|_| {
            format!("`{text}` is not an IP address; write one such as 192.0.2.1 or 2001:db8::1")
        })?;
        if host.is_unspecified() || host.is_multicast() {
            return Err(format!("`{text}` is not the address of a host; name one that clients can reach"));
        }
        if seen.contains(&host) {
            return Err(format!("`{text}` is given twice"));
        }
        Ok(host)
    })
}

/// Secrets of DNS cookies, none of them twice.
pub(super) fn cookie_secrets() -> Rule<Vec<CookieSecret>> {
    list("HEX", 0, |text, seen| {
        let digits = text.as_bytes().as_chunks::<2>();
        let octet = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let octets: Option<Vec<u8>> = digits.0.iter().map(octet).collect();
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let secret =
            octets.filter(|_| is_hex && digits.1.is_empty()).and_then(|octets| octets.try_into().ok());
        // A secret is not repeated in a message.
        let secret = CookieSecret(secret.ok_or("a secret is exactly 32 hexadecimal digits (16 octets)")?);
        if seen.contains(&secret) {
            return Err("a secret is given twice".to_string());
        }
        Ok(secret)
    })
}

/// A name for the server, as it may be told to anyone.
pub(super) fn optional_server_id() -> Rule<Option<String>> {
    let read = |text: &str| {
        let right = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let id = right.then(|| Some(text.to_string()));
        id.ok_or_else(|| format!("`{text}` is not a server's id; use 1 to 64 visible ASCII characters"))
    };
    Rule::one("TEXT", FileType::String, read, |id: &Option<String>| id.clone())
}

/// Any number of other servers' addresses and ports, none of them twice.
pub(super) fn servers() -> Rule<Vec<SocketAddr>> {
    list("ADDR:PORT", 0, |text, seen| {
        let server = read_server(text)?;
        if seen.len() >= SERVERS_MAX {
            return Err(format!("`{text}` is one too many; there may be {SERVERS_MAX}"));
        }
        if seen.contains(&server) {
            return Err(format!("`{text}` is given twice"));
        }
        Ok(server)
    })
}

/// Any number of networks, none of them twice; an address alone is the network of that one host.
pub(super) fn networks() -> Rule<Vec<IpNet>> {
    list("CIDR", 0, |text, seen| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
            format!("`{text}` is not a network; write one such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1")
        })?;
        let network = network.trunc();
        if seen.contains(&network) {
            return Err(format!("`{text}` is given twice"));
        }
        Ok(network)
    })
}

/// The path of a directory, relative to the working directory.
pub(super) fn path() -> Rule<PathBuf> {
    Rule::one("DIR", FileType::String, read_path, |path| Some(path.display().to_string()))
}

/// The path of a directory that need not be given.
pub(super) fn optional_path() -> Rule<Option<PathBuf>> {
    let write = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    Rule::one("DIR", FileType::String, |text| read_path(text).map(Some), write)
}

/// The path of a file that need not be given.
pub(super) fn optional_file() -> Rule<Option<PathBuf>> {
    let read = |text: &str| match text {
        "" => Err("an empty path; name a file".to_string()),
        text => Ok(Some(PathBuf::from(text))),
    };
    let write = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    Rule::one("FILE", FileType::String, read, write)
}

/// The name of a Kubernetes namespace.
pub(super) fn optional_kubernetes_namespace() -> Rule<Option<String>> {
    let read = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let right = (1..=63).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        right.then(|| Some(text.to_string())).ok_or_else(|| {
            format!(
                "`{text}` is not a Kubernetes namespace; use 1 to 63 lowercase letters, digits and hyphens, as in \
                 cloudmap-dns"
            )
        })
    };
    Rule::one("NAMESPACE", FileType::String, read, |name: &Option<String>| name.clone())
}

/// An AWS account's number.
pub(super) fn account() -> Rule<String> {
    text("DIGITS", |text| {
        let right = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        right.then_some(()).ok_or_else(|| format!("`{text}` is not an account id of exactly 12 digits"))
    })
}

/// An AWS region's name. It becomes part of ids, ARNs and shell text, so it is kept to what AWS uses.
pub(super) fn region() -> Rule<String> {
    text("REGION", |text| {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let right = (1..=32).contains(&text.len()) && text.bytes().all(known);
        right.then_some(()).ok_or_else(|| {
            format!(
                "`{text}` is not a region; use 1 to 32 lowercase letters, digits and hyphens, as in us-east-1"
            )
        })
    })
}

/// Directives of tracing's `EnvFilter`. A lone word must be a level: `EnvFilter` would take a misspelt level for the
/// name of a target, and log nothing.
pub(super) fn log_directives() -> Rule<String> {
    text("DIRECTIVES", |text| {
        let expected = "use off, error, warn, info, debug or trace, or target=level, separated by commas";
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let wrong = text.split(',').map(str::trim).find(|directive| {
            let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(directive));
            !is_level && !directive.contains('=')
        });
        // Commas within a span's fields do not separate directives.
        if let Some(wrong) = wrong.filter(|_| !text.contains('[')) {
            return Err(format!("`{wrong}` is not a log level; {expected}"));
        }
        let parsed = EnvFilter::builder().parse(text);
        parsed.map(|_| ()).map_err(|_| format!("`{text}` is not a log filter; {expected}"))
    })
}

/// A text that is kept as it is once it is found right.
fn text(
    placeholder: &str,
    check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
) -> Rule<String> {
    let read = move |text: &str| check(text).map(|()| text.to_string());
    Rule::one(placeholder, FileType::String, read, |text: &String| Some(text.clone()))
}

/// A list whose items are read one by one, each with sight of those before it.
fn list<T>(
    placeholder: &str,
    least: usize,
    read: impl Fn(&str, &HashSet<T>) -> Result<T, String> + Send + Sync + 'static,
) -> Rule<Vec<T>>
where
    T: Copy + Eq + std::hash::Hash + Display + 'static,
{
    let read_all = move |texts: &[&str]| {
        if texts.len() < least {
            return Err(Refusal { item: 0, message: "no value, but it needs at least one".to_string() });
        }
        let mut seen = HashSet::new();
        let mut values = Vec::with_capacity(texts.len());
        for (item, text) in texts.iter().enumerate() {
            let value = read(text, &seen).map_err(|message| Refusal { item, message })?;
            seen.insert(value);
            values.push(value);
        }
        Ok(values)
    };
    Rule {
        file_type: FileType::Strings,
        placeholder: placeholder.to_string(),
        words: Vec::new(),
        limits: None,
        read: Box::new(read_all),
        write: Box::new(|values| values.iter().map(T::to_string).collect()),
    }
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not an IP address and a port; write for example 127.0.0.1:5300 or [::1]:5300")
    })
}

fn read_server(text: &str) -> Result<SocketAddr, String> {
    let server = read_address(text)?;
    if server.port() == 0 || server.ip().is_unspecified() || server.ip().is_multicast() {
        return Err(format!("`{text}` is not the address and port of a server"));
    }
    Ok(server)
}

fn read_path(text: &str) -> Result<PathBuf, String> {
    let path = (!text.is_empty()).then(|| PathBuf::from(text));
    path.ok_or_else(|| "an empty path; name a directory".to_string())
}
