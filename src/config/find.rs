//! Which `portolan.toml` is meant.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where it is looked for when nobody names it.
const PLACES: [&str; 2] = ["/etc/portolan/portolan.toml", "./config/portolan.toml"];

/// The variable that names it.
const VARIABLE: &str = "PORTOLAN_CONFIG";

/// Nobody named a configuration and there is none in the usual places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no configuration: neither --config nor ${VARIABLE} is given, and there is no {}; name one of them",
    .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no "))]
pub struct ConfigNotFound(Vec<PathBuf>);

/// The configuration: the one of `--config`, else of `$PORTOLAN_CONFIG`, else the first that there is of
/// `/etc/portolan/portolan.toml` and `./config/portolan.toml`. One that was named need not be there.
pub fn find_config(flag: Option<&Path>) -> Result<PathBuf, ConfigNotFound> {
    find(flag, std::env::var_os(VARIABLE), &PLACES.map(PathBuf::from))
}

fn find(flag: Option<&Path>, variable: Option<OsString>, places: &[PathBuf]) -> Result<PathBuf, ConfigNotFound> {
    let named = flag.map(Path::to_path_buf).or_else(|| variable.filter(|name| !name.is_empty()).map(PathBuf::from));
    // What cannot be looked at is taken, so that reading it says why.
    let there = |path: &&PathBuf| path.try_exists().unwrap_or(true);
    named.or_else(|| places.iter().find(there).cloned()).ok_or_else(|| ConfigNotFound(places.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_then_the_variable_then_the_first_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("a"), folder.path().join("b")];
        std::fs::write(&places[1], "").unwrap();

        assert_eq!(find(Some(Path::new("x")), Some("y".into()), &places), Ok("x".into()));
        assert_eq!(find(None, Some("y".into()), &places), Ok("y".into()));
        assert_eq!(find(None, Some("".into()), &places), Ok(places[1].clone()));
    }

    #[test]
    fn the_error_says_where_it_was_looked_for() {
        assert_eq!(
            find(None, None, &["/nowhere/a".into(), "/nowhere/b".into()]).unwrap_err().to_string(),
            "no configuration: neither --config nor $PORTOLAN_CONFIG is given, and there is no /nowhere/a and no \
             /nowhere/b; name one of them"
        );
    }
}
