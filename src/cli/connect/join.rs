//! Two streams become one: input to the node, the node to output, half-close kept.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::Failure;

/// How long an input may be silent once the node has ended. Many a client keeps its end open until ours closes, so
/// waiting for it would last for ever; but a file that is half sent must arrive.
const SILENCE: Duration = Duration::from_millis(500);

/// Bytes that move at once.
const CHUNK: usize = 64 << 10;

/// Goes on until both sides have ended, or the node has and the input is silent. `tail` is output first.
pub(super) async fn join<I, O>(stream: UnixStream, tail: &[u8], input: I, output: O) -> Result<(), Failure>
where
    I: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    let (from_node, to_node) = stream.into_split();
    let (node_ended, node_has_ended) = watch::channel(false);
    let down = async {
        let received = receive(from_node, tail, output).await;
        node_ended.send_replace(true);
        received
    };
    let (sent, ()) = tokio::try_join!(send(input, to_node, node_has_ended), down)?;
    sent.map_err(Failure::Cut)
}

/// Input to the node; its end is passed on. If the node takes no more, that is told after what it still has to say,
/// hence the `Result` inside.
async fn send<I, N>(mut input: I, mut node: N, mut node_ended: watch::Receiver<bool>) -> Result<io::Result<()>, Failure>
where
    I: AsyncRead + Unpin,
    N: AsyncWrite + Unpin,
{
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = input.read(&mut chunk) => read.map_err(|error| Failure::Local("read stdin", error))?,
            () = silence_after(&mut node_ended) => return Ok(Ok(())),
        };
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            // It fails only if the node is gone, which the other direction shows.
            return Ok(node.shutdown().await.or(Ok(())));
        };
        if let Err(error) = node.write_all(bytes).await {
            return Ok(Err(error));
        }
    }
}

async fn silence_after(node_ended: &mut watch::Receiver<bool>) {
    // An error means that the other direction is no more, which ends this one as well.
    drop(node_ended.wait_for(|ended| *ended).await);
    tokio::time::sleep(SILENCE).await;
}

/// The node to output.
async fn receive<N, O>(mut node: N, tail: &[u8], mut output: O) -> Result<(), Failure>
where
    N: AsyncRead + Unpin,
    O: AsyncWrite + Unpin,
{
    output.write_all(tail).await.map_err(output_failed)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = node.read(&mut chunk).await.map_err(Failure::Cut)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return output.flush().await.map_err(output_failed);
        };
        output.write_all(bytes).await.map_err(output_failed)?;
        // tokio's stdout writes in the background; without this, a failure would show one chunk late.
        output.flush().await.map_err(output_failed)?;
    }
}

fn output_failed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputGone,
        _ => Failure::Local("write stdout", error),
    }
}
