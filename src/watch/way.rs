//! The way from a name to its file, over links.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The kernel follows no more links than these (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Every name on the way from a path to its file that may come to mean something else: each link, the file itself, and
/// the first name that is not there. The folders of all of them are real ones.
pub(super) fn names_on_the_way(path: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut links = 0;
    let mut at = PathBuf::new();
    let mut rest = steps(path);
    while let Some(step) = rest.pop() {
        if step == ".." {
            at.pop();
            continue;
        }
        // The step "/" leads back to the root.
        at.push(&step);
        match fs::read_link(&at) {
            Ok(target) => {
                names.push(at.clone());
                links += 1;
                if links > MAX_LINKS {
                    return names;
                }
                at.pop();
                rest.extend(steps(&target));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                names.push(at.clone());
                at.extend(rest.drain(..).rev());
            }
            // It is no link.
            Err(_) => {}
        }
    }
    names.push(at);
    names.dedup();
    names
}

/// The steps of a path, the last one first.
fn steps(path: &Path) -> Vec<OsString> {
    let steps = path.components().map(|component| component.as_os_str().to_owned());
    steps.filter(|step| step != ".").collect::<Vec<_>>().into_iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The names on the way to a path of a folder, as seen from the folder.
    fn way(folder: &Path, path: &str) -> Vec<String> {
        let inside = |name: PathBuf| name.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        names_on_the_way(&folder.join(path)).into_iter().map(inside).collect()
    }

    #[test]
    fn links_are_on_the_way_and_the_file_at_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        fs::create_dir(folder.join("v1")).unwrap();
        fs::write(folder.join("v1/routes.toml"), "").unwrap();
        symlink("v1", folder.join("..data")).unwrap();
        symlink("..data/routes.toml", folder.join("routes.toml")).unwrap();
        symlink(folder.join("v1/../routes.toml"), folder.join("far")).unwrap();

        assert_eq!(way(&folder, "v1/routes.toml"), ["v1/routes.toml"]);
        assert_eq!(way(&folder, "./v1/../routes.toml"), ["routes.toml", "..data", "v1/routes.toml"]);
        assert_eq!(way(&folder, "far"), ["far", "routes.toml", "..data", "v1/routes.toml"]);
        assert_eq!(way(&folder, "..data/none"), ["..data", "v1/none"]);
    }

    #[test]
    fn what_is_missing_is_on_the_way_with_the_first_name_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        assert_eq!(way(&folder, "a/b/routes.toml"), ["a", "a/b/routes.toml"]);
        symlink("gone/routes.toml", folder.join("link")).unwrap();
        assert_eq!(way(&folder, "link"), ["link", "gone", "gone/routes.toml"]);
    }

    #[test]
    fn a_loop_ends() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        symlink("b", folder.join("a")).unwrap();
        symlink("a", folder.join("b")).unwrap();
        assert_eq!(way(&folder, "a").len(), MAX_LINKS + 1);
    }
}
