//! Sockets that portolan binds: path, mode, owner, group.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use toml::Spanned;

use super::owner::{UnknownOwner, resolve_group, resolve_user};
use super::problem::Problem;
use super::section::{Section, brief};
use super::settings::SocketAccess;

/// How far a check of `portolan.toml` looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// At the text only.
    Text,
    /// Also whether the users and groups are there.
    Machine,
}

/// The longest path of a Unix socket in bytes: `sun_path` has 108 with its zero (unix(7)).
const MAX_PATH: usize = 107;

/// The keys that [`access`] reads.
pub(super) const ACCESS_KEYS: [&str; 3] = ["mode", "owner", "group"];

/// A path that a Unix socket can have.
pub(super) fn socket_path(section: &Section<'_>, path: Spanned<PathBuf>) -> Option<PathBuf> {
    let length = path.get_ref().as_os_str().as_bytes().len();
    if length > MAX_PATH {
        let message = format!("the path of the socket has {length} bytes, a Unix socket has at most {MAX_PATH}");
        let help = format!("choose a shorter path than {}", brief(&path.get_ref().to_string_lossy()));
        section.report(path.span(), Problem::error(message).help(help));
        return None;
    }
    Some(path.into_inner())
}

/// `mode`, `owner` and `group` of a table; what is not written is `default`'s.
pub(super) fn access(section: &Section<'_>, scope: Scope, default: SocketAccess) -> SocketAccess {
    SocketAccess {
        mode: mode(section).unwrap_or(default.mode),
        owner: owner(section, scope, "owner", resolve_user).or(default.owner),
        group: owner(section, scope, "group", resolve_group).or(default.group),
    }
}

fn mode(section: &Section<'_>) -> Option<u32> {
    let text = section.string("mode")?;
    let octal = |text: &str| text.len() <= 4 && !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(text.get_ref(), 8).ok().filter(|&mode| octal(text.get_ref()) && mode <= 0o777);
    if mode.is_none() {
        let message = format!("`mode` is \"{}\", which is no file mode", brief(text.get_ref()));
        let help = "write octal digits from \"0000\" to \"0777\", such as \"0660\"";
        section.report(text.span(), Problem::error(message).help(help));
    }
    mode
}

fn owner(
    section: &Section<'_>,
    scope: Scope,
    key: &str,
    resolve: impl FnOnce(&str) -> Result<u32, UnknownOwner>,
) -> Option<String> {
    let name = section.line(key)?;
    if scope == Scope::Machine
        && let Err(error) = resolve(name.get_ref())
    {
        let help = format!("create it, or write another `{key}`, by name or number");
        section.report(name.span(), Problem::error(error.to_string()).help(help));
    }
    Some((*name.get_ref()).to_owned())
}

/// Whether two paths are one, as far as the text tells.
pub(super) fn same_path(one: &Path, other: &Path) -> bool {
    let named = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    named(one) == named(other)
}
