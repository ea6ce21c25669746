//! `portolan completions` and `portolan man`: what comes out of the definition of the commands.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man;

use super::Exit;
use super::console::Console;
use crate::config::reason;

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// A folder, which gets portolan.1, portolan-check.1 and so on; `stdout` writes the first page there
    #[arg(value_name = "DIR|stdout", default_value = "stdout")]
    to: PathBuf,
}

pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut definition: clap::Command,
    console: &mut Console<'_>,
) -> io::Result<Exit> {
    // `generate` panics where its writer fails, so it gets one that does not.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut definition, "portolan", &mut script);
    console.out.write_all(&script)?;
    Ok(Exit::Ok)
}

pub(super) fn man(arguments: &ManArguments, definition: clap::Command, console: &mut Console<'_>) -> io::Result<Exit> {
    if arguments.to == Path::new("stdout") {
        Man::new(definition).render(console.out)?;
        return Ok(Exit::Ok);
    }
    if let Err(error) = clap_mangen::generate_to(definition, &arguments.to) {
        console.complain(&format!("cannot write the manual to {}: {}", arguments.to.display(), reason(&error)))?;
        return Ok(Exit::Problems);
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{console::testing, definition};

    #[test]
    fn every_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ManArguments { to: folder.path().to_owned() };
        let ran = testing::run(b"", |console| man(&arguments, definition(), console));
        assert_eq!((ran.exit, ran.err.as_str()), (Exit::Ok, ""));
        for page in ["portolan.1", "portolan-check.1", "portolan-lookup.1"] {
            assert!(folder.path().join(page).exists(), "{page}");
        }

        let arguments = ManArguments { to: "/nowhere/man".into() };
        let ran = testing::run(b"", |console| man(&arguments, definition(), console));
        assert_eq!(ran.err, "error: cannot write the manual to /nowhere/man: no such file or directory\n");
    }

    #[test]
    fn completions_and_the_page_go_to_stdout() {
        let arguments = CompletionsArguments { shell: Shell::Bash };
        let ran = testing::run(b"", |console| completions(&arguments, definition(), console));
        assert!(ran.out.contains("_portolan()"));
        let ran = testing::run(b"", |console| man(&ManArguments { to: "stdout".into() }, definition(), console));
        assert!(ran.out.contains(".TH portolan 1"));
    }
}
