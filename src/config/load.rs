//! All sources together: the file, the variables and the flags, each stronger than the one before.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::given::{Given, split};
use super::nearest::nearest;
use super::place::{Place, WrongSetting, WrongSettings};
use super::setting::variable_of;
use super::{Config, SETTINGS, VARIABLE_PREFIX, file};

/// The flag that names the settings file, which is no setting of the server itself.
pub const CONFIG_FLAG: &str = "config";

/// What [`CONFIG_FLAG`] means, for help texts.
pub const CONFIG_MEANING: &str = "Settings file in TOML";

/// The largest settings file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that settings are read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The values of each flag that was given, by its name without dashes; [`CONFIG_FLAG`] among them.
    pub flags: BTreeMap<String, Vec<String>>,
    /// The environment; variables of other programs are passed over.
    pub variables: BTreeMap<OsString, OsString>,
    /// Where the settings file and the directory `zones` are looked for; empty for the working directory.
    pub directory: PathBuf,
}

/// Reads, merges and checks the settings of all sources.
///
/// # Errors
///
/// Everything that is wrong in any source, and listeners that would want the same address.
pub fn load(sources: &Sources) -> Result<Config, WrongSettings> {
    let mut errors = Vec::new();
    let (variables, config_variable) = given_by_variables(&sources.variables, &mut errors);
    let config_flag = sources.flags.get(CONFIG_FLAG).and_then(|values| values.last());
    let file = match (config_flag, config_variable) {
        (Some(path), _) => Some((path.clone(), Place::Flag(CONFIG_FLAG))),
        (None, Some(path)) => Some((path, Place::Variable(variable_of(CONFIG_FLAG)))),
        (None, None) => None,
    };

    let mut given = match file {
        Some((path, named_by)) => given_by_file(&sources.directory, &path, named_by, &mut errors),
        None => Vec::new(),
    };
    given.extend(variables);
    given.extend(given_by_flags(&sources.flags));

    let mut config = Config::default();
    let mut places = BTreeMap::new();
    for Given { setting, place, texts, prefix } in given {
        let values: Vec<&str> = texts.iter().map(|(text, _)| text.as_str()).collect();
        match (setting.set)(&mut config, &values) {
            Ok(()) => {
                places.insert(setting.flag, place);
            }
            Err(refusal) => {
                let place = texts.get(refusal.item).map_or(place, |(_, place)| place.clone());
                errors.push(WrongSetting { place, message: format!("{prefix}{}", refusal.message) });
            }
        }
    }
    if !places.contains_key("zones") && sources.directory.join("zones").is_dir() {
        config.zones = Some(PathBuf::from("zones"));
    }

    errors.extend(shared_addresses(&config, &places));
    errors.sort_by_key(|error| match &error.place {
        Place::File { line, column, .. } => (0, *line, *column),
        Place::Variable(_) => (1, 0, 0),
        Place::Flag(_) => (2, 0, 0),
    });
    if errors.is_empty() { Ok(config) } else { Err(WrongSettings { errors, config: Box::new(config) }) }
}

/// What the variables give, and the settings file they name.
fn given_by_variables(
    variables: &BTreeMap<OsString, OsString>,
    errors: &mut Vec<WrongSetting>,
) -> (Vec<Given>, Option<String>) {
    let mut given = Vec::new();
    let mut config_file = None;
    for (name, value) in variables {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(VARIABLE_PREFIX) || value.is_empty() {
            continue;
        }
        let place = Place::Variable(name.clone());
        let Some(value) = value.to_str() else {
            errors.push(WrongSetting { place, message: "its value is not UTF-8 text".to_string() });
            continue;
        };
        if name == variable_of(CONFIG_FLAG) {
            config_file = Some(value.to_string());
        } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) {
            let texts = split(setting, value, &place);
            given.push(Given { setting, place, texts, prefix: String::new() });
        } else if !is_service_variable(&name, value) {
            errors.push(WrongSetting { place, message: unknown_variable(&name) });
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

/// Whether Kubernetes sets this variable in every pod beside a Service whose name starts with `cloudmap-dns`, as it
/// does for all Services (`{SERVICE}_SERVICE_HOST`, `{SERVICE}_PORT_53_UDP_ADDR` and so on). It is no setting then.
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

fn given_by_flags(flags: &BTreeMap<String, Vec<String>>) -> Vec<Given> {
    let given = SETTINGS.iter().filter_map(|setting| {
        let values = flags.get(setting.flag)?;
        let place = Place::Flag(setting.flag);
        let texts = values.iter().flat_map(|value| split(setting, value, &place)).collect();
        Some(Given { setting, place, texts, prefix: String::new() })
    });
    given.collect()
}

fn given_by_file(
    directory: &Path,
    path: &str,
    named_by: Place,
    errors: &mut Vec<WrongSetting>,
) -> Vec<Given> {
    match read_file(&directory.join(path)) {
        Ok(text) => file::given(Path::new(path), &text, errors),
        Err(reason) => {
            errors.push(WrongSetting { place: named_by, message: format!("`{path}` {reason}") });
            Vec::new()
        }
    }
}

/// The file's text, or why it cannot be used.
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

/// Listeners that would take a TCP address from each other. Port 0 never does.
fn shared_addresses(config: &Config, places: &BTreeMap<&'static str, Place>) -> Vec<WrongSetting> {
    let listeners: Vec<(&'static str, SocketAddr)> = (config.dns.iter().map(|address| ("dns", *address)))
        .chain([("api", config.api), ("admin", config.admin)])
        .collect();
    let mut errors = Vec::new();
    for (index, (flag, address)) in listeners.iter().enumerate() {
        for (other_flag, other) in &listeners[index + 1..] {
            if flag == other_flag || !overlap(*address, *other) {
                continue;
            }
            // The defaults differ, so at least one of the two was given.
            let pairs = [(other_flag, other, flag, address), (flag, address, other_flag, other)];
            let given = pairs.into_iter().find_map(|pair| Some((places.get(pair.0)?, pair)));
            if let Some((place, (flag, address, other_flag, other))) = given {
                let message =
                    format!("{flag} {address} overlaps {other_flag} {other}; give each its own port");
                errors.push(WrongSetting { place: place.clone(), message });
            }
        }
    }
    errors
}

/// Whether two listeners cannot both be had: the same port, on the same address or on all addresses of the family.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_family = one.is_ipv4() == other.is_ipv4();
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_family && same_host
}
