//! The thread that writes the log. Whoever logs puts a line into a queue and goes on.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait. Whoever finds the queue full, or its bytes too many, loses the line and goes on.
const MOST_LINES: usize = 16 * 1024;
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// How long the thread naps after it has written. Lines that come meanwhile wake nobody and are written together: a
/// daemon under load would else wake the thread for each of them, which costs more than writing it.
const NAP: Duration = Duration::from_millis(5);

/// The most bytes of one write to a stream, but for a line that is longer.
const BATCH: usize = 64 * 1024;

/// Where lines go.
pub(super) enum Target<W> {
    /// One after the other: several may go in one write.
    Stream(W),
    /// Each by itself.
    Datagrams(W),
}

/// The end at which lines are put in.
#[derive(Clone)]
pub(super) struct Lines(Arc<Queue>);

/// The thread that writes. Its drop waits for the lines that are queued, but not for a reader who never reads.
pub(super) struct Writer {
    queue: Arc<Queue>,
    ended: mpsc::Receiver<()>,
}

struct Queue {
    lines: ArrayQueue<Box<[u8]>>,
    bytes: AtomicUsize,
    /// Lines that found no place, or that the file or the journal did not take.
    lost: AtomicUsize,
    thread: OnceLock<Thread>,
    /// The thread waits to be woken.
    is_asleep: AtomicBool,
    is_over: AtomicBool,
}

impl Writer {
    /// How long its drop waits.
    const LAST_LINES: Duration = Duration::from_secs(1);

    /// Starts the thread. Without one to be had the queue fills, and every line after that is lost.
    pub(super) fn start(target: Target<impl Write + Send + 'static>) -> (Lines, Self) {
        let queue = Arc::new(Queue {
            lines: ArrayQueue::new(MOST_LINES),
            bytes: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            thread: OnceLock::new(),
            is_asleep: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let (end, ended) = mpsc::channel::<()>();
        let its_queue = Arc::clone(&queue);
        let write = move || {
            its_queue.write_to(target);
            drop(end);
        };
        drop(thread::Builder::new().name("log".to_owned()).spawn(write));
        (Lines(Arc::clone(&queue)), Self { queue, ended })
    }

    /// Lines that were lost.
    pub(super) fn lost(&self) -> usize {
        self.queue.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.is_over.store(true, Ordering::SeqCst);
        self.queue.wake();
        // Nothing is ever sent: the thread drops the sender when it ends.
        self.ended.recv_timeout(Self::LAST_LINES).ok();
    }
}

impl Queue {
    fn put(&self, line: &[u8]) {
        let before = self.bytes.fetch_add(line.len(), Ordering::Relaxed);
        if before + line.len() > MOST_BYTES || self.lines.push(line.into()).is_err() {
            self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // Behind the line: the thread says that it sleeps first and looks at the queue then, so that one of the two
        // sees the other.
        if self.is_asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn write_to(&self, mut target: Target<impl Write>) {
        self.thread.get_or_init(thread::current);
        let mut batch = Vec::new();
        loop {
            // Asked first: what was put in before the end is written.
            let is_over = self.is_over.load(Ordering::SeqCst);
            let mut wrote = false;
            while let Some(line) = self.lines.pop() {
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                self.lost.fetch_add(target.take(&line, &mut batch), Ordering::Relaxed);
                wrote = true;
            }
            self.lost.fetch_add(target.flush(&mut batch), Ordering::Relaxed);
            if is_over {
                return;
            }
            if wrote {
                thread::park_timeout(NAP);
                continue;
            }
            self.is_asleep.store(true, Ordering::SeqCst);
            if self.lines.is_empty() && !self.is_over.load(Ordering::SeqCst) {
                thread::park();
            }
            self.is_asleep.store(false, Ordering::SeqCst);
        }
    }
}

impl<W: Write> Target<W> {
    /// Writes a line, now or with the next ones; says how many lines were lost.
    fn take(&mut self, line: &[u8], batch: &mut Vec<u8>) -> usize {
        match self {
            Self::Datagrams(socket) => usize::from(socket.write_all(line).is_err()),
            Self::Stream(_) => {
                let lost = if batch.len() + line.len() > BATCH { self.flush(batch) } else { 0 };
                batch.extend_from_slice(line);
                lost
            }
        }
    }

    /// Writes what is left; says how many lines were lost.
    fn flush(&mut self, batch: &mut Vec<u8>) -> usize {
        let (Self::Stream(target) | Self::Datagrams(target)) = self;
        let lost = if target.write_all(batch).is_err() { lines_of(batch) } else { 0 };
        batch.clear();
        lost
    }
}

fn lines_of(batch: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', batch).count()
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_full_disk_loses_lines_and_counts_them() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (lines, writer) = Writer::start(Target::Stream(full));
        for _ in 0..3 {
            (&lines).write_all(b"a line\n").unwrap();
        }
        let queue = Arc::clone(&writer.queue);
        drop(writer);
        assert_eq!(queue.lost.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn every_line_is_written_in_order() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (lines, writer) = Writer::start(Target::Stream(file.reopen().unwrap()));
        let text: Vec<String> = (0..10_000).map(|line| format!("line {line}\n")).collect();
        text.iter().for_each(|line| (&lines).write_all(line.as_bytes()).unwrap());
        drop(writer);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text.concat());
    }

    #[test]
    fn a_line_needs_no_other_to_be_written() {
        let (mut read, write) = std::io::pipe().unwrap();
        let (lines, _writer) = Writer::start(Target::Stream(write));
        for round in 0..100u32 {
            let line = format!("line {round:04}\n");
            (&lines).write_all(line.as_bytes()).unwrap();
            let mut written = [0; 10];
            read.read_exact(&mut written).unwrap();
            assert_eq!(written, *line.as_bytes());
        }
    }

    #[test]
    fn who_logs_never_waits_for_a_reader() {
        let (_reader, pipe) = std::io::pipe().unwrap();
        let (lines, writer) = Writer::start(Target::Stream(pipe));
        let line = [b'x'; 1024];
        for _ in 0..2 * MOST_BYTES / line.len() {
            (&lines).write_all(&line).unwrap();
        }
        assert!(writer.lost() > 0);
        assert!(writer.queue.bytes.load(Ordering::Relaxed) <= MOST_BYTES);
    }
}
