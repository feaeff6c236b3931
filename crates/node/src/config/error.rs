//! What can be wrong with a configuration.

use std::{fmt, path::PathBuf};

/// Everything that is wrong with a configuration, ready to be shown to an operator.
///
/// No secret is in it.
#[derive(Debug)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    /// What the process exits with: `EX_USAGE` of sysexits.
    pub const EXIT_CODE: u8 = 64;

    /// An error of at least one problem.
    pub(super) const fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// An error, if there is a problem.
    pub(super) fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self::new(problems))
        }
    }

    /// The problems, each of which is enough to refuse the configuration.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid:")?;
        for problem in &self.problems {
            write!(f, "\n  - {problem}")?;
        }
        f.write_str("\nFor every option and its meaning, try 'pollux --help'.")
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A value is not of the option's kind.
    #[error("{place}: {value} is not valid, expected {expected}")]
    Value {
        /// The flag, the variable, or the file and its key.
        place: String,
        /// The value, or a stand-in if it is a secret.
        value: String,
        /// What would have been valid.
        expected: String,
    },
    /// A flag, a variable or a key that means nothing.
    #[error("{place}: {name} is not an option{hint}")]
    Unknown {
        /// Where it was found.
        place: String,
        /// The name as it was written.
        name: String,
        /// The likely intention, or nothing.
        hint: String,
    },
    /// The command line cannot be understood.
    #[error("command line: {0}")]
    Usage(String),
    /// The file cannot be read or is not TOML.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and where in the file.
        reason: String,
    },
    /// A value is of the right kind, but cannot be used.
    #[error("{option} {reason}{}", place.as_ref().map_or_else(String::new, |at| format!(" ({at})")))]
    Rule {
        /// The option.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
        /// Where the value came from, if it came from outside the program.
        place: Option<String>,
    },
}
