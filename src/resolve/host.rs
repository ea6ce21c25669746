//! A service that is asked at the host part of a node's name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::NoAnswer;
use crate::dial::{DialError, all};

/// How long an address may take before the next one of the host is asked instead.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the host is, and its name if that had to be looked up.
pub(super) async fn addresses_of(host: &str) -> Result<(Vec<IpAddr>, Option<Arc<str>>), NoAnswer> {
    if let Ok(ip) = host.parse() {
        return Ok((vec![ip], None));
    }
    match all(host).await {
        Ok(addresses) => Ok((addresses, Some(host.into()))),
        Err(DialError::NameNotFound) => Err(NoAnswer::NotAskable(format!("its host `{host}` is not found"))),
        Err(error) => Err(NoAnswer::Away(format!("its host `{host}`: {error}"))),
    }
}

/// What the first address says where such a service is. The node is there, too: another one may be another machine.
pub(super) async fn first_to_answer<T, F: Future<Output = Result<T, NoAnswer>>>(
    addresses: &[IpAddr],
    ask: impl Fn(IpAddr) -> F,
) -> Result<(IpAddr, T), NoAnswer> {
    let mut failure = NoAnswer::TimedOut;
    for (left, ip) in (0..addresses.len()).rev().zip(addresses) {
        let patience = if left == 0 { Duration::MAX } else { PATIENCE };
        match timeout(patience, ask(*ip)).await {
            Ok(Ok(answer)) => return Ok((*ip, answer)),
            Ok(Err(no)) if no.is_certain() => return Err(no),
            Ok(Err(error)) => failure = error,
            Err(_silence) => failure = NoAnswer::TimedOut,
        }
    }
    Err(failure)
}
