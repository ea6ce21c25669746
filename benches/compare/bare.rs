//! The least that a proxy can do for a connection: bare epoll, and no call that the bytes do not need. It checks nothing,
//! bounds nothing in time, and drops what a slow peer does not take at once. It shows what the kernel alone costs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, connect, listen, recv, send,
    socket_with, sockopt,
};

const BUFFER: usize = 64 << 10;
const EVENTS: usize = 256;
const BACKLOG: i32 = 4096;
const AT_ONCE: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A client and its upstream.
type Pair = [OwnedFd; 2];

/// `UNIX TCP UPSTREAM`, with a thread for each core: relays until it is ended.
pub(crate) fn run(unix: &str, tcp: &str, upstream: &str) {
    let upstream = upstream.parse().unwrap();
    let unix = UnixListener::bind(Path::new(unix)).unwrap();
    let tcp = TcpListener::bind(tcp.parse::<SocketAddr>().unwrap()).unwrap();
    let doors = [OwnedFd::from(unix), OwnedFd::from(tcp)];
    for door in &doors {
        listen(door, BACKLOG).unwrap();
        rustix::io::ioctl_fionbio(door, true).unwrap();
    }
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| Worker::new(&doors, upstream).run().unwrap());
        }
    });
}

struct Worker<'a> {
    doors: &'a [OwnedFd; 2],
    upstream: SocketAddr,
    epoll: OwnedFd,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
}

impl<'a> Worker<'a> {
    fn new(doors: &'a [OwnedFd; 2], upstream: SocketAddr) -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        for (number, door) in doors.iter().enumerate() {
            // One of the threads that wait is woken.
            epoll::add(&epoll, door, data(number), EventFlags::IN | EventFlags::EXCLUSIVE).unwrap();
        }
        Self { doors, upstream, epoll, pairs: Vec::new(), free: Vec::new() }
    }

    fn run(&mut self) -> io::Result<()> {
        let (mut buffer, mut events) = (vec![0; BUFFER], Vec::with_capacity(EVENTS));
        loop {
            events.clear();
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                let number = usize::try_from(event.data.u64()).unwrap();
                match self.doors.get(number) {
                    Some(door) => self.accept(door)?,
                    None => self.relay(number - self.doors.len(), &mut buffer),
                }
            }
        }
    }

    fn accept(&mut self, door: &OwnedFd) -> io::Result<()> {
        let Ok(client) = accept_with(door, AT_ONCE) else { return Ok(()) };
        let upstream = socket_with(AddressFamily::INET, SocketType::STREAM, AT_ONCE, None)?;
        sockopt::set_tcp_nodelay(&upstream, true)?;
        match connect(&upstream, &self.upstream) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pairs.push(None);
            self.pairs.len() - 1
        });
        for (side, end) in [&client, &upstream].into_iter().enumerate() {
            epoll::add(&self.epoll, end, data(self.doors.len() + 2 * slot + side), EventFlags::IN)?;
        }
        self.pairs[slot] = Some([client, upstream]);
        Ok(())
    }

    /// Sends on what one end of a pair has; at its end both are closed.
    fn relay(&mut self, end: usize, buffer: &mut [u8]) {
        let (slot, side) = (end / 2, end % 2);
        // An event of the pair before may come behind its close.
        let Some(pair) = &self.pairs[slot] else { return };
        let (from, to) = (pair[side].as_fd(), pair[1 - side].as_fd());
        let sent = match recv(from, &mut *buffer, RecvFlags::empty()) {
            Err(Errno::AGAIN) => return,
            Ok((read @ 1.., _)) => send(to, &buffer[..read], SendFlags::NOSIGNAL).is_ok(),
            Ok(_) | Err(_) => false,
        };
        if !sent {
            self.pairs[slot] = None;
            self.free.push(slot);
        }
    }
}

fn data(number: usize) -> EventData {
    EventData::new_u64(number as u64)
}
