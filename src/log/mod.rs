//! The log: lines for people, JSON for machines, or systemd's journal, by a writer that never blocks a request.

mod journald;
mod sparse;
mod writer;

use std::env;
use std::io::{self, IsTerminal};

use rustix::fs::fstat;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

pub(crate) use self::sparse::Sparse;
use self::writer::{Target, Writer};
use crate::config::{LogConfig, LogFormat, LogLevel};

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
type Format = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of the process.
pub struct Log {
    config: LogConfig,
    filter: reload::Handle<Targets, Registry>,
    format: reload::Handle<Format, Filtered>,
    writer: Writer,
}

impl Log {
    /// Starts the log of this process; a second one in the same process writes nothing.
    pub fn start(config: &LogConfig) -> Self {
        let (filter, filter_handle) = reload::Layer::new(targets(config.level));
        let (layer, writer) = layer(config.format);
        let (format, format_handle) = reload::Layer::new(layer);
        // It fails where a subscriber is set already: in a test that starts two daemons in one process.
        drop(tracing_subscriber::registry().with(filter).with(format).try_init());
        Self { config: config.clone(), filter: filter_handle, format: format_handle, writer }
    }

    /// Follows a reload.
    pub fn follow(&mut self, config: &LogConfig) {
        // Either handle fails only when the subscriber is gone, and then there is no log to change.
        if config.level != self.config.level {
            drop(self.filter.reload(targets(config.level)));
        }
        if config.format != self.config.format {
            let (layer, writer) = layer(config.format);
            drop(self.format.reload(layer));
            self.writer = writer;
        }
        self.config = config.clone();
    }

    /// Lines that were lost since the log's format was chosen: the queue was full, or the disk.
    pub fn lost(&self) -> usize {
        self.writer.lost()
    }
}

/// portolan's own lines from this level on; of its libraries only what is wrong.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level == LevelFilter::TRACE { LevelFilter::DEBUG } else { level.min(Level::WARN.into()) };
    Targets::new().with_target("portolan", level).with_default(libraries)
}

fn layer(format: LogFormat) -> (Format, Writer) {
    match resolve(format) {
        LogFormat::Journald => {
            let (lines, writer) = Writer::start(Target::Datagrams(journald::Journal::new()));
            (Box::new(journald::JournalLayer::new(lines)), writer)
        }
        LogFormat::Json => {
            let (lines, writer) = Writer::start(Target::Stream(io::stderr()));
            (Box::new(fmt::layer().json().flatten_event(true).with_writer(lines)), writer)
        }
        LogFormat::Auto | LogFormat::Text => {
            let (lines, writer) = Writer::start(Target::Stream(io::stderr()));
            let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            (Box::new(fmt::layer().with_ansi(colours).with_target(false).with_writer(lines)), writer)
        }
    }
}

/// What "auto" means here: text on a terminal, the journal where stderr is the journal's, else JSON.
fn resolve(format: LogFormat) -> LogFormat {
    match format {
        LogFormat::Auto if io::stderr().is_terminal() => LogFormat::Text,
        LogFormat::Auto if is_journal_stream() => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Json,
        chosen => chosen,
    }
}

/// systemd.exec(5), `$JOURNAL_STREAM`: device and inode of the stream to the journal, which a redirection leaves behind.
fn is_journal_stream() -> bool {
    let Ok(stderr) = fstat(io::stderr()) else { return false };
    env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_say_only_what_is_wrong() {
        let enabled = |level, target, event| targets(level).would_enable(target, &event);
        assert!(enabled(LogLevel::Info, "portolan::serve", Level::INFO));
        assert!(!enabled(LogLevel::Info, "portolan::dial", Level::DEBUG));
        assert!(enabled(LogLevel::Debug, "portolan::dial", Level::DEBUG));
        assert!(!enabled(LogLevel::Debug, "rustls", Level::INFO));
        assert!(enabled(LogLevel::Info, "notify", Level::WARN));
        assert!(!enabled(LogLevel::Error, "notify", Level::WARN));
    }
}
