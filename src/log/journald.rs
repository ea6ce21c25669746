//! The journal's native protocol: one datagram for each line, with its fields.
//!
//! Source: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. tracing-journald sends from the thread that logs, and waits
//! there when the journal is slow; here the log's own thread sends.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::writer::Lines;

const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal's socket, opened with the first line and again after it was lost.
pub(super) struct Journal {
    socket: Option<UnixDatagram>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { socket: None }
    }

    fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(SOCKET)?;
                socket
            }
        };
        socket.send(entry)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Write for Journal {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        // A journal that was started anew has a new socket: the second try opens it.
        self.send(entry).or_else(|_| self.send(entry))?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Turns events into the journal's entries.
pub(super) struct JournalLayer {
    lines: Lines,
}

impl JournalLayer {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }
}

impl<S: Subscriber> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        // The writer queues or counts; it does not fail.
        drop((&self.lines).write_all(&entry.finish(*event.metadata().level(), event.metadata().target())));
    }
}

/// An entry as it grows: the text of MESSAGE has the fields too, so that plain `journalctl` shows them.
#[derive(Default)]
struct Entry {
    message: String,
    fields: String,
    bytes: Vec<u8>,
}

impl Entry {
    fn finish(mut self, level: Level, target: &str) -> Vec<u8> {
        let message = std::mem::take(&mut self.message) + &self.fields;
        self.put("MESSAGE", &message);
        // syslog(3).
        let priority = match level {
            Level::ERROR => "3",
            Level::WARN => "4",
            Level::INFO => "6",
            Level::DEBUG | Level::TRACE => "7",
        };
        self.put("PRIORITY", priority);
        self.put("SYSLOG_IDENTIFIER", "portolan");
        self.put("PORTOLAN_TARGET", target);
        self.bytes
    }

    /// `shown` is for the text, `value` for the field of its own.
    fn record(&mut self, field: &Field, shown: &str, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.extend([" ", field.name(), "=", shown]);
            self.put(&format!("PORTOLAN_{}", field.name().to_ascii_uppercase()), value);
        }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.bytes.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            self.bytes.push(b'\n');
            self.bytes.extend_from_slice(&length.to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        // A text of others must not look like further fields.
        let quoted = format!("{value:?}");
        let is_plain = quoted.len() == value.len() + 2 && !value.contains([' ', '=']);
        self.record(field, if is_plain { value } else { &quoted }, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.record(field, &value, &value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::writer::{Target, Writer};
    use super::*;

    #[test]
    fn an_entry_has_a_text_for_people_and_fields_for_machines() {
        let mut entry = Entry { message: "relay closed".into(), fields: " node=a@b".into(), ..Entry::default() };
        entry.put("PORTOLAN_NODE", "a@b");
        let expected = "PORTOLAN_NODE=a@b\nMESSAGE=relay closed node=a@b\nPRIORITY=6\nSYSLOG_IDENTIFIER=portolan\n\
                        PORTOLAN_TARGET=portolan::close\n";
        assert_eq!(String::from_utf8(entry.finish(Level::INFO, "portolan::close")).unwrap(), expected);
    }

    /// What the journal is sent.
    #[derive(Clone, Default)]
    struct Sent(Arc<Mutex<Vec<u8>>>);

    impl Write for Sent {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(entry)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_text_of_others_does_not_look_like_further_fields() {
        let sent = Sent::default();
        let (lines, guard) = Writer::start(Target::Datagrams(sent.clone()));
        let subscriber = tracing_subscriber::registry().with(JournalLayer::new(lines));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(node = "a up=9", by = "client", "relay closed")
        });
        drop(guard);
        let sent = String::from_utf8(sent.0.lock().unwrap().clone()).unwrap();
        assert!(sent.starts_with("PORTOLAN_NODE=a up=9\nPORTOLAN_BY=client\n"), "{sent}");
        assert!(sent.contains("\nMESSAGE=relay closed node=\"a up=9\" by=client\n"), "{sent}");
    }

    #[test]
    fn a_value_of_several_lines_is_sent_with_its_length() {
        let mut entry = Entry::default();
        entry.put("MESSAGE", "a\nb");
        assert_eq!(entry.bytes, b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }
}
