//! A registrar of Ergo's that answers as the recorded one did, on a UDP port given by the kernel.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What Ergo 3.1.0 says of a node, before its routes and behind them.
const HEAD: &[u8] = b"\x83\0\x35#ergo.services/ergo/net/registrar/MessageResolveReply";
const VERSIONS: &[u8] = b"\0\x03EHS\0\x02R1\0\0\0\x03MIT\0\x03ENP\0\x02R1\0\0\0\x03MIT";

/// Routes on these ports at the host of the node's name.
pub fn routes(ports: &[u16]) -> Vec<u8> {
    let mut body = [HEAD, b"\x9d", &u32::try_from(ports.len()).unwrap().to_be_bytes()].concat();
    for port in ports {
        body.extend([&b"\0\0"[..], &port.to_be_bytes(), b"\0", VERSIONS].concat());
    }
    body.extend(b"\xff\xff");
    packet(&body)
}

pub fn unknown() -> Vec<u8> {
    refusal("unknown")
}

/// No route, and why.
pub fn refusal(error: &str) -> Vec<u8> {
    packet(&[HEAD, b"\xff", &u16::try_from(error.len()).unwrap().to_be_bytes(), error.as_bytes()].concat())
}

fn packet(body: &[u8]) -> Vec<u8> {
    [b"\x01\x2f", &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

/// What it sends when it is asked for a node.
type Says = Arc<dyn Fn(&str) -> Vec<Vec<u8>> + Send + Sync>;

/// A registrar that ends when this is dropped.
pub struct Registrar {
    port: u16,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    running: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Registrar {
    /// It says the same to everybody; an empty answer is lost on its way.
    pub fn saying(answer: Vec<u8>) -> Self {
        Self::new(always(answer))
    }

    /// It sends these, one after the other, when it is asked for a node.
    pub fn sending(says: impl Fn(&str) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::new(Arc::new(says))
    }

    fn new(says: Says) -> Self {
        let (says, asked) = (Arc::new(Mutex::new(says)), Arc::new(AtomicUsize::new(0)));
        let mut registrar = Self { port: 0, says, asked, running: None };
        registrar.restart();
        registrar
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn now_saying(&self, answer: Vec<u8>) {
        *self.says.lock().unwrap() = always(answer);
    }

    /// Its socket is gone with it.
    pub fn kill(&mut self) {
        let Some((ended, thread)) = self.running.take() else { return };
        ended.store(true, Ordering::SeqCst);
        // Wakes it.
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[], (Ipv4Addr::LOCALHOST, self.port)).unwrap();
        drop(thread.join());
    }

    /// Runs again, on the same port.
    pub fn restart(&mut self) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, self.port)).expect("the port was taken in the meantime");
        self.port = socket.local_addr().unwrap().port();
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, says, count) = (Arc::clone(&ended), Arc::clone(&self.says), Arc::clone(&self.asked));
        let thread = std::thread::spawn(move || {
            let mut question = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut question) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let node = node(&question[..length]);
                assert!(node.ends_with("@127.0.0.1"), "the whole name is asked for: {node}");
                let says = Arc::clone(&says.lock().unwrap());
                for answer in says(node).into_iter().filter(|answer| !answer.is_empty()) {
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        self.running = Some((ended, thread));
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.kill();
    }
}

fn always(answer: Vec<u8>) -> Says {
    Arc::new(move |_| vec![answer.clone()])
}

/// The name in a MessageResolveRoutes: what stands behind the type's name and two bytes of length.
fn node(question: &[u8]) -> &str {
    const BEFORE: usize = 4 + 1 + 2 + "#ergo.services/ergo/net/registrar/MessageResolveRoutes".len() + 2;
    std::str::from_utf8(&question[BEFORE..]).unwrap()
}
