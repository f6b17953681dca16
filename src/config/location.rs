//! Locations of settings in their sources, and the errors that name them.

use std::fmt;
use std::path::PathBuf;

use super::Config;

/// Location of a value in its source, which a user has to edit to correct it: a position in the settings file, the name of
/// an environment variable with its prefix, or the name of a flag without its dashes. The path of the file is shown as the
/// user wrote it; line and column begin at 1, and the column counts characters.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum Location {
    File { path: PathBuf, line: usize, column: usize },
    Variable(String),
    Flag(&'static str),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Location::Variable(name) => f.write_str(name),
            Location::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// An invalid or unknown setting. Its text is a single line with the location of the value (of the key if the setting is
/// unknown), the error and the expected value. The message begins with the key for a value in the file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{location}: {message}")]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct WrongSetting {
    pub location: Location,
    pub message: String,
}

/// All errors of the settings, of which there is at least one, in the order of their sources: the file by line, then the
/// variables, then the flags. `config` has the settings without the invalid values: `check` uses it to find errors in zone
/// files, and it must not be served.
#[derive(Debug)]
#[expect(missing_docs, reason = "the type's document explains the fields")]
pub struct WrongSettings {
    pub errors: Vec<WrongSetting>,
    pub config: Box<Config>,
}

impl std::error::Error for WrongSettings {}

impl fmt::Display for WrongSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}
