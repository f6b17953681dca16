//! The type of a row of the settings table, and the macro that generates [`Config`] and the rows from one definition.
//!
//! The table itself is in [`super`]. Flags, variables, the file, help texts and the reference all use its rows, so that they
//! cannot disagree.

use super::Config;
use super::rule::{FileType, Rule, ValueError};

/// Prefix of all environment variables of this program.
pub const VARIABLE_PREFIX: &str = "CLOUDMAP_DNS_";

type Set = Box<dyn Fn(&mut Config, &[&str]) -> Result<(), ValueError> + Send + Sync>;

type Get = Box<dyn Fn(&Config) -> Vec<String> + Send + Sync>;

/// A setting: its names in each source, its rule and its help text.
///
/// | field | example or content |
/// | --- | --- |
/// | `flag` | `log-level`, without dashes |
/// | `variable` | `CLOUDMAP_DNS_LOG_LEVEL` |
/// | `key` | `log.level`: the key in the settings file with its table |
/// | `placeholder` | `ADDR:PORT` or `text\|json`: the value in help texts |
/// | `heading` | heading above the setting's group in help texts |
/// | `meaning` | help text with unit and limits, as one line without a period at its end |
/// | `words` | accepted words of a setting with a choice; empty for other settings |
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct Setting {
    pub flag: &'static str,
    pub variable: String,
    pub key: &'static str,
    pub placeholder: String,
    pub heading: &'static str,
    pub meaning: String,
    pub words: Vec<&'static str>,
    pub(super) file_type: FileType,
    pub(super) set: Set,
    pub(super) get: Get,
}

/// The textual parts of a row, from which [`Setting::new`] derives the variable and the help text: `doc` are the lines of
/// the field's documentation.
pub(super) struct Row {
    pub(super) flag: &'static str,
    pub(super) key: &'static str,
    pub(super) heading: &'static str,
    pub(super) doc: &'static [&'static str],
}

impl Setting {
    /// Makes a row of the table. `field_mut` and `field` access the setting's value in a configuration.
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

    /// Returns true for a setting with any number of values, by a repeated flag, commas in a variable, or an array in the
    /// file.
    pub fn takes_many(&self) -> bool {
        self.file_type == FileType::Strings
    }

    /// Returns the value in `config` in the form of the command line; empty for an absent value.
    pub fn value_in(&self, config: &Config) -> String {
        (self.get)(config).join(",")
    }
}

pub(super) fn variable_of(flag: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

/// Defines [`Config`], its defaults and [`SETTINGS`](super::SETTINGS) from one table. The documentation of a field is also
/// the help text of its setting.
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
        /// The validated values of all settings. `Config::default()` has the documented defaults.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Config {
            $($( $(#[doc = $doc])+ pub $field: $type, )+)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($( $field: $default, )+)+ }
            }
        }

        /// All settings in the order of the documentation.
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
