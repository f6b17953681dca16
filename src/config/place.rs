//! Where a setting came from, and the errors that name it.

use std::fmt;
use std::path::PathBuf;

use super::Config;

/// The place of a value: what a user must edit.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// A place in the settings file; line and column count from 1, the column in characters.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// A flag, by its name without dashes.
    Flag(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Place::Variable(name) => f.write_str(name),
            Place::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// One setting that is wrong or unknown. Its text is one line: the place, what is wrong, and what would be right.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct WrongSetting {
    /// Where it stands.
    pub place: Place,
    /// What is wrong and what would be right.
    pub message: String,
}

/// Everything that is wrong with the settings, at least one error.
#[derive(Debug)]
pub struct WrongSettings {
    /// The errors: those of the file by line, then the variables', then the flags'.
    pub errors: Vec<WrongSetting>,
    /// The settings without the wrong values: fit to look for further errors with, not to be served.
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
