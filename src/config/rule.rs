//! The rules of settings: parsing and validation of a value's texts, and the conversion of a value back to text.
//!
//! The table in [`super`] names a rule for each setting. Flags, variables and the file use one rule, so that a value has
//! one meaning in all of them. Error messages name the expected value.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::CookieSecret;
use crate::registry::health::PolicyError;

const SERVERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileType {
    String,
    Integer,
    Boolean,
    /// An array of strings, or a single string whose parts are separated by commas.
    Strings,
}

/// The error for an invalid value, without the location and the key, which the caller adds. `item` is the index of the
/// invalid text among those of the value, and 0 if the error concerns all of them.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct ValueError {
    pub(super) item: usize,
    pub(super) message: String,
}

type Read<T> = Box<dyn Fn(&[&str]) -> Result<T, ValueError> + Send + Sync>;

/// Converts a value to texts that [`Read`] parses to an equal value.
type Write<T> = Box<dyn Fn(&T) -> Vec<String> + Send + Sync>;

/// The rule of a setting with values of type `T`: parsing, validation, and conversion back to text.
/// [`Setting`](super::Setting) documents the shared fields.
pub(super) struct Rule<T> {
    pub(super) file_type: FileType,
    pub(super) placeholder: String,
    pub(super) words: Vec<&'static str>,
    pub(super) limits: Option<String>,
    pub(super) read: Read<T>,
    pub(super) write: Write<T>,
}

/// An enumeration, each of whose values is written as one word.
pub(super) trait Choice: Copy + Eq + Send + Sync + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: 'static> Rule<T> {
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
                [text] => read(text).map_err(|message| ValueError { item: 0, message }),
                _ => {
                    Err(ValueError { item: 0, message: format!("{} values, but it takes one", texts.len()) })
                }
            }),
            write: Box::new(move |value| write(value).into_iter().collect()),
        }
    }
}

pub(super) fn count(limits: RangeInclusive<u64>, what: &'static str) -> Rule<usize> {
    let allowed = format!("{} to {}", limits.start(), limits.end());
    Rule { placeholder: "COUNT".to_string(), limits: Some(allowed), ..number(limits, what) }
}

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

/// A policy of [`crate::registry::health`], which has its own text form.
pub(super) fn policy<T>(placeholder: &str) -> Rule<T>
where
    T: FromStr<Err = PolicyError> + Display + 'static,
{
    let read = |text: &str| text.parse().map_err(|valid: PolicyError| format!("`{text}` is not {valid}"));
    Rule::one(placeholder, FileType::String, read, |value: &T| Some(value.to_string()))
}

pub(super) fn boolean() -> Rule<bool> {
    let read = |text: &str| text.parse().map_err(|_| format!("`{text}` is neither true nor false"));
    let rule = Rule::one("true|false", FileType::Boolean, read, |value: &bool| Some(value.to_string()));
    Rule { words: vec!["true", "false"], ..rule }
}

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

pub(super) fn optional_server() -> Rule<Option<SocketAddr>> {
    let read = |text: &str| read_server(text).map(Some);
    let write = |server: &Option<SocketAddr>| server.map(|server| server.to_string());
    Rule::one("ADDR:PORT", FileType::String, read, write)
}

/// The name of a Kubernetes Service, which is a DNS label after RFC 1035 §2.3.1 in lower case.
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

/// The address and port of a listener. Port 0 lets the system choose a free port.
pub(super) fn address() -> Rule<SocketAddr> {
    Rule::one("ADDR:PORT", FileType::String, read_address, |address| Some(address.to_string()))
}

/// Addresses of one or more listeners. Only port 0 may occur twice.
pub(super) fn addresses() -> Rule<Vec<SocketAddr>> {
    address_list(1)
}

pub(super) fn optional_addresses() -> Rule<Vec<SocketAddr>> {
    address_list(0)
}

fn address_list(length_min: usize) -> Rule<Vec<SocketAddr>> {
    list("ADDR:PORT", length_min, |text, seen| {
        let address = read_address(text)?;
        if address.port() != 0 && seen.contains(&address) {
            return Err(format!("`{text}` is given twice"));
        }
        Ok(address)
    })
}

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

/// Any number of secrets for DNS cookies, without duplicates. Error messages do not repeat a secret.
pub(super) fn cookie_secrets() -> Rule<Vec<CookieSecret>> {
    list("HEX", 0, |text, seen| {
        let digits = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Option<Vec<u8>> = digits.0.iter().map(byte).collect();
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let secret = bytes.filter(|_| is_hex && digits.1.is_empty()).and_then(|bytes| bytes.try_into().ok());
        let secret = CookieSecret(secret.ok_or("a secret is exactly 32 hexadecimal digits (16 bytes)")?);
        if seen.contains(&secret) {
            return Err("a secret is given twice".to_string());
        }
        Ok(secret)
    })
}

/// A name for the server, which any client may query, or none.
pub(super) fn optional_server_id() -> Rule<Option<String>> {
    let read = |text: &str| {
        let right = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let id = right.then(|| Some(text.to_string()));
        id.ok_or_else(|| format!("`{text}` is not a server's id; use 1 to 64 visible ASCII characters"))
    };
    Rule::one("TEXT", FileType::String, read, |id: &Option<String>| id.clone())
}

/// Up to [`SERVERS_MAX`] addresses and ports of other servers, without duplicates.
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

/// Any number of networks, without duplicates. An address without a prefix length is the network of that single host.
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

pub(super) fn path() -> Rule<PathBuf> {
    Rule::one("DIR", FileType::String, read_path, |path| Some(path.display().to_string()))
}

pub(super) fn optional_path() -> Rule<Option<PathBuf>> {
    let write = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    Rule::one("DIR", FileType::String, |text| read_path(text).map(Some), write)
}

pub(super) fn optional_file() -> Rule<Option<PathBuf>> {
    let read = |text: &str| match text {
        "" => Err("an empty path; name a file".to_string()),
        text => Ok(Some(PathBuf::from(text))),
    };
    let write = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    Rule::one("FILE", FileType::String, read, write)
}

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

/// The name of a label of Prometheus.
pub(super) fn label() -> Rule<String> {
    let read = |text: &str| {
        let mut bytes = text.bytes();
        let is_label = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        is_label.then(|| text.to_string()).ok_or_else(|| {
            format!("`{text}` is no label of Prometheus: letters, digits and underscores, no digit first")
        })
    };
    Rule::one("LABEL", FileType::String, read, |value: &String| Some(value.clone()))
}

pub(super) fn account() -> Rule<String> {
    text("DIGITS", |text| {
        let right = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        right.then_some(()).ok_or_else(|| format!("`{text}` is not an account id of exactly 12 digits"))
    })
}

/// The name of an AWS region. It becomes part of ids, ARNs and shell commands, so only the characters of AWS's own regions
/// are accepted.
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

/// Directives of tracing's `EnvFilter`. A directive without `=` has to be a level, because `EnvFilter` would take a misspelt
/// level for the name of a target, and log nothing.
pub(super) fn log_directives() -> Rule<String> {
    text("DIRECTIVES", |text| {
        let expected = "use off, error, warn, info, debug or trace, or target=level, separated by commas";
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        let wrong = text.split(',').map(str::trim).find(|directive| {
            let is_level = levels.iter().any(|level| level.eq_ignore_ascii_case(directive));
            !is_level && !directive.contains('=')
        });
        // Commas in the fields of a span do not separate directives, so texts with such fields are left to `EnvFilter`.
        if let Some(wrong) = wrong.filter(|_| !text.contains('[')) {
            return Err(format!("`{wrong}` is not a log level; {expected}"));
        }
        let parsed = EnvFilter::builder().parse(text);
        parsed.map(|_| ()).map_err(|_| format!("`{text}` is not a log filter; {expected}"))
    })
}

fn text(
    placeholder: &str,
    check: impl Fn(&str) -> Result<(), String> + Send + Sync + 'static,
) -> Rule<String> {
    let read = move |text: &str| check(text).map(|()| text.to_string());
    Rule::one(placeholder, FileType::String, read, |text: &String| Some(text.clone()))
}

/// A rule for a list with at least `min` items. `read` parses one item, and gets the set of the items before it.
fn list<T>(
    placeholder: &str,
    min: usize,
    read: impl Fn(&str, &HashSet<T>) -> Result<T, String> + Send + Sync + 'static,
) -> Rule<Vec<T>>
where
    T: Copy + Eq + std::hash::Hash + Display + 'static,
{
    let read_all = move |texts: &[&str]| {
        if texts.len() < min {
            return Err(ValueError { item: 0, message: "no value, but it needs at least one".to_string() });
        }
        let mut seen = HashSet::new();
        let mut values = Vec::with_capacity(texts.len());
        for (item, text) in texts.iter().enumerate() {
            let value = read(text, &seen).map_err(|message| ValueError { item, message })?;
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
