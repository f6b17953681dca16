//! One row of the settings table, and the macro that makes [`Config`] and the rows from the same text.
//!
//! The table itself is in [`super`]. Everything that speaks of settings (the flags, the variables, the file, the help,
//! the reference) reads these rows, so none of it can differ from the rest.

use super::Config;
use super::rule::{FileType, Refusal, Rule};

/// What every environment variable of this program starts with.
pub const VARIABLE_PREFIX: &str = "CLOUDMAP_DNS_";

/// Puts the texts given for a setting into a configuration.
type Set = Box<dyn Fn(&mut Config, &[&str]) -> Result<(), Refusal> + Send + Sync>;

/// The texts that would put a setting where it is.
type Get = Box<dyn Fn(&Config) -> Vec<String> + Send + Sync>;

/// A setting: its names in every source, what it accepts and what it means.
pub struct Setting {
    /// The flag without its dashes, such as `log-level`.
    pub flag: &'static str,
    /// The environment variable, such as `CLOUDMAP_DNS_LOG_LEVEL`.
    pub variable: String,
    /// The key in the settings file, with the table it is in, such as `log.level`.
    pub key: &'static str,
    /// What stands for the value in help texts, such as `ADDR:PORT` or `text|json`.
    pub placeholder: String,
    /// The group it is listed under in help texts.
    pub heading: &'static str,
    /// What it means, with its unit and limits: one line of plain text.
    pub meaning: String,
    /// The only words it accepts, if it is a choice.
    pub words: Vec<&'static str>,
    pub(super) file_type: FileType,
    pub(super) set: Set,
    pub(super) get: Get,
}

/// The parts of a row that are plain text.
pub(super) struct Row {
    pub(super) flag: &'static str,
    pub(super) key: &'static str,
    pub(super) heading: &'static str,
    /// The lines of the field's doc comment.
    pub(super) doc: &'static [&'static str],
}

impl Setting {
    /// A row of the table. `field_mut` and `field` find the value in a configuration.
    pub(super) fn new<T: 'static>(
        row: Row,
        rule: Rule<T>,
        field_mut: fn(&mut Config) -> &mut T,
        field: fn(&Config) -> &T,
    ) -> Setting {
        let doc = row.doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
        let meaning = match rule.limits {
            Some(limits) => format!("{} ({limits})", doc.trim_end_matches('.')),
            None => doc.trim_end_matches('.').to_string(),
        };
        let (read, write) = (rule.read, rule.write);
        Setting {
            flag: row.flag,
            variable: variable_of(row.flag),
            key: row.key,
            placeholder: rule.placeholder,
            heading: row.heading,
            meaning,
            words: rule.words,
            file_type: rule.file_type,
            set: Box::new(move |config, texts| read(texts).map(|value| *field_mut(config) = value)),
            get: Box::new(move |config| write(field(config))),
        }
    }

    /// Whether it takes any number of values: a repeated flag, commas in a variable, an array in the file.
    pub fn takes_many(&self) -> bool {
        self.file_type == FileType::Strings
    }

    /// The value in `config`, as it would be given on the command line; empty when there is none.
    pub fn value_in(&self, config: &Config) -> String {
        (self.get)(config).join(",")
    }
}

/// The environment variable that belongs to a flag.
pub(super) fn variable_of(flag: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Defines [`Config`], its defaults and [`SETTINGS`](super::SETTINGS) from one table.
macro_rules! settings {
    ($(
        $heading:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr,
                    $flag:literal, $key:literal, $rule:expr;
            )+
        }
    )+) => {
        /// Every setting of the server, checked. `Config::default()` holds the documented defaults.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($( $field: $default, )+)+ }
            }
        }

        /// Every setting, in the order in which they are documented.
        pub static SETTINGS: std::sync::LazyLock<Vec<Setting>> = std::sync::LazyLock::new(|| {
            vec![$($(
                Setting::new(
                    setting::Row {
                        flag: $flag,
                        key: $key,
                        heading: $heading,
                        doc: &[$($doc),+],
                    },
                    $rule,
                    |config| &mut config.$field,
                    |config| &config.$field,
                ),
            )+)+]
        });
    };
}
pub(super) use settings;
