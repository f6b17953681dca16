//! The values of settings as their sources contain them, before they are validated.

use super::Setting;
use super::location::Location;

/// The value of one setting in one source, as one text, or as several for a setting with many values, each with its
/// location. `prefix` begins an error's message: it is the key of a setting in the file, and empty if the location names
/// the setting.
pub(super) struct RawValue {
    pub(super) setting: &'static Setting,
    pub(super) location: Location,
    pub(super) texts: Vec<(String, Location)>,
    pub(super) prefix: String,
}

pub(super) fn split(setting: &Setting, text: &str, location: &Location) -> Vec<(String, Location)> {
    let one = |text: &str| (text.to_string(), location.clone());
    if setting.takes_many() {
        text.split(',').map(|part| one(part.trim())).collect()
    } else {
        vec![one(text)]
    }
}
