//! `portolan check`: what the daemon would say to these files, without a daemon.

use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Exit;
use super::console::Console;
use crate::admin::view::ProblemView;
use crate::config::{FileCount, Kind, Problems, Scope, find_config, kind_of, load, load_routes, plural};
use crate::dial::Trusts;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Files to check; a routes file is known by its [[route]]. Several routes files are also checked as one table.
    /// Default: the configuration that the daemon would take, and the routes files that it names
    #[arg(value_name = "FILE", conflicts_with = "config")]
    files: Vec<PathBuf>,
    /// What every FILE is
    #[arg(long, value_enum, requires = "files")]
    kind: Option<KindOfFile>,
    /// Look at the text alone: not at certificates, users and groups
    #[arg(long)]
    no_files: bool,
    /// Take warnings for errors
    #[arg(long)]
    strict: bool,
    /// Write problems to stdout, one JSON object a line
    #[arg(long)]
    json: bool,
    /// The configuration [default: $PORTOLAN_CONFIG, /etc/portolan/portolan.toml, ./config/portolan.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindOfFile {
    /// routes.toml
    Routes,
    /// portolan.toml
    Daemon,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let (daemons, routes) = match files(arguments) {
        Ok(files) => files,
        Err(error) => {
            console.complain(&error.to_string())?;
            return Ok(Exit::Problems);
        }
    };
    let scope = if arguments.no_files { Scope::Text } else { Scope::Machine };
    let mut trusts = (!arguments.no_files).then(|| Trusts::new(None));

    let mut problems = Problems::default();
    let mut lines = Vec::new();
    for file in &daemons {
        if let Some((_, loaded)) = load(file, scope, trusts.as_mut(), &mut problems) {
            loaded.lint(None, scope, &mut problems);
            lines.push(format!("{}: ok", file.display()));
            lines.extend(loaded.files.iter().map(line));
        }
    }
    let loaded = load_routes(&routes, trusts.as_mut(), &mut problems);
    if let Some(loaded) = &loaded {
        loaded.lint(None, scope, &mut problems);
    }
    lines.extend(loaded.iter().flat_map(|loaded| &loaded.files).map(line));
    report(arguments, &problems, &lines, console)
}

/// The daemon's files and the routes files to be checked.
fn files(arguments: &Arguments) -> Result<(Vec<PathBuf>, Vec<PathBuf>), crate::config::ConfigNotFound> {
    if arguments.files.is_empty() {
        return Ok((vec![find_config(arguments.config.as_deref())?], Vec::new()));
    }
    let is_daemon = |file: &PathBuf| match arguments.kind {
        Some(kind) => matches!(kind, KindOfFile::Daemon),
        None => kind_of(file) == Kind::Daemon,
    };
    Ok(arguments.files.iter().cloned().partition(is_daemon))
}

fn report(arguments: &Arguments, problems: &Problems, lines: &[String], console: &mut Console<'_>) -> io::Result<Exit> {
    if arguments.json {
        for problem in problems.iter() {
            console.json(&ProblemView::of(problem))?;
        }
    } else {
        console.show(problems)?;
        if arguments.strict && !problems.is_empty() && !problems.has_errors() {
            console.complain(&problems.why())?;
        }
    }
    if problems.has_errors() || arguments.strict && !problems.is_empty() {
        return Ok(Exit::Problems);
    }
    for line in lines.iter().filter(|_| !arguments.json) {
        writeln!(console.out, "{}", crate::config::visible(line))?;
    }
    Ok(Exit::Ok)
}

fn line(count: &FileCount) -> String {
    let disabled = if count.disabled > 0 { format!(", {} disabled", count.disabled) } else { String::new() };
    format!("{}: {}{disabled}: ok", count.file.display(), plural(count.routes, "route"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::console::testing::{self, Ran};

    const ROUTES: &str =
        "[[route]]\nmatch = 'a'\nhost = 'h:1'\n[[route]]\nmatch = 'b'\nhost = 'h:1'\ndisabled = true\n";

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn check(folder: &tempfile::TempDir, line: &[&str]) -> Ran {
        let place = |word: &&str| if word.starts_with('-') { PathBuf::from(word) } else { folder.path().join(word) };
        let line = std::iter::once("check".into()).chain(line.iter().map(place));
        let arguments = Line::parse_from(line).arguments;
        let mut ran = testing::run(b"", |console| run(&arguments, console));
        let prefix = format!("{}/", folder.path().display());
        (ran.out, ran.err) = (ran.out.replace(&prefix, ""), ran.err.replace(&prefix, ""));
        ran
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_good_file_is_one_line() {
        let ran = check(&folder(&[("routes.toml", ROUTES)]), &["routes.toml"]);
        assert_eq!(
            (ran.exit, ran.out.as_str(), ran.err.as_str()),
            (Exit::Ok, "routes.toml: 1 route, 1 disabled: ok\n", "")
        );
    }

    #[test]
    fn a_daemon_file_brings_its_routes_files() {
        let folder = folder(&[("routes.toml", ROUTES), ("portolan.toml", "[socket]\npath = 'p.sock'\n")]);
        let ran = check(&folder, &["portolan.toml"]);
        assert_eq!(ran.out, "portolan.toml: ok\nroutes.toml: 1 route, 1 disabled: ok\n");
        let ran = check(&folder, &["--config", "portolan.toml"]);
        assert_eq!(ran.out, "portolan.toml: ok\nroutes.toml: 1 route, 1 disabled: ok\n");
    }

    #[test]
    fn problems_of_all_files_are_said_at_once() {
        let folder = folder(&[("routes.toml", "[[route]]\nmatch = 'a'\n"), ("portolan.toml", "[sokcet]\n")]);
        let ran = check(&folder, &["portolan.toml", "--kind=daemon"]);
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Problems, ""));
        assert!(ran.err.contains("unknown table `sokcet`") && ran.err.contains("has no `host`"), "{}", ran.err);
        assert!(ran.err.ends_with("\n\n2 errors\n"), "{}", ran.err);
    }

    #[test]
    fn several_routes_files_are_one_table() {
        let ran = check(&folder(&[("a", ROUTES), ("b", ROUTES)]), &["a", "b"]);
        assert_eq!(ran.exit, Exit::Problems);
        assert!(ran.err.contains("the pattern `a` is taken"), "{}", ran.err);
    }

    #[test]
    fn json_is_one_object_a_line_on_stdout() {
        let ran = check(&folder(&[("r", "[[route]]\nmatch = 'a'\nhost = 'h:1'\nwieght = 1\n")]), &["r", "--json"]);
        let expected = "{\"severity\":\"error\",\"file\":\"r\",\"line\":4,\"column\":1,\
                        \"message\":\"unknown key `wieght` in [[route]]\",\"help\":\"did you mean `weight`?\",\
                        \"rendered\":\"error: unknown key `wieght` in [[route]]\\n --> r:4:1\\n  |\\n4 | wieght = 1\\n  \
                        | ^^^^^^\\n  |\\n  = help: did you mean `weight`?\"}\n";
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Problems, expected, ""));
    }

    #[test]
    fn a_warning_alone_is_ok() {
        let text = "[[route]]\nmatch = 'a'\nhost = 'h:1'\ntls.insecure_skip_verify = true\n";
        let ran = check(&folder(&[("r", text)]), &["r"]);
        assert_eq!((ran.exit, ran.out.as_str()), (Exit::Ok, "r: 1 route: ok\n"));
        assert!(ran.err.starts_with("warning: the route `a` does not verify who answers"), "{}", ran.err);
    }

    #[test]
    fn users_are_looked_up_unless_the_text_alone_counts() {
        let folder = folder(&[("r", ROUTES), ("d", "routes = 'r'\n[socket]\nowner = 'no-such-user'\n")]);
        assert!(check(&folder, &["d"]).err.contains("there is no user `no-such-user` on this machine"));
        assert_eq!(check(&folder, &["d", "--no-files"]).exit, Exit::Ok);
    }
}
