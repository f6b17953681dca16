//! Merges the sources of settings: the file, the variables, which override it, and the flags, which override both.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::location::{Location, WrongSetting, WrongSettings};
use super::nearest::nearest;
use super::raw_value::{RawValue, split};
use super::setting::variable_of;
use super::{Config, SETTINGS, VARIABLE_PREFIX, file};

/// The flag that names the settings file. It is not a setting, because the file cannot set it.
pub const CONFIG_FLAG: &str = "config";

/// Help text of the flag [`CONFIG_FLAG`].
pub const CONFIG_MEANING: &str = "Settings file in TOML";

/// Largest settings file that is accepted, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The sources of settings: the values of each given flag by its name without dashes, including [`CONFIG_FLAG`]; the
/// environment, of which only variables that begin with [`VARIABLE_PREFIX`] are read; and the directory in which the
/// settings file and the directory `zones` are searched, which is empty for the working directory.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Sources {
    pub flags: BTreeMap<String, Vec<String>>,
    pub variables: BTreeMap<OsString, OsString>,
    pub directory: PathBuf,
}

/// Reads, validates and merges the settings of all sources.
///
/// # Errors
///
/// All errors of all sources, and listeners whose addresses overlap.
pub fn load(sources: &Sources) -> Result<Config, WrongSettings> {
    let mut errors = Vec::new();
    let (variables, config_variable) = from_variables(&sources.variables, &mut errors);
    let config_flag = sources.flags.get(CONFIG_FLAG).and_then(|values| values.last());
    let file = match (config_flag, config_variable) {
        (Some(path), _) => Some((path.clone(), Location::Flag(CONFIG_FLAG))),
        (None, Some(path)) => Some((path, Location::Variable(variable_of(CONFIG_FLAG)))),
        (None, None) => None,
    };

    let mut given = match file {
        Some((path, named_by)) => from_file(&sources.directory, &path, named_by, &mut errors),
        None => Vec::new(),
    };
    given.extend(variables);
    given.extend(from_flags(&sources.flags));

    let mut config = Config::default();
    let mut locations = BTreeMap::new();
    for RawValue { setting, location, texts, prefix } in given {
        let values: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
        match (setting.set)(&mut config, &values) {
            Ok(()) => {
                locations.insert(setting.flag, location);
            }
            Err(error) => {
                let location = texts.get(error.item).map_or(location, |(_, location)| location.clone());
                errors.push(WrongSetting { location, message: format!("{prefix}{}", error.message) });
            }
        }
    }
    if !locations.contains_key("zones") && sources.directory.join("zones").is_dir() {
        config.zones = Some(PathBuf::from("zones"));
    }

    errors.extend(shared_addresses(&config, &locations));
    errors.sort_by_key(|error| match &error.location {
        Location::File { line, column, .. } => (0, *line, *column),
        Location::Variable(_) => (1, 0, 0),
        Location::Flag(_) => (2, 0, 0),
    });
    if errors.is_empty() { Ok(config) } else { Err(WrongSettings { errors, config: Box::new(config) }) }
}

fn from_variables(
    variables: &BTreeMap<OsString, OsString>,
    errors: &mut Vec<WrongSetting>,
) -> (Vec<RawValue>, Option<String>) {
    let mut given = Vec::new();
    let mut config_file = None;
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(VARIABLE_PREFIX) || value.is_empty() {
            continue;
        }
        let location = Location::Variable(name.clone());
        let Some(value) = value.to_str() else {
            errors.push(WrongSetting { location, message: "its value is not UTF-8 text".to_string() });
            continue;
        };
        if name == variable_of(CONFIG_FLAG) {
            config_file = Some(value.to_string());
        } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) {
            let texts = split(setting, value, &location);
            given.push(RawValue { setting, location, texts, prefix: String::new() });
        } else if !is_service_variable(&name, value) {
            errors.push(WrongSetting { location, message: unknown_variable(&name) });
        }
    }
    (given, config_file)
}

fn unknown_variable(name: &str) -> String {
    let settings = SETTINGS.iter().map(|setting| setting.variable.clone());
    let known = settings.chain([variable_of(CONFIG_FLAG)]).map(|variable| (variable.clone(), variable));
    let closest = nearest(name, known).unwrap_or_default();
    format!("no setting has this variable; the closest is {closest}")
}

/// Returns true for a variable that Kubernetes sets in every pod for a Service whose name starts with `cloudmap-dns`, such
/// as `{SERVICE}_SERVICE_HOST` and `{SERVICE}_PORT_53_UDP_ADDR`. Such a variable is not a misspelt setting.
fn is_service_variable(name: &str, value: &str) -> bool {
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_of_port = |rest: &str| {
        let mut parts = rest.split('_');
        parts.next().is_some_and(is_port)
            && parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol))
            && parts.next().is_none_or(|what| ["PROTO", "PORT", "ADDR"].contains(&what))
            && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || (name.contains("_SERVICE_PORT_") && is_port(value))
        || (name.ends_with("_PORT") && is_url)
        || name.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_of_port(rest))
}

fn from_flags(flags: &BTreeMap<String, Vec<String>>) -> Vec<RawValue> {
    let given = SETTINGS.iter().filter_map(|setting| {
        let values = flags.get(setting.flag)?;
        let location = Location::Flag(setting.flag);
        let texts = values.iter().flat_map(|value| split(setting, value, &location)).collect();
        Some(RawValue { setting, location, texts, prefix: String::new() })
    });
    given.collect()
}

fn from_file(
    directory: &Path,
    path: &str,
    named_by: Location,
    errors: &mut Vec<WrongSetting>,
) -> Vec<RawValue> {
    match read_file(&directory.join(path)) {
        Ok(text) => file::read(Path::new(path), &text, errors),
        Err(reason) => {
            errors.push(WrongSetting { location: named_by, message: format!("`{path}` {reason}") });
            Vec::new()
        }
    }
}

/// Reads the settings file. The error completes a sentence that begins with the path.
fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}; name a readable TOML file"))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is longer than {FILE_BYTES_MAX} bytes, too long for settings"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        format!("is not UTF-8 text at line {line}")
    })
}

/// Returns errors for listeners whose TCP addresses overlap. Port 0 overlaps nothing.
fn shared_addresses(config: &Config, locations: &BTreeMap<&'static str, Location>) -> Vec<WrongSetting> {
    let listeners: Vec<(&'static str, SocketAddr)> = (config.dns.iter().map(|address| ("dns", *address)))
        .chain([("api", config.api), ("admin", config.admin)])
        .collect();
    let mut errors = Vec::new();
    for (index, (flag, address)) in listeners.iter().enumerate() {
        for (other_flag, other) in &listeners[index + 1..] {
            if flag == other_flag || !overlap(*address, *other) {
                continue;
            }
            // The default addresses do not overlap, so at least one of them comes from a source, which the error names.
            let pairs = [(other_flag, other, flag, address), (flag, address, other_flag, other)];
            let given = pairs.into_iter().find_map(|pair| Some((locations.get(pair.0)?, pair)));
            if let Some((location, (flag, address, other_flag, other))) = given {
                let message =
                    format!("{flag} {address} overlaps {other_flag} {other}; give each its own port");
                errors.push(WrongSetting { location: location.clone(), message });
            }
        }
    }
    errors
}

/// Returns true if two listeners cannot be bound together, because they have one port and one address, or because one of
/// them has the wildcard address of the other's family.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_family && same_host
}
