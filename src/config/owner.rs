//! Users and groups, by name or number, as the system's name service knows them.

use nix::unistd::{Group, User};

/// A user or group that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownOwner {
    /// No such name.
    #[error("there is no {kind} `{name}` on this machine")]
    NoSuch {
        /// `user` or `group`.
        kind: &'static str,
        /// As it was asked for.
        name: String,
    },
    /// The name service failed.
    #[error("the {kind} `{name}` cannot be looked up: {error}")]
    Lookup {
        /// `user` or `group`.
        kind: &'static str,
        /// As it was asked for.
        name: String,
        /// Its error.
        error: nix::Error,
    },
}

/// The number of a user; a number is itself, whether anybody bears it or not.
pub fn resolve_user(name: &str) -> Result<u32, UnknownOwner> {
    resolve("user", name, |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))
}

/// The number of a group; a number is itself, whether anybody bears it or not.
pub fn resolve_group(name: &str) -> Result<u32, UnknownOwner> {
    resolve("group", name, |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))
}

fn resolve(
    kind: &'static str,
    name: &str,
    look_up: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, UnknownOwner> {
    // The largest number means "leave it as it is" to chown(2).
    if let Some(number) = name.parse().ok().filter(|&number| number != u32::MAX) {
        return Ok(number);
    }
    let owned = || name.to_owned();
    match look_up(name) {
        Ok(Some(number)) => Ok(number),
        Ok(None) => Err(UnknownOwner::NoSuch { kind, name: owned() }),
        Err(error) => Err(UnknownOwner::Lookup { kind, name: owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(resolve_user("root"), Ok(0));
        assert_eq!(resolve_group("root"), Ok(0));
        assert_eq!(resolve_user("4711"), Ok(4711));
        let error = resolve_group("no-such-group").unwrap_err();
        assert_eq!(error.to_string(), "there is no group `no-such-group` on this machine");
        assert!(resolve_user("4294967295").is_err());
    }
}
