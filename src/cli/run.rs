//! `portolan run`: the daemon.

use std::io::Write;
use std::path::PathBuf;

use crate::config;
use crate::daemon::{self, StartError};

use super::Exit;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration [default: $PORTOLAN_CONFIG, /etc/portolan/portolan.toml, ./config/portolan.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the daemon.
pub(super) fn run(arguments: &Arguments) -> Exit {
    match serve(arguments) {
        Ok(()) => Exit::Ok,
        Err(why) => {
            // With stderr gone there is nobody left to tell.
            drop(std::io::stderr().lock().write_all(why.as_bytes()));
            Exit::Problems
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), String> {
    let path = config::find_config(arguments.config.as_deref()).map_err(|error| told(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| told(&error))?;
    let ended = runtime.block_on(daemon::run(path));
    // A name lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    ended.map_err(|error| match error {
        StartError::Files(problems) => {
            let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            problems.render(color)
        }
        StartError::Edits(error) => told(&error),
        StartError::Bind(errors) => errors.iter().map(|error| told(error)).collect(),
        StartError::System(what, error) => told(&format!("{what}: {error}")),
    })
}

fn told(error: &dyn std::fmt::Display) -> String {
    format!("error: {error}\n")
}
