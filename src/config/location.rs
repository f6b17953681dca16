//! Locations of settings in their sources, and the errors that name them.

use std::fmt;
use std::path::PathBuf;

use super::Config;

/// The location of a value in its source, which a user has to edit to correct it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// A position in the settings file, whose path is shown as the user wrote it. Line and column begin at 1, and the column
    /// counts characters.
    #[expect(missing_docs, reason = "the variant's documentation covers its fields")]
    File { path: PathBuf, line: usize, column: usize },
    /// The name of an environment variable, including its prefix.
    Variable(String),
    /// The name of a flag without its dashes.
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

/// An invalid or unknown setting. Its text is a single line with the location, the error and the expected value.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{location}: {message}")]
pub struct WrongSetting {
    /// The location of the value, or of the key if the setting is unknown.
    pub location: Location,
    /// The error and the expected value, beginning with the key for a value in the file.
    pub message: String,
}

/// All errors of the settings, of which there is at least one.
#[derive(Debug)]
pub struct WrongSettings {
    /// The errors in the order of their sources: the file by line, then the variables, then the flags.
    pub errors: Vec<WrongSetting>,
    /// The settings without the invalid values. `check` uses them to find errors in zone files; they must not be served.
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
