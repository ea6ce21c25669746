//! A secret: where it is, never what it is.

use std::env;
use std::fs;
use std::path::PathBuf;

use toml::Spanned;

use super::problem::Problem;
use super::section::{Keys, Section};

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// In a file; a line end behind it is not part of it.
    File(PathBuf),
    /// Under this name among what systemd gives to the service (`LoadCredential=`).
    Credential(String),
    /// In a variable of the environment.
    Env(String),
}

const KEYS: Keys = Keys { heading: "a secret", known: &["file", "credential", "env"], later: &[] };

impl Secret {
    /// The secret; else why there is none.
    pub fn read(&self) -> Result<String, String> {
        let from_file = |path: PathBuf| {
            let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        match self {
            Self::File(path) => from_file(path.clone()),
            Self::Credential(name) => match env::var_os("CREDENTIALS_DIRECTORY") {
                Some(folder) => from_file(PathBuf::from(folder).join(name)),
                None => Err(format!("there is no credential `{name}`: the service manager has given none")),
            },
            Self::Env(name) => env::var(name).map_err(|_not_there| format!("the variable {name} is not set")),
        }
    }
}

/// The secret of a key; one that is wrong has been reported.
pub(super) fn secret(section: &Section<'_>, key: &str) -> Option<Secret> {
    const HELP: &str = "write one of { file = 'x' }, { credential = 'x' } and { env = 'X' }";

    let value = section.value(key)?;
    if !value.get_ref().is_table() {
        section.wrong_type(key, value, "a table that says where it is", HELP);
        return None;
    }
    let table = section.section(key, &KEYS)?;
    if KEYS.known.iter().filter(|key| table.has(key)).count() != 1 {
        section.report(value.span(), Problem::error(format!("`{key}` is not in one place")).help(HELP));
        return None;
    }
    let text = |key: &str| table.text(key).map(|text| (*text.get_ref()).to_owned());
    let file = table.path("file").map(Spanned::into_inner).map(Secret::File);
    file.or_else(|| text("credential").map(Secret::Credential)).or_else(|| text("env").map(Secret::Env))
}
