//! Both sides write, wait and end in any order: all of it arrives, in order, and is counted.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::pattern;
use super::peers::{KINDS, Peer};
use super::ways::every_way;
use crate::close::End;

/// One step of a side's script.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Yield(u8),
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1usize..2000).prop_map(Step::Write),
        (60_000usize..200_000).prop_map(Step::Write),
        (1u8..20).prop_map(Step::Yield),
    ];
    prop::collection::vec(step, 0..12)
}

/// Plays a script and ends; gives what was read meanwhile and after.
async fn play(peer: Peer, script: &[Step]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(peer);
    let mut received = Vec::new();
    let send = async {
        for step in script {
            match *step {
                Step::Write(len) => write.write_all(&pattern(len)).await.unwrap(),
                Step::Yield(times) => {
                    for _ in 0..times {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
        write.shutdown().await.unwrap();
    };
    let receive = async { read.read_to_end(&mut received).await.unwrap() };
    tokio::join!(send, receive);
    received
}

/// What a script writes.
fn written(script: &[Step]) -> Vec<u8> {
    let len = |step: &Step| if let Step::Write(len) = step { *len } else { 0 };
    script.iter().map(len).flat_map(pattern).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn whatever_is_written_before_an_end_arrives(
        case in prop::sample::select(every_way(KINDS).collect::<Vec<_>>()),
        up in script(),
        down in script(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (to_client, to_upstream, closed) = runtime.block_on(async {
            let (client, upstream, relay) = case.connect().await;
            let (to_client, to_upstream) = tokio::join!(play(client, &up), play(upstream, &down));
            (to_client, to_upstream, relay.await.unwrap())
        });
        prop_assert!(to_upstream == written(&up));
        prop_assert!(to_client == written(&down));
        prop_assert_eq!((closed.up, closed.down), (to_upstream.len() as u64, to_client.len() as u64));
        prop_assert!(matches!(closed.end, End::Finished(_)));
    }
}
