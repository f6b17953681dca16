//! The reference of all settings, made from the table.

use std::fmt::Write;

use super::load::{CONFIG_FLAG, CONFIG_MEANING};
use super::setting::variable_of;
use super::{Config, SETTINGS};

/// A Markdown table of every setting: flag, environment variable, file key, default and meaning.
pub fn settings_reference() -> String {
    let mut table = String::from(
        "| Flag | Environment variable | File key | Default | Meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    // Writing to a string cannot fail.
    let mut row = |flag: &str, value: &str, variable: &str, key: &str, default: &str, meaning: &str| {
        let _ = writeln!(table, "| `--{flag} {value}` | `{variable}` | {key} | {default} | {meaning} |");
    };
    row(CONFIG_FLAG, "FILE", &variable_of(CONFIG_FLAG), "", "", CONFIG_MEANING);
    let defaults = Config::default();
    for setting in SETTINGS.iter() {
        // A bare bar would end the cell.
        let value = setting.placeholder.replace('|', "\\|");
        let key = format!("`{}`", setting.key);
        let default = setting.value_in(&defaults);
        let default = if default.is_empty() { default } else { format!("`{default}`") };
        row(setting.flag, &value, &setting.variable, &key, &default, &setting.meaning);
    }
    table
}
