//! The question for a forward of one's own.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::ConnectError;
use super::ask::{no_answer, read_body, read_head, refusal};
use crate::node::NodeName;
use crate::request::{LEASE_PATH, LeaseView};

/// Asks, and waits for the answer.
pub(super) async fn ask(stream: &mut UnixStream, node: &NodeName) -> Result<LeaseView, ConnectError> {
    // A daemon that is full may answer and close before it reads: its answer is what counts, not this error.
    let _answer_counts = stream.write_all(written(node).as_bytes()).await;
    let (head, tail) = read_head(stream, &mut None).await?;
    if !matches!(head.status, 200 | 201) {
        return Err(refusal(stream, &head, tail).await);
    }
    let body = read_body(stream, &head, tail).await;
    serde_json::from_slice(&body).map_err(|error| no_answer(format!("its answer is no lease: {error}")))
}

fn written(node: &NodeName) -> String {
    let body = json!({ "node": node.as_str() }).to_string();
    let length = body.len();
    let kind = "Content-Type: application/json";
    format!("POST {LEASE_PATH} HTTP/1.1\r\nHost: portolan\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{HeadReader, Step};

    #[test]
    fn the_daemon_reads_what_the_client_writes() {
        let node = NodeName::parse("м/a b%?\"\\@[fd00::1]:1").unwrap();
        assert_eq!(HeadReader::new().advance(written(&node).as_bytes()), Ok(Step::Lease(node)));
    }
}
