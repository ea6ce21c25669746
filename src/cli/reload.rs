//! `portolan reload`: the daemon reads its files again, and the command waits for what comes of it.

use std::io;

use clap::Args;

use super::Exit;
use super::admin::{Admin, AdminArguments, show};
use super::console::Console;
use crate::admin::view::ChangeView;
use crate::config::plural;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Refuse files with warnings, too
    #[arg(long)]
    strict: bool,
    /// Write what was changed as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    let path = format!("/v1/reload?strict={}", arguments.strict);
    match Admin::new(&arguments.admin).and_then(|admin| admin.post::<ChangeView>(&path, None)) {
        Err(failure) => failure.tell(console),
        Ok(change) => {
            show(&change.warnings, console)?;
            if arguments.json {
                console.json(&change)?;
            } else {
                let ChangeView { generation, routes, added, removed, changed, .. } = change;
                let routes = plural(routes, "route");
                writeln!(console.out, "generation {generation}: {routes}, +{added} -{removed} ~{changed}")?;
            }
            Ok(Exit::Ok)
        }
    }
}
