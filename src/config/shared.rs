//! A route that stands under a key of etcd, written there for every daemon. It is read as one of a routes file, with the
//! key in the file's place, and may do less: whoever writes there need not be who runs this daemon.

use std::path::{Component, Path, PathBuf, absolute};

use serde_json::Value;
use toml::Spanned;

use super::context::Context;
use super::document::walk;
use super::problem::{Place, Problem, Problems};
use super::routes_file::{KEYS, ROUTE_KEYS};
use super::section::{Section, brief};
use super::source::Source;
use super::spec::{as_toml, paths, route_of};
use crate::route::{Origin, Route};

/// The table that is shared through a resolver of type etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableConfig {
    /// What its keys begin with: default `portolan/routes/`.
    pub prefix: Box<str>,
    /// What its routes may do.
    pub rules: SharedRules,
}

/// What this daemon lets a shared route do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharedRules {
    /// The folder of the files that its `tls` may name, absolute, and what their paths are relative to; `None`: it may
    /// name none.
    pub folder: Option<PathBuf>,
    /// Whether it may have `insecure_skip_verify`.
    pub insecure: bool,
}

/// The keys of [`TableConfig`].
pub(super) fn table(section: &Section<'_>) -> TableConfig {
    let prefix = section.text("table").map_or("portolan/routes/", |text| *text.get_ref());
    let folder = section.path("table_files").map(Spanned::into_inner);
    let folder = folder.map(|folder| absolute(&folder).unwrap_or(folder));
    let insecure = section.boolean("table_insecure").unwrap_or(false);
    TableConfig { prefix: prefix.into(), rules: SharedRules { folder, insecure } }
}

/// Reads the value of a key: the keys of a `[[route]]` as TOML without that line, or as a JSON object. The text that is
/// shown in problems is called by the key. `None` when there is an error; `problems` says which.
pub fn read_shared(
    key: &Path,
    text: &str,
    origin: Origin,
    rules: &SharedRules,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    if text.trim_start().starts_with('{') {
        return match serde_json::from_str(text) {
            Ok(json) => read_shared_json(key, &json, origin, rules, context, problems),
            Err(error) => {
                let problem = Problem::error(format!("this is no JSON: {error}")).at(Place::of_file(key));
                problems.push(problem.help("write { \"match\": .., \"host\": .. }, or the keys of [[route]] as TOML"));
                None
            }
        };
    }
    let errors = problems.errors();
    let source = in_folder(key, text.to_owned(), rules);
    let route = walk(&source, &ROUTE_KEYS, problems, |section| read(section, rules, context));
    route.filter(|_| problems.errors() == errors).map(|route| Route { origin, ..route })
}

/// The same of a JSON object.
pub fn read_shared_json(
    key: &Path,
    json: &Value,
    origin: Origin,
    rules: &SharedRules,
    context: Context<'_>,
    problems: &mut Problems,
) -> Option<Route> {
    let errors = problems.errors();
    let source = in_folder(key, as_toml(key, json, problems)?, rules);
    let route =
        walk(&source, &KEYS, problems, |root| read(root.sections("route", &ROUTE_KEYS).first()?, rules, context));
    route.filter(|_| problems.errors() == errors).map(|route| Route { origin, ..route })
}

fn in_folder(key: &Path, text: String, rules: &SharedRules) -> std::sync::Arc<Source> {
    let folder = rules.folder.as_deref().unwrap_or(Path::new(""));
    Source::in_place_of(&folder.join("routes.toml"), key, text)
}

fn read(section: &Section<'_>, rules: &SharedRules, context: Context<'_>) -> Option<Route> {
    let Context { trusts, resolvers } = context;
    let is_allowed = check(section, rules, trusts.is_some());
    route_of(section, Context { trusts: trusts.filter(|_| is_allowed), resolvers })
}

/// Reports what the rules forbid, and tells whether there is nothing.
fn check(section: &Section<'_>, rules: &SharedRules, looks: bool) -> bool {
    let mut is_allowed = true;
    for (key, span, path) in paths(section) {
        let problem = match &rules.folder {
            None => Problem::error(format!("`{key}` names a file, and a shared route may name none here"))
                .help("name the folder of such files in `table_files` of portolan.toml, or leave the key out"),
            Some(folder) if is_inside(folder, Path::new(path), looks) => continue,
            Some(folder) => {
                Problem::error(format!("`{key}` is \"{}\", which is outside of {}", brief(path), folder.display()))
                    .help("shared routes name files of `table_files` only: write a path relative to that folder")
            }
        };
        section.report(span, problem);
        is_allowed = false;
    }
    let tls = section.value("tls").and_then(|tls| tls.get_ref().as_table());
    let insecure = tls.and_then(|tls| tls.get("insecure_skip_verify"));
    if let Some(value) = insecure.filter(|value| value.get_ref().as_bool() == Some(true) && !rules.insecure) {
        let problem = Problem::error("a shared route may not skip verification here");
        section.report(value.span(), problem.help("write `pin_sha256` or `ca`, or allow it: `table_insecure = true`"));
        is_allowed = false;
    }
    is_allowed
}

/// Whether a file is in a folder: by its name, and if it `looks`, by where its links lead, too.
fn is_inside(folder: &Path, path: &Path, looks: bool) -> bool {
    // The folder's own way there may go up; what is behind it may not.
    let inside = if path.is_absolute() { path.strip_prefix(folder).ok() } else { Some(path) };
    let is_plain = inside.is_some_and(|inside| inside.components().all(|part| part != Component::ParentDir));
    let real = |path: &Path| path.canonicalize().ok().filter(|_| looks);
    let leads_out = real(folder).zip(real(&folder.join(path))).is_some_and(|(folder, path)| !path.starts_with(folder));
    is_plain && !leads_out
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn read_as(rules: &SharedRules, text: &str) -> Result<Route, String> {
        let mut problems = Problems::default();
        let origin = Origin::Edit { at: SystemTime::UNIX_EPOCH };
        let mut trusts = crate::dial::Trusts::new(None);
        let route = read_shared(Path::new("p/db"), text, origin, rules, Some(&mut trusts).into(), &mut problems);
        route.ok_or_else(|| problems.render(false))
    }

    #[test]
    fn a_value_is_toml_or_json() {
        let none = SharedRules::default();
        let toml = read_as(&none, "match = '^db@'\nhost = 'h:1'\ntls = { server_name = 'db' }\n").unwrap();
        let json = r#" { "match": "^db@", "host": ["h:1"], "tls": { "server_name": "db" } }"#;
        assert!(toml.means_the_same(&read_as(&none, json).unwrap()));
        assert!(toml.means_the_same(&read_as(&none, "match='^db@'\nhost='h:1'\n[tls]\nserver_name='db'").unwrap()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_key_in_place_of_a_file() {
        let told = |text: &str| read_as(&SharedRules::default(), text).unwrap_err();
        let text = told("match = 'db(@'\nhost = 'h:1'\nwieght = 1\n");
        assert!(text.contains(" --> p/db:1:12\n") && text.contains("did you mean `weight`?"), "{text}");
        let text = told("{ \"match\": 1 ");
        assert!(text.starts_with("error: this is no JSON: EOF") && text.contains("--> p/db\n"), "{text}");
        assert!(told("{}").contains("the route has no `match`"));
        assert!(told("").contains("the route has no `match`"));
        assert!(told("match='x'\nhost='h:1'\ndisabled=true").contains("`disabled` is for the routes of a file"));
    }

    #[test]
    fn a_shared_route_may_do_less() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("out"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            let key = rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap();
            std::fs::write(folder.join("ca.pem"), key.cert.pem()).unwrap();
        }
        std::os::unix::fs::symlink(outside.join("ca.pem"), inside.join("link.pem")).unwrap();
        let read =
            |rules: &SharedRules, tls: &str| read_as(rules, &format!("match = 'x'\nhost = 'h:1'\ntls = {{ {tls} }}\n"));
        let none = SharedRules::default();
        let some = SharedRules { folder: Some(inside.clone()), insecure: false };
        assert_eq!(read(&some, "ca = 'ca.pem'").unwrap().tls.unwrap().ca, Some(inside.join("ca.pem")));
        assert!(read(&some, &format!("ca = '{}'", inside.join("ca.pem").display())).is_ok());
        assert!(
            read(&none, "ca = 'ca.pem'").unwrap_err().contains("`ca` names a file, and a shared route may name none")
        );
        for path in ["../out/ca.pem", "link.pem", "/etc/passwd", "x/../../out/ca.pem"] {
            let told = read(&some, &format!("ca = '{path}'")).unwrap_err();
            assert!(told.contains(&format!("`ca` is \"{path}\", which is outside of ")), "{told}");
        }
        std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
        assert!(read(&some, "ca = 'folder/ca.pem'").unwrap_err().contains("which is outside of "));
        // As `table_files = "../in"` of a file in `out` names it.
        let up = SharedRules { folder: Some(outside.join("../in")), insecure: false };
        assert!(read(&up, "ca = 'ca.pem'").is_ok());
        assert!(read(&up, &format!("ca = '{}'", outside.join("../in/ca.pem").display())).is_ok());
        for path in ["../in/ca.pem", "../out/ca.pem", "link.pem", "folder/ca.pem"] {
            assert!(read(&up, &format!("ca = '{path}'")).unwrap_err().contains("which is outside of "), "{path}");
        }
        let told = read(&some, "insecure_skip_verify = true").unwrap_err();
        assert!(told.contains("a shared route may not skip verification here"), "{told}");
        assert!(read(&SharedRules { folder: None, insecure: true }, "insecure_skip_verify = true").is_ok());
    }
}
