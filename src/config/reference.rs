//! The reference of all settings for the documentation, generated from the table.

use std::fmt::Write;

use super::load::{CONFIG_FLAG, CONFIG_MEANING};
use super::setting::variable_of;
use super::{Config, SETTINGS};

/// Returns a Markdown table of all settings with their flags, environment variables, file keys, defaults and help texts.
pub fn settings_reference() -> String {
    let mut table = String::from(
        "| Flag | Environment variable | File key | Default | Meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut row = |flag: &str, value: &str, variable: &str, key: &str, default: &str, meaning: &str| {
        let _ = writeln!(table, "| `--{flag} {value}` | `{variable}` | {key} | {default} | {meaning} |");
    };
    row(CONFIG_FLAG, "FILE", &variable_of(CONFIG_FLAG), "", "", CONFIG_MEANING);
    let defaults = Config::default();
    for setting in SETTINGS.iter() {
        // An unescaped bar would end the cell of the Markdown table.
        let value = setting.placeholder.replace('|', "\\|");
        let key = format!("`{}`", setting.key);
        let default = setting.value_in(&defaults);
        let default = if default.is_empty() { default } else { format!("`{default}`") };
        row(setting.flag, &value, &setting.variable, &key, &default, &setting.meaning);
    }
    table
}
