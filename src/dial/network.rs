//! One attempt at one candidate: name lookup, TCP, TLS handshake.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::eyeballs::Eyeballs;
use super::tries::{Tries, Which};
use super::{DialError, OwnLeases, Stage, names, tcp};
use crate::plan::Candidate;
use crate::route::Host;
use crate::stream::Stream;

/// How attempts are made; tests have one of their own.
pub(super) trait Network: fmt::Debug + Send + Sync {
    /// An attempt at a candidate; `None` when it has failed, and `tries` knows why. It has no bound in time.
    fn dial(&self, candidate: &Candidate, tries: Arc<Tries>) -> Dialing;
}

/// An attempt under way; dropping it ends it.
pub(super) type Dialing = Pin<Box<dyn Future<Output = Option<Up>> + Send>>;

/// An upstream that is up.
#[derive(Debug)]
pub(super) struct Up {
    /// The connection, with its TLS handshake done.
    pub(super) stream: Stream,
    /// The address at its other end.
    pub(super) address: SocketAddr,
}

/// The sockets of this machine, and which of them are the daemon's own leases.
#[derive(Debug)]
pub(super) struct Sockets(pub(super) Arc<OwnLeases>);

impl Network for Sockets {
    fn dial(&self, candidate: &Candidate, tries: Arc<Tries>) -> Dialing {
        let (candidate, own) = (candidate.clone(), Arc::clone(&self.0));
        Box::pin(async move {
            let upstream = candidate.upstream();
            match &upstream.host {
                Host::Ip(ip) => dial_address(&candidate, SocketAddr::new(*ip, upstream.port), &own, &tries).await,
                // In a box: most upstreams are addresses, and do not make room for it.
                Host::Name(name) => Box::pin(dial_name(&candidate, name, own, &tries)).await,
            }
        })
    }
}

async fn dial_address(candidate: &Candidate, address: SocketAddr, own: &OwnLeases, tries: &Tries) -> Option<Up> {
    let this = tries.begin(Stage::Tcp, Some(address));
    match tcp::connect(address, candidate.course.settings(), own).await {
        Ok(tcp) => secure(candidate, tcp, address, tries, this).await,
        Err(error) => {
            tries.fail(this, error);
            None
        }
    }
}

/// The addresses of a name race for TCP; TLS is spoken to the first that is up, and if that fails or is silent the
/// others go on (RFC 8305, section 5). One that is silent is given up only for another that is up.
async fn dial_name(candidate: &Candidate, name: &str, own: Arc<OwnLeases>, tries: &Tries) -> Option<Up> {
    let lookup = tries.begin(Stage::Limit, None);
    let (port, last_good) = (candidate.upstream().port, candidate.health.last_good());
    let course = candidate.course.clone();
    let connect = move |address| {
        let (course, own) = (course.clone(), Arc::clone(&own));
        Box::pin(async move { tcp::connect(address, course.settings(), &own).await }) as _
    };
    let lookups = names::addresses(name).await;
    tries.reach(lookup, Stage::Dns);
    let mut eyeballs = Eyeballs::new(lookups, port, connect).beginning_with(last_good);
    let mut next = eyeballs.next(lookup, tries).await;
    while let Some((tcp, address, this)) = next {
        let mut securing = pin!(secure(candidate, tcp, address, tries, this));
        let secured = match timeout(silence(candidate), &mut securing).await {
            Ok(up) => Ok(up),
            Err(_elapsed) => secured_or_another(securing, &mut eyeballs, lookup, tries).await,
        };
        next = match secured {
            Ok(Some(up)) => return Some(up),
            Ok(None) => eyeballs.next(lookup, tries).await,
            Err(another) => {
                tries.fail(this, DialError::TimedOut);
                Some(another)
            }
        };
    }
    None
}

/// Waits for the address that TLS is spoken to, as long as no other one is up; once it has answered, for it alone.
async fn secured_or_another(
    mut securing: Pin<&mut impl Future<Output = Option<Up>>>,
    eyeballs: &mut Eyeballs<TcpStream>,
    lookup: Which,
    tries: &Tries,
) -> Result<Option<Up>, (TcpStream, SocketAddr, Which)> {
    let (mut another, mut is_last) = (pin!(eyeballs.next(lookup, tries)), false);
    poll_fn(|cx| {
        if let Poll::Ready(up) = securing.as_mut().poll(cx) {
            return Poll::Ready(Ok(up));
        }
        if is_last || tries.has_answered() {
            return Poll::Pending;
        }
        let Some(another) = ready!(another.as_mut().poll(cx)) else {
            is_last = true;
            return Poll::Pending;
        };
        Poll::Ready(Err(another))
    })
    .await
}

/// How long an address may be silent under TLS when its name has others: half of the time after which the whole name is
/// overtaken, so that one bad address does not take it from the good ones.
fn silence(candidate: &Candidate) -> Duration {
    candidate.patience() / 2
}

/// Who the client is and the TLS handshake, if the route wants them.
async fn secure(
    candidate: &Candidate,
    mut tcp: TcpStream,
    address: SocketAddr,
    tries: &Tries,
    this: Which,
) -> Option<Up> {
    if let Some(preface) = &candidate.preface
        && let Err(error) = tcp::introduce(&mut tcp, preface).await
    {
        tries.fail(this, error);
        return None;
    }
    let Some(policy) = candidate.health.tls() else { return Some(Up { stream: Stream::Tcp(tcp), address }) };
    tries.reach(this, Stage::Tls);
    let certified = candidate.certified.as_deref().map(|name| Host::Name(name.into()));
    let host = certified.as_ref().unwrap_or(&candidate.upstream().host);
    // Every policy of a table is opened before the table is in force.
    let done = match &candidate.trust {
        // In a box: a plain dial does not make room for it.
        Some(trust) => Box::pin(trust.handshake(policy, host, tcp, || tries.answer())).await,
        None => Err(DialError::Tls("its files were never opened".to_owned())),
    };
    match done {
        Ok(tls) => Some(Up { stream: Stream::Tls(Box::new(tls)), address }),
        Err(error) => {
            tries.fail(this, error);
            None
        }
    }
}
