//! How large and how deep a pattern may be for Go.

use super::bad::Fault;
use super::tree::{Node, Op};

/// How deep a tree may be.
const MOST_HEIGHT: u32 = 1000;
/// How many instructions of 40 bytes Go's program may have: 128 MiB.
const MOST_SIZE: i64 = (128 << 20) / 40;
/// How many characters the literals and classes may have together: 128 MiB.
const MOST_RUNES: usize = (128 << 20) / 4;
/// How often the innermost piece of nested repeats may be there.
const MOST_COPIES: u16 = 1000;

/// What has been counted. Go counts sizes and heights only once a pattern could have come near the limits, and so do we:
/// when the counting begins is part of what is refused.
#[derive(Debug)]
pub(super) struct Limits {
    /// Nodes that were made and not taken from those that had been given back.
    nodes: u32,
    runes: usize,
    /// The product of all repeats.
    repeats: i64,
    counts_size: bool,
    counts_height: bool,
    /// Nodes that were given back, the last one to be used first: what was counted for each stays with it, as in Go.
    free: Vec<Option<i64>>,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { nodes: 0, runes: 0, repeats: 1, counts_size: false, counts_height: false, free: Vec::new() }
    }

    /// A new node.
    pub(super) fn node(&mut self, op: Op) -> Node {
        let size = self.free.pop().unwrap_or_else(|| {
            self.nodes += 1;
            None
        });
        Node::new(op, size)
    }

    /// Gives a node back.
    pub(super) fn reuse(&mut self, node: &Node) {
        self.free.push(node.size);
    }

    pub(super) fn count_runes(&mut self, node: &Node) {
        self.runes += node.runes();
    }

    /// Whether a node that is new on top of the stack, or changed, keeps the limits.
    pub(super) fn check(&mut self, stack: &mut [Node], node: &mut Node) -> Result<(), Fault> {
        if self.runes > MOST_RUNES {
            return Err(Fault::Large);
        }
        self.check_size(stack, node)?;
        self.check_height(stack, node)
    }

    fn check_size(&mut self, stack: &mut [Node], node: &mut Node) -> Result<(), Fault> {
        if !self.counts_size {
            self.count_repeat(node);
            if i64::from(self.nodes) < MOST_SIZE / self.repeats {
                return Ok(());
            }
            self.counts_size = true;
            if stack.iter_mut().any(|below| size(below) > MOST_SIZE) {
                return Err(Fault::Large);
            }
        }
        if size(node) > MOST_SIZE { Err(Fault::Large) } else { Ok(()) }
    }

    fn count_repeat(&mut self, node: &Node) {
        if node.op == Op::Repeat {
            let times = i64::from(node.max.unwrap_or(node.min).max(1));
            self.repeats = if times > MOST_SIZE / self.repeats { MOST_SIZE } else { self.repeats * times };
        }
    }

    fn check_height(&mut self, stack: &mut [Node], node: &mut Node) -> Result<(), Fault> {
        if self.nodes < MOST_HEIGHT {
            return Ok(());
        }
        if !self.counts_height {
            self.counts_height = true;
            if stack.iter_mut().any(|below| height(below) > MOST_HEIGHT) {
                return Err(Fault::NestingDepth);
            }
        }
        if height(node) > MOST_HEIGHT { Err(Fault::NestingDepth) } else { Ok(()) }
    }
}

/// Counts the instructions of a node, and of what stands in it where that is not known yet.
fn size(node: &mut Node) -> i64 {
    let mut subs = 0;
    for sub in &mut node.subs {
        subs += sub.size.unwrap_or_else(|| size(sub));
    }
    let (min, max) = (i64::from(node.min), node.max.map(i64::from));
    let size = match node.op {
        Op::Literal => i64::try_from(node.literal.len()).unwrap_or(i64::MAX),
        Op::Capture | Op::Star => 2 + subs,
        Op::Plus | Op::Quest => 1 + subs,
        Op::Concat => subs,
        Op::Alternate => subs + i64::try_from(node.subs.len().saturating_sub(1)).unwrap_or(i64::MAX),
        Op::Repeat => match max {
            None if min == 0 => 2 + subs,
            None => 1 + min * subs,
            Some(max) => max * subs + max - min,
        },
        _ => 0,
    };
    let size = size.max(1);
    node.size = Some(size);
    size
}

/// Counts the levels of a node, and of what stands in it where that is not known yet.
fn height(node: &mut Node) -> u32 {
    let below = node.subs.iter_mut().map(|sub| sub.height.unwrap_or_else(|| height(sub))).max();
    let height = 1 + below.unwrap_or(0);
    node.height = Some(height);
    height
}

/// Whether nested repeats ask for at most 1000 copies of the innermost piece.
pub(super) fn repeats_are_few(node: &Node) -> bool {
    fn within(node: &Node, mut most: u16) -> bool {
        if node.op == Op::Repeat {
            match node.max.unwrap_or(node.min) {
                0 if node.max.is_some() => return true,
                0 => {}
                times if times > most => return false,
                times => most /= times,
            }
        }
        node.subs.iter().all(|sub| within(sub, most))
    }
    within(node, MOST_COPIES)
}
