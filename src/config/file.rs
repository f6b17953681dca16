//! The settings file in TOML. Each value keeps its line and column for error messages.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::location::{Location, WrongSetting};
use super::nearest::nearest;
use super::raw_value::{RawValue, split};
use super::rule::FileType;
use super::{SETTINGS, Setting};

/// Reads the values in the text of a settings file. Syntax errors, unknown keys and values of the wrong type are added to
/// `errors`; the caller checks the values against the rules of their settings.
pub(super) fn read(path: &Path, text: &str, errors: &mut Vec<WrongSetting>) -> Vec<RawValue> {
    let (root, faults) = DeTable::parse_recoverable(text);
    let mut reader = Reader { path, text, errors, given: Vec::new() };
    if faults.is_empty() {
        reader.table("", root.get_ref());
    } else {
        // Values that the parser recovered from malformed TOML are ignored, because they may differ from what the user meant.
        for fault in faults {
            let message = fault.message().lines().collect::<Vec<_>>().join(", ");
            reader.refuse(fault.span().unwrap_or(0..0), message);
        }
    }
    reader.given
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    errors: &'a mut Vec<WrongSetting>,
    given: Vec<RawValue>,
}

impl Reader<'_> {
    /// Reads a table. `prefix` is its key with a trailing dot, or empty for the root table.
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) {
                self.setting(setting, value);
            } else if let DeValue::Table(inner) = value.get_ref()
                && (is_table(&key) || !inner.is_empty())
            {
                self.table(&format!("{key}."), inner);
            } else if is_table(&key) {
                let keys: Vec<&str> = keys_of(&key).collect();
                let message =
                    format!("{key}: {}, but it is a table with {}", described(value), keys.join(", "));
                self.refuse(value.span(), message);
            } else {
                self.refuse(name.span(), unknown_key(&key));
            }
        }
    }

    fn setting(&mut self, setting: &'static Setting, value: &Spanned<DeValue<'_>>) {
        let location = self.location(value.span());
        let texts = match (setting.file_type, value.get_ref()) {
            (FileType::String | FileType::Strings, DeValue::String(text)) => split(setting, text, &location),
            (FileType::Integer, DeValue::Integer(number)) => vec![(decimal(number), location.clone())],
            (FileType::Boolean, DeValue::Boolean(flag)) => vec![(flag.to_string(), location.clone())],
            (FileType::Strings, DeValue::Array(items)) => {
                let mut texts = Vec::with_capacity(items.len());
                for item in items.iter() {
                    match item.get_ref().as_str() {
                        Some(text) => texts.push((text.to_string(), self.location(item.span()))),
                        None => {
                            let message =
                                format!("{}: {}, but each item is a string", setting.key, described(item));
                            return self.refuse(item.span(), message);
                        }
                    }
                }
                texts
            }
            (expected, _) => {
                let expected = match expected {
                    FileType::String => "a string in quotes",
                    FileType::Integer => "an integer without quotes",
                    FileType::Boolean => "true or false without quotes",
                    FileType::Strings => "an array of strings, or one string",
                };
                let message = format!("{}: {}, but it takes {expected}", setting.key, described(value));
                return self.refuse(value.span(), message);
            }
        };
        self.given.push(RawValue { setting, location, texts, prefix: format!("{}: ", setting.key) });
    }

    fn refuse(&mut self, span: Range<usize>, message: String) {
        let location = self.location(span);
        self.errors.push(WrongSetting { location, message });
    }

    fn location(&self, span: Range<usize>) -> Location {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Location::File { path: self.path.to_path_buf(), line, column }
    }
}

fn keys_of(table: &str) -> impl Iterator<Item = &'static str> {
    let keys = SETTINGS.iter().map(|setting| setting.key);
    keys.filter_map(move |key| key.strip_prefix(table)?.strip_prefix('.'))
}

fn is_table(key: &str) -> bool {
    keys_of(key).next().is_some()
}

fn unknown_key(key: &str) -> String {
    // A user may write the flag of a setting in place of its key, or underscores in place of hyphens.
    let written = key.replace('_', "-");
    let known =
        SETTINGS.iter().flat_map(|setting| [setting.key, setting.flag].map(|name| (name, setting.key)));
    let closest = nearest(&written, known.map(|(name, key)| (name.to_string(), key))).unwrap_or_default();
    format!("{key}: no setting has this key; the closest is {closest}")
}

fn described(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Converts an integer of any base to decimal digits. A number that is too large for every setting is returned unchanged.
fn decimal(number: &DeInteger<'_>) -> String {
    let value = i128::from_str_radix(number.as_str(), number.radix());
    value.map_or_else(|_| number.to_string(), |value| value.to_string())
}
