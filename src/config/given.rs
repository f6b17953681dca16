//! What a source gives for a setting, before it is checked.

use super::Setting;
use super::place::Place;

/// A value that a source gives for a setting.
pub(super) struct Given {
    pub(super) setting: &'static Setting,
    /// Where it stands as a whole.
    pub(super) place: Place,
    /// Its texts, each with its own place.
    pub(super) texts: Vec<(String, Place)>,
    /// What starts an error's message: the key, where the place does not say it.
    pub(super) prefix: String,
}

/// The texts of one string: several with commas between them where a setting takes many.
pub(super) fn split(setting: &Setting, text: &str, place: &Place) -> Vec<(String, Place)> {
    let one = |text: &str| (text.to_string(), place.clone());
    if setting.takes_many() {
        text.split(',').map(|part| one(part.trim())).collect()
    } else {
        vec![one(text)]
    }
}
