//! Alternatives with a common beginning become one piece, as in Go; its limits count what is left.

use super::bad::Fault;
use super::limits::Limits;
use super::tree::{Node, Op};

/// A concatenation or alternation of these pieces; pieces of the same kind are spread, so that none holds another.
pub(super) fn collapse(limits: &mut Limits, stack: &mut [Node], mut subs: Vec<Node>, op: Op) -> Result<Node, Fault> {
    if subs.len() == 1
        && let Some(only) = subs.pop()
    {
        return Ok(only);
    }
    let mut node = limits.node(op);
    for sub in subs {
        if sub.op == op {
            limits.reuse(&sub);
            node.subs.extend(sub.subs);
        } else {
            node.subs.push(sub);
        }
    }
    if op == Op::Alternate {
        let mut factored = factor(limits, stack, std::mem::take(&mut node.subs))?;
        match (factored.pop(), factored.is_empty()) {
            (Some(only), true) => {
                limits.reuse(&node);
                return Ok(only);
            }
            (last, _) => factored.extend(last),
        }
        node.subs = factored;
    }
    Ok(node)
}

/// `abc|abd|aef|bcx|bcy` becomes `a(?:b[cd]|ef)|bc[xy]`.
fn factor(limits: &mut Limits, stack: &mut [Node], subs: Vec<Node>) -> Result<Vec<Node>, Fault> {
    if subs.len() < 2 {
        return Ok(subs);
    }
    let subs = common_literals(limits, stack, subs)?;
    let subs = common_classes(limits, stack, subs)?;
    let mut subs = single_characters(limits, subs);
    subs.dedup_by(|next, last| next.op == Op::EmptyMatch && last.op == Op::EmptyMatch);
    Ok(subs)
}

/// Runs of alternatives that begin with the same literal characters.
fn common_literals(limits: &mut Limits, stack: &mut [Node], subs: Vec<Node>) -> Result<Vec<Node>, Fault> {
    let mut out = Vec::with_capacity(subs.len());
    let mut subs = subs.into_iter().peekable();
    while let Some(first) = subs.next() {
        let (literal, fold_case) = leading_literal(&first);
        let mut literal = literal.to_vec();
        let mut run = vec![first];
        while let Some(next) = subs.next_if(|next| {
            let (others, also_folds) = leading_literal(next);
            let same = literal.iter().zip(others).take_while(|(one, two)| one == two).count();
            let joins = same > 0 && fold_case == also_folds;
            if joins {
                literal.truncate(same);
            }
            joins
        }) {
            run.push(next);
        }
        if run.len() == 1 {
            out.append(&mut run);
            continue;
        }
        let mut prefix = limits.node(Op::Literal);
        prefix.flags.fold_case = fold_case;
        prefix.literal = literal;
        let mut rests = Vec::with_capacity(run.len());
        for sub in run {
            let mut rest = without_literal(limits, sub, prefix.literal.len());
            limits.check(stack, &mut rest)?;
            rests.push(rest);
        }
        out.push(joined(limits, stack, prefix, rests)?);
    }
    Ok(out)
}

/// Runs of alternatives that begin with the same character class, or a fixed number of them. What is more complex keeps
/// its own way through the program.
fn common_classes(limits: &mut Limits, stack: &mut [Node], subs: Vec<Node>) -> Result<Vec<Node>, Fault> {
    let mut out = Vec::with_capacity(subs.len());
    let mut subs = subs.into_iter().peekable();
    while let Some(first) = subs.next() {
        let mut run = Vec::new();
        while let Some(next) = subs.next_if(|next| {
            leading_node(&first)
                .is_some_and(|one| leading_node(next).is_some_and(|two| one.equals(two)) && is_fixed(one))
        }) {
            run.push(next);
        }
        if run.is_empty() {
            out.push(first);
            continue;
        }
        let (prefix, mut rest) = split_leading(limits, first, false);
        limits.check(stack, &mut rest)?;
        let mut rests = vec![rest];
        for sub in run {
            let (_, mut rest) = split_leading(limits, sub, true);
            limits.check(stack, &mut rest)?;
            rests.push(rest);
        }
        out.push(joined(limits, stack, prefix, rests)?);
    }
    Ok(out)
}

/// Runs of single characters and classes become one class.
fn single_characters(limits: &mut Limits, subs: Vec<Node>) -> Vec<Node> {
    let mut out = Vec::with_capacity(subs.len());
    let mut subs = subs.into_iter().peekable();
    while let Some(first) = subs.next() {
        let is_class = first.is_char_class();
        let mut run = vec![first];
        while let Some(next) = subs.next_if(|next| is_class && next.is_char_class()) {
            run.push(next);
        }
        if run.len() > 1 {
            let complexity = |node: &Node| (node.op, node.runes());
            // The first of the most complex ones, as in Go.
            let most = run.iter().enumerate().rev().max_by_key(|(_, node)| complexity(node)).map_or(0, |(at, _)| at);
            run.swap(0, most);
            let mut rest = run.into_iter();
            if let Some(mut class) = rest.next() {
                for sub in rest {
                    class.merge_class(&sub);
                    limits.reuse(&sub);
                }
                class.clean_class();
                out.push(class);
            }
        } else {
            out.append(&mut run);
        }
    }
    out
}

/// `prefix(?:rest|rest|...)`
fn joined(limits: &mut Limits, stack: &mut [Node], prefix: Node, rests: Vec<Node>) -> Result<Node, Fault> {
    let suffix = collapse(limits, stack, rests, Op::Alternate)?;
    let mut node = limits.node(Op::Concat);
    node.subs = vec![prefix, suffix];
    Ok(node)
}

/// The literal that a piece begins with, and whether its case is ignored.
fn leading_literal(node: &Node) -> (&[u32], bool) {
    let first = if node.op == Op::Concat { node.subs.first().unwrap_or(node) } else { node };
    if first.op == Op::Literal { (&first.literal, first.flags.fold_case) } else { (&[], false) }
}

fn without_literal(limits: &mut Limits, mut node: Node, count: usize) -> Node {
    match node.op {
        Op::Concat if !node.subs.is_empty() => {
            let first = without_literal(limits, node.subs.remove(0), count);
            if first.op != Op::EmptyMatch {
                node.subs.insert(0, first);
                return node;
            }
            limits.reuse(&first);
            only_sub(limits, node)
        }
        Op::Literal => {
            node.literal.drain(..count.min(node.literal.len()));
            if node.literal.is_empty() {
                node.op = Op::EmptyMatch;
            }
            node
        }
        _ => node,
    }
}

/// What a piece begins with, if anything.
fn leading_node(node: &Node) -> Option<&Node> {
    let first = if node.op == Op::Concat { node.subs.first().unwrap_or(node) } else { node };
    (first.op != Op::EmptyMatch).then_some(first)
}

/// Whether it is a character class, or a fixed number of one.
fn is_fixed(node: &Node) -> bool {
    let is_counted = node.op == Op::Repeat && node.max == Some(node.min);
    node.is_char_class() || is_counted && node.subs.iter().all(Node::is_char_class)
}

/// What a piece begins with, which is given back with `reuse`, and the rest.
fn split_leading(limits: &mut Limits, mut node: Node, reuse: bool) -> (Node, Node) {
    let leading = if node.op == Op::Concat && !node.subs.is_empty() { Some(node.subs.remove(0)) } else { None };
    let Some(leading) = leading else {
        if reuse {
            limits.reuse(&node);
        }
        return (node, limits.node(Op::EmptyMatch));
    };
    if reuse {
        limits.reuse(&leading);
    }
    (leading, only_sub(limits, node))
}

/// A concatenation that has lost a piece: the piece itself when one is left.
fn only_sub(limits: &mut Limits, mut node: Node) -> Node {
    if node.subs.len() > 1 {
        return node;
    }
    match node.subs.pop() {
        Some(only) => {
            limits.reuse(&node);
            only
        }
        None => {
            node.op = Op::EmptyMatch;
            node
        }
    }
}
