//! `portolan upstreams`: what the running daemon knows of the upstreams that requests have wanted, and how they are
//! made to be as if they had never failed.

use std::io;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};

use super::Exit;
use super::admin::{Admin, AdminArguments, Failure};
use super::console::Console;
use super::pages::Pages;
use super::view::{age, write_columns};
use crate::admin::view::{FailureView, StateView, TlsPolicySpec, TlsSpec, UpstreamPage, UpstreamView};
use crate::config::visible;

/// Lists the upstreams that requests have wanted, by number: state, attempts, failures since it was up, how long it
/// takes to be up, where it was up last, the last failure.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an upstream healthy at once, as if it had never failed
    Reset(Reset),
}

#[derive(Debug, Args)]
struct List {
    /// Write one JSON object for each upstream, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

#[derive(Debug, Args)]
struct Reset {
    /// Its number, or its host and port as they are written; these with every TLS policy
    #[arg(value_name = "NUMBER|HOST:PORT")]
    upstream: String,
    /// Write what is known of it then, one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

pub(super) fn run(arguments: &Arguments, console: &mut Console<'_>) -> io::Result<Exit> {
    match &arguments.command {
        None => list(&arguments.list, console),
        Some(Command::Reset(reset)) => self::reset(reset, console),
    }
}

fn list(list: &List, console: &mut Console<'_>) -> io::Result<Exit> {
    let admin = match Admin::new(&list.admin) {
        Ok(admin) => admin,
        Err(failure) => return failure.tell(console),
    };
    let mut head = Some(HEAD.map(str::to_owned));
    for page in pages(&admin) {
        let page = match page {
            Ok(page) => page,
            Err(failure) => return failure.tell(console),
        };
        if list.json {
            page.iter().try_for_each(|upstream| console.json(upstream))?;
        } else {
            let head = head.take().filter(|_| !page.is_empty()).into_iter();
            write_columns(head.chain(page.iter().map(cells)), &[0, 4, 5, 6], console.out)?;
        }
    }
    Ok(Exit::Ok)
}

fn pages(admin: &Admin) -> Pages<'_, UpstreamPage> {
    Pages::new(admin, "/v1/upstreams", "")
}

const HEAD: [&str; 9] = ["id", "upstream", "tls", "state", "attempts", "failures", "up in", "last good", "last error"];

fn cells(view: &UpstreamView) -> [String; 9] {
    [
        view.id.to_string(),
        view.upstream.clone(),
        tls(&view.tls),
        state(view),
        view.attempts.to_string(),
        view.failures.to_string(),
        view.smoothed_us.map(took).unwrap_or_default(),
        view.last_good.clone().unwrap_or_default(),
        view.last_error.as_ref().map(last_error).unwrap_or_default(),
    ]
}

/// `tls` and the keys of its policy, by which upstreams of one address differ; nothing for plain TCP.
pub(super) fn tls(spec: &TlsSpec) -> String {
    let policy = match spec {
        TlsSpec::Switch(false) => return String::new(),
        TlsSpec::Switch(true) => return "tls".to_owned(),
        TlsSpec::Policy(policy) => policy,
    };
    let TlsPolicySpec { ca, cert, key: _, server_name, pin_sha256, insecure_skip_verify } = policy;
    let keys = [
        (ca.is_some(), "ca"),
        (cert.is_some(), "cert"),
        (!pin_sha256.is_empty(), "pin_sha256"),
        (*insecure_skip_verify, "insecure_skip_verify"),
    ];
    let keys = keys.iter().filter(|(is_there, _)| *is_there).map(|(_, key)| (*key).to_owned());
    let name = server_name.as_ref().map(|name| format!("server_name {name}"));
    format!("tls with {}", keys.chain(name).collect::<Vec<_>>().join(", "))
}

/// Its state, and how long that lasts.
pub(super) fn state(view: &UpstreamView) -> String {
    match (view.state, view.left_ms) {
        (StateView::Healthy, _) => "healthy".to_owned(),
        (StateView::Probing, _) => "ejected, being probed".to_owned(),
        (StateView::Ejected, None | Some(0)) => "ejected, until somebody asks".to_owned(),
        // Rounded up: nothing is left when it is told.
        (StateView::Ejected, Some(left)) => {
            format!("ejected, probed in {}", age(Duration::from_secs(left.div_ceil(1000))))
        }
    }
}

/// Milliseconds, with as many digits as say something.
pub(super) fn took(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
        _ => format!("{} ms", micros / 1000),
    }
}

/// Why it failed for the last time, and how long ago.
pub(super) fn last_error(failure: &FailureView) -> String {
    let at = humantime::parse_rfc3339(&failure.at).ok();
    match at.and_then(|at| SystemTime::now().duration_since(at).ok()) {
        Some(ago) => format!("{}, {} ago", failure.error, age(ago)),
        None => format!("{}, at {}", failure.error, failure.at),
    }
}

fn reset(reset: &Reset, console: &mut Console<'_>) -> io::Result<Exit> {
    let (admin, numbers) = match numbers(reset) {
        Ok(found) => found,
        Err(failure) => return failure.tell(console),
    };
    if numbers.is_empty() {
        console.complain(&format!("no request has wanted {} yet, so nothing is known of it", reset.upstream))?;
        return Ok(Exit::Refused);
    }
    for id in numbers {
        match admin.post::<UpstreamView>(&format!("/v1/upstreams/{id}/reset"), None) {
            Err(failure) => return failure.tell(console),
            Ok(view) if reset.json => console.json(&view)?,
            Ok(view) => writeln!(console.out, "{} is {}", visible(&view.upstream), state(&view))?,
        }
    }
    Ok(Exit::Ok)
}

/// The numbers of what is to be reset, and who is asked for it.
fn numbers(reset: &Reset) -> Result<(Admin, Vec<u64>), Failure> {
    if let Ok(id) = reset.upstream.parse() {
        return Ok((Admin::new(&reset.admin)?, vec![id]));
    }
    let admin = Admin::new(&reset.admin)?;
    let named = pages(&admin).all()?.into_iter().filter(|view| view.upstream == reset.upstream);
    let numbers = named.map(|view| view.id).collect();
    Ok((admin, numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(state: StateView, left_ms: Option<u64>) -> UpstreamView {
        UpstreamView {
            id: 3,
            upstream: "10.0.1.50:4370".to_owned(),
            tls: TlsSpec::Switch(true),
            state,
            until: None,
            left_ms,
            attempts: 12,
            failures: 2,
            latency_us: None,
            smoothed_us: Some(1234),
            last_good: None,
            last_error: Some(FailureView { error: "timed out".to_owned(), at: "soon".to_owned() }),
        }
    }

    #[test]
    fn a_state_says_how_long_it_lasts() {
        for (of, left, said) in [
            (StateView::Healthy, None, "healthy"),
            (StateView::Ejected, Some(61_001), "ejected, probed in 1m 2s"),
            (StateView::Ejected, Some(0), "ejected, until somebody asks"),
            (StateView::Probing, None, "ejected, being probed"),
        ] {
            assert_eq!(state(&view(of, left)), said);
        }
    }

    #[test]
    fn an_upstream_is_one_line() {
        let line = ["3", "10.0.1.50:4370", "tls", "healthy", "12", "2", "1.23 ms", "", "timed out, at soon"];
        assert_eq!(cells(&view(StateView::Healthy, None)), line);
    }

    #[test]
    fn a_time_has_the_digits_that_say_something() {
        assert_eq!([7, 310, 9_999, 10_000, 1_500_400].map(took), ["0.00 ms", "0.31 ms", "9.99 ms", "10 ms", "1500 ms"]);
    }

    #[test]
    fn policies_of_one_address_are_told_apart() {
        let policy = TlsPolicySpec {
            ca: Some("/ca.pem".to_owned()),
            server_name: Some("db".to_owned()),
            insecure_skip_verify: true,
            ..TlsPolicySpec::default()
        };
        assert_eq!(tls(&TlsSpec::Policy(policy)), "tls with ca, insecure_skip_verify, server_name db");
        assert_eq!(tls(&TlsSpec::Switch(false)), "");
    }
}
