//! `routes` of `portolan.toml`: files, and patterns of the names of files.

use std::ffi::{OsStr, OsString};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern, PatternError};
use toml::Spanned;

use super::problem::{Place, Problem, Problems};
use super::read::reason;
use super::resolver::{ResolverConfig, is_written, no_resolver};
use super::section::{Section, brief};
use super::socket::same_path;

/// What marks a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// One entry of `routes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoutesEntry {
    /// A file, which must be there.
    File(PathBuf),
    /// The files of a folder whose names match, as many as there are at a load.
    Glob(RoutesGlob),
    /// The table in etcd that `etcd:NAME` says, by the name of the resolver.
    Shared(Arc<str>),
}

/// A pattern of file names, such as `routes.d/*.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesGlob {
    /// The folder, which need not be there.
    pub folder: PathBuf,
    /// Which of its files.
    pub names: FileNames,
    /// Where it is written.
    pub place: Place,
}

/// Names of files as shells match them: `*`, `?`, `[a-z]`, `[!a-z]`. A leading dot and an editor's `~` at the end are
/// matched only where they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNames(Pattern);

impl RoutesGlob {
    /// The folder and the pattern.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.names.as_str())
    }
}

impl FileNames {
    /// Reads a pattern, in which `/` is a character that no name has.
    pub fn parse(pattern: &str) -> Result<Self, PatternError> {
        Pattern::new(pattern).map(Self)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a file has such a name. One that is not UTF-8 has not.
    pub fn match_name(&self, name: &OsStr) -> bool {
        const OPTIONS: MatchOptions =
            MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
        let is_backup = name.as_bytes().ends_with(b"~") && !self.as_str().ends_with('~');
        !is_backup && name.to_str().is_some_and(|name| self.0.matches_with(name, OPTIONS))
    }

    /// The names in a folder, in the order of their bytes; none when it is not there.
    pub fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        // A relative name has the empty folder, which is this one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries = match folder.read_dir() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.retain(|name| self.match_name(name));
        names.sort_unstable();
        Ok(names)
    }
}

/// The files that there are of these entries, in the order of the table: that of the list, then by name. A file that
/// was found before is not read again. `None` when there is none, or a folder cannot be read.
pub fn routes_files(entries: &[RoutesEntry], problems: &mut Problems) -> Option<Vec<PathBuf>> {
    let errors = problems.errors();
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let found = match entry {
            RoutesEntry::File(file) => vec![file.clone()],
            RoutesEntry::Glob(glob) => found(glob, problems),
            RoutesEntry::Shared(_) => continue,
        };
        for file in found {
            if !files.iter().any(|other| same_path(other, &file)) {
                files.push(file);
            }
        }
    }
    let is_shared = entries.iter().any(|entry| matches!(entry, RoutesEntry::Shared(_)));
    if let ([], [RoutesEntry::Glob(glob), ..]) = (files.as_slice(), entries)
        && problems.errors() == errors
        && !is_shared
    {
        let problem = Problem::error("there is no routes file").at(Place::of_file(glob.place.file()));
        problems.push(problem.help("put one where `routes` looks for it, or name one"));
    }
    (problems.errors() == errors).then_some(files)
}

fn found(glob: &RoutesGlob, problems: &mut Problems) -> Vec<PathBuf> {
    let (names, problem) = match glob.names.list(&glob.folder) {
        Ok(names) if names.is_empty() => {
            let problem = Problem::warning(format!("`{}` matches no file", glob.path().display()));
            (names, Some(problem.help("put a file there, or remove the entry")))
        }
        Ok(names) => (names, None),
        Err(error) => {
            let message = format!("the folder `{}` cannot be read: {}", glob.folder.display(), reason(&error));
            (Vec::new(), Some(Problem::error(message).help("check the path and who may read it")))
        }
    };
    problems.extend(problem.map(|problem| problem.at(glob.place.clone())));
    names.into_iter().map(|name| glob.folder.join(name)).collect()
}

/// `routes`, as it is written.
pub(super) fn routes(root: &Section<'_>, resolvers: &[ResolverConfig]) -> Vec<RoutesEntry> {
    if !root.has("routes") {
        return vec![RoutesEntry::File(root.document().resolve("routes.toml"))];
    }
    let mut entries: Vec<RoutesEntry> = Vec::new();
    for text in root.texts("routes").unwrap_or_default() {
        let written = *text.get_ref();
        let entry = if let Some(name) = written.strip_prefix("etcd:") {
            shared(root, &text, name, resolvers).map(RoutesEntry::Shared)
        } else if written.contains(WILDCARDS) {
            glob(root, &text).map(RoutesEntry::Glob)
        } else {
            root.as_path("routes", &text).map(|path| RoutesEntry::File(path.into_inner()))
        };
        let Some(entry) = entry else { continue };
        let is_shared = |entry: &RoutesEntry| matches!(entry, RoutesEntry::Shared(_));
        if entries.iter().any(|other| other.is_the_same(&entry)) {
            let problem = Problem::error(format!("\"{}\" is named twice", brief(written)));
            root.report(text.span(), problem.help("remove one of the two"));
        } else if is_shared(&entry) && entries.iter().any(is_shared) {
            let problem = Problem::error("a second shared table: a daemon follows one");
            root.report(text.span(), problem.help("remove one of the two"));
        } else {
            entries.push(entry);
        }
    }
    entries
}

/// `etcd:NAME`
fn shared(root: &Section<'_>, text: &Spanned<&str>, name: &str, resolvers: &[ResolverConfig]) -> Option<Arc<str>> {
    let Some(resolver) = resolvers.iter().find(|resolver| &*resolver.name == name) else {
        // One that is there and has a problem of its own has been reported.
        if !is_written(root, name) {
            root.report(root.span_inside(text, "etcd:".len()..text.get_ref().len()), no_resolver(name));
        }
        return None;
    };
    if resolver.kind.etcd().is_none() {
        let problem = Problem::error(format!("[resolver.{}] is not of type etcd", brief(name)));
        root.report(text.span(), problem.help("name one that is: a table is shared through etcd only"));
        return None;
    }
    Some(Arc::clone(&resolver.name))
}

impl RoutesEntry {
    /// Whether both are of the same files, wherever they are written.
    fn is_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(other)) => same_path(one, other),
            (Self::Glob(one), Self::Glob(other)) => same_path(&one.path(), &other.path()),
            (Self::Shared(one), Self::Shared(other)) => one == other,
            _ => false,
        }
    }
}

fn glob(root: &Section<'_>, text: &Spanned<&str>) -> Option<RoutesGlob> {
    let written = *text.get_ref();
    let (folder, names) = written.rsplit_once('/').map_or(("", written), |(folder, names)| (folder, names));
    let report = |at: Range<usize>, message: String, help: &str| {
        root.report(root.span_inside(text, at), Problem::error(message).help(help));
    };
    if let Some((at, wildcard)) = folder.char_indices().find(|(_, c)| WILDCARDS.contains(c)) {
        let message = format!("`{wildcard}` stands in the name of a folder");
        report(at..at + 1, message, "a pattern is of file names only: write one entry for each folder");
        return None;
    }
    let start = written.len() - names.len();
    if let Some(at) = names.find("**") {
        let message = "`**` is no pattern of file names".to_owned();
        report(start + at..start + at + 2, message, "write `*`; folders below are not looked into");
        return None;
    }
    let pattern = match FileNames::parse(names) {
        Ok(pattern) => pattern,
        Err(error) => {
            let at = names.char_indices().nth(error.pos).map_or(names.len(), |(at, _)| at);
            let message = format!("this is no pattern of file names: {}", error.msg);
            report(start + at..start + at + 1, message, "write [abc], [a-z] or [!a-z], and a bracket itself as [[]");
            return None;
        }
    };
    let path = root.as_path("routes", text)?.into_inner();
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Some(RoutesGlob { folder, names: pattern, place: root.document().place(&text.span()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_backups_are_matched_where_they_are_written() {
        let files = ["b.toml", "a.toml", ".c.toml", "d.toml~", "B.toml", "e.tom", "é.toml"];
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let list = |pattern| FileNames::parse(pattern).unwrap().list(folder.path()).unwrap();
        assert_eq!(list("*.toml"), ["B.toml", "a.toml", "b.toml", "é.toml"]);
        assert_eq!(list("?.toml"), ["B.toml", "a.toml", "b.toml", "é.toml"]);
        assert_eq!(list("*"), ["B.toml", "a.toml", "b.toml", "e.tom", "é.toml"]);
        assert_eq!(list("[!a-z]*"), ["B.toml", "é.toml"]);
        assert_eq!(list(".*.toml"), [".c.toml"]);
        assert_eq!(list("*~"), ["d.toml~"]);
        assert_eq!(FileNames::parse("*").unwrap().list(&folder.path().join("none")).unwrap(), Vec::<OsString>::new());
    }
}
