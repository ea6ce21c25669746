//! The transactions that put a table in the place of another. They are made here and run elsewhere.
//!
//! A few differences are one transaction on the set in force. More are a new set, written beside it transaction by
//! transaction under a stage key that ends with its writer, and one last transaction that points the head at it. Either
//! holds only if nobody else has pushed in between.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::keys::{Before, Digest, FORMAT, Head, Id, Keys, SetName, Written, range_end};
use crate::admin::view::RouteSpec;
use crate::etcd::{Compare, Op, Txn};

/// A transaction holds no more: etcd's bound is 128 operations, those of its comparisons not among them.
const MAX_OPS: usize = 100;

/// And no more bytes of keys and values: etcd's bound is 1.5 MiB.
const MAX_BYTES: usize = 1 << 20;

/// Orders are so far apart at first: there is room between two for 20 routes in the worst of orders.
const STEP: u64 = 1 << 20;

/// What was pushed last, read at one revision.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What stands under `.head`, and the revision at which it was put there.
    pub head: Option<(Head, i64)>,
    /// The values of its set.
    pub values: BTreeMap<Id, String>,
}

/// What a push is called.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The name of a set that there never was.
    pub set: SetName,
    /// RFC 3339, UTC.
    pub at: String,
    /// `user@host`
    pub by: String,
}

/// What a push does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// The table is in force already.
    Nothing,
    /// One transaction on the set in force.
    Change(Differences, Txn),
    /// A new set.
    Switch {
        /// To the set in force.
        differences: Differences,
        /// The key that says that the set is being written; it is put first, and is to end with its writer.
        stage: String,
        /// Its routes.
        fill: Vec<Txn>,
        /// What puts it in force.
        switch: Txn,
    },
}

/// How many routes are new, gone, and other than before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Differences {
    /// New.
    pub added: usize,
    /// Gone.
    pub removed: usize,
    /// Say something else, or stand elsewhere.
    pub changed: usize,
}

/// A route that no transaction can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the route `{pattern}` takes {bytes} bytes, and a shared route at most 524288")]
pub struct TooLarge {
    /// Its pattern.
    pub pattern: String,
    /// Its size.
    pub bytes: usize,
}

/// What stands under `.undo`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Undo {
    /// Of the set that it takes something back from.
    digest: Digest,
    /// What each route was; null: it was not there.
    values: BTreeMap<Id, Option<String>>,
}

/// Where the routes of a table stand.
#[derive(Debug)]
pub struct Order;

impl Order {
    /// A number for each route, strictly ascending. `before` has the numbers that they had in the table in force: as many
    /// as can keep theirs. The others go into the gaps; where one is too small, all are numbered anew.
    pub fn assign(before: &[Option<u64>]) -> Vec<u64> {
        let kept = longest_run(before);
        let mut orders = Vec::with_capacity(before.len());
        let mut last = 0;
        let ends = kept.iter().map(|&(at, order)| (at, Some(order))).chain([(before.len(), None)]);
        for (at, order) in ends {
            let new = u64::try_from(at - orders.len()).unwrap_or(u64::MAX);
            let step = order.map_or(STEP, |order| ((order - last) / (new.saturating_add(1))).min(STEP));
            if new > 0 && step == 0 || last.checked_add(STEP.saturating_mul(new)).is_none_or(|end| end > Self::MAX) {
                return (1..).map(|nth: u64| nth * STEP).take(before.len()).collect();
            }
            orders.extend((1..=new).map(|nth| last + nth * step));
            orders.extend(order);
            last = order.unwrap_or(last);
        }
        orders
    }

    /// No number is larger.
    pub const MAX: u64 = (1 << 61) - 1;
}

/// The places and numbers of as many as there can be that ascend: patience sorting.
fn longest_run(orders: &[Option<u64>]) -> Vec<(usize, u64)> {
    // The last of the best run of each length, and for each place the one before it in its run.
    let mut ends: Vec<(usize, u64)> = Vec::new();
    let mut before: Vec<Option<(usize, u64)>> = vec![None; orders.len()];
    for (at, order) in orders.iter().enumerate() {
        let Some(order) = order.filter(|order| (1..=Order::MAX).contains(order)) else { continue };
        let len = ends.partition_point(|(_, end)| *end < order);
        if let Some(link) = before.get_mut(at) {
            *link = len.checked_sub(1).and_then(|last| ends.get(last).copied());
        }
        match ends.get_mut(len) {
            Some(end) => *end = (at, order),
            None => ends.push((at, order)),
        }
    }
    let mut run: Vec<_> =
        std::iter::successors(ends.last().copied(), |(at, _)| before.get(*at).copied().flatten()).collect();
    run.reverse();
    run
}

/// What puts these routes, in their order, in the place of what was published. No two have the same pattern.
pub fn plan(keys: &Keys, published: &Published, routes: &[RouteSpec], stamp: Stamp) -> Result<Plan, TooLarge> {
    plan_within(MAX_OPS, keys, published, routes, stamp)
}

pub(super) fn plan_within(
    max_ops: usize,
    keys: &Keys,
    published: &Published,
    routes: &[RouteSpec],
    stamp: Stamp,
) -> Result<Plan, TooLarge> {
    let ids: Vec<_> = routes.iter().map(|route| Id::of(&route.pattern)).collect();
    let before = |id| serde_json::from_str(published.values.get(id)?).ok().map(|pushed: Written| pushed.order);
    let orders = Order::assign(&ids.iter().map(before).collect::<Vec<_>>());
    let mut values = BTreeMap::new();
    for ((id, route), order) in ids.into_iter().zip(routes).zip(orders) {
        let value = serde_json::to_string(&Written { order, route: route.clone() }).unwrap_or_default();
        if value.len() > MAX_BYTES / 2 {
            return Err(TooLarge { pattern: route.pattern.clone(), bytes: value.len() });
        }
        values.insert(id, value);
    }
    Ok(lead_to(max_ops, keys, published, values, stamp))
}

/// What puts what was published back to what it was before the last push. `values` are those of the set that it names,
/// `undo` is what stands under `.undo`. `None`: nobody knows what it was.
pub fn back(
    keys: &Keys,
    published: &Published,
    values: BTreeMap<Id, String>,
    undo: Option<&str>,
    stamp: Stamp,
) -> Option<Plan> {
    let (head, _) = published.head.as_ref()?;
    let before = head.before.as_ref()?;
    let mut values = values;
    if before.set == head.set {
        let undo: Undo = serde_json::from_str(undo?).ok().filter(|undo: &Undo| undo.digest == head.digest)?;
        for (id, value) in undo.values {
            match value {
                Some(value) => drop(values.insert(id, value)),
                None => drop(values.remove(&id)),
            }
        }
    }
    let fits = (values.len(), digest(&values)) == (before.routes, before.digest);
    fits.then(|| lead_to(MAX_OPS, keys, published, values, stamp))
}

/// What takes away what is left of a set that is not in force, unless it is being written or has come into force. In
/// pieces: each makes one event for every key.
pub fn garbage(keys: &Keys, set: &str, head: &Head, modified: i64) -> Option<Vec<Txn>> {
    let is_needed = set == &*head.set || head.before.as_ref().is_some_and(|before| set == &*before.set);
    let when = vec![Compare::Modified(keys.head(), modified), Compare::Modified(keys.stage(set), 0)];
    let piece = |digit| {
        let then = vec![Op::DeleteAll(format!("{}{digit:x}", keys.set(set)))];
        Txn { when: when.clone(), then }
    };
    // What is no ID of ours goes with the last one.
    let rest = Txn { when: when.clone(), then: vec![Op::DeleteAll(keys.set(set))] };
    (!is_needed).then(|| (0..16).map(piece).chain([rest]).collect())
}

fn lead_to(max_ops: usize, keys: &Keys, published: &Published, values: BTreeMap<Id, String>, stamp: Stamp) -> Plan {
    let old = &published.values;
    let differences = Differences::between(old, &values);
    let now = (values.len(), digest(&values));
    if differences == Differences::default()
        && published.head.as_ref().is_some_and(|(head, _)| (head.routes, head.digest) == now)
    {
        return Plan::Nothing;
    }
    let Stamp { set: new, at, by } = stamp;
    let mut head = Head {
        format: FORMAT,
        set: new,
        routes: now.0,
        digest: now.1,
        at,
        by,
        before: published.head.as_ref().map(|(head, _)| head.before()),
    };
    let unchanged = Compare::Modified(keys.head(), published.head.as_ref().map_or(0, |(_, modified)| *modified));
    if let Some((before, _)) = &published.head {
        let undo = Undo { digest: head.digest, values: BTreeMap::new() };
        let change = change(keys, &before.set, old, &values, undo);
        let then = [Op::Put(keys.head(), json(&Head { set: before.set.clone(), ..head.clone() }))];
        let then: Vec<_> = change.into_iter().chain(then).collect();
        if then.len() <= max_ops && then.iter().map(Op::bytes).sum::<usize>() <= MAX_BYTES {
            return Plan::Change(differences, Txn { when: vec![unchanged], then });
        }
    }
    // A set in force that was put right by a push goes on being the one before it.
    head.before = head.before.filter(|before| before.digest == digest(old));
    let stage = keys.stage(&head.set);
    let there = Compare::There(stage.clone());
    let puts = values.into_iter().map(|(id, value)| Op::Put(keys.route(&head.set, &id), value));
    let fill = pieces(max_ops, puts, &there);
    let then = vec![Op::Put(keys.head(), json(&head)), Op::Delete(stage.clone()), Op::Delete(keys.undo())];
    Plan::Switch { differences, stage, fill, switch: Txn { when: vec![unchanged, there], then } }
}

/// The operations on a set, and what takes them back.
fn change(keys: &Keys, set: &str, old: &BTreeMap<Id, String>, new: &BTreeMap<Id, String>, mut undo: Undo) -> Vec<Op> {
    let mut ops = Vec::new();
    for (id, value) in new.iter().filter(|(id, value)| old.get(id) != Some(value)) {
        ops.push(Op::Put(keys.route(set, id), value.clone()));
        undo.values.insert(id.clone(), old.get(id).cloned());
    }
    for (id, value) in old.iter().filter(|(id, _)| !new.contains_key(id)) {
        ops.push(Op::Delete(keys.route(set, id)));
        undo.values.insert(id.clone(), Some(value.clone()));
    }
    ops.push(Op::Put(keys.undo(), json(&undo)));
    ops
}

fn pieces(max_ops: usize, ops: impl Iterator<Item = Op>, when: &Compare) -> Vec<Txn> {
    let mut pieces: Vec<Txn> = Vec::new();
    let mut bytes = 0;
    for op in ops {
        bytes += op.bytes();
        match pieces.last_mut().filter(|piece| piece.then.len() < max_ops && bytes <= MAX_BYTES) {
            Some(piece) => piece.then.push(op),
            None => {
                bytes = op.bytes();
                pieces.push(Txn { when: vec![when.clone()], then: vec![op] });
            }
        }
    }
    pieces
}

fn digest(values: &BTreeMap<Id, String>) -> Digest {
    let mut digest = Digest::default();
    values.iter().for_each(|(id, value)| digest ^= Digest::of(id.as_str(), value));
    digest
}

/// What is made of text and numbers alone is always written.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Head {
    /// What the next one has to say of this one.
    fn before(&self) -> Before {
        Before { set: self.set.clone(), routes: self.routes, digest: self.digest }
    }
}

impl Differences {
    fn between(old: &BTreeMap<Id, String>, new: &BTreeMap<Id, String>) -> Self {
        let removed = old.keys().filter(|id| !new.contains_key(id)).count();
        let changed = new.iter().filter(|(id, value)| old.get(id).is_some_and(|old| old != *value)).count();
        Self { added: new.len() + removed - old.len(), removed, changed }
    }
}

impl Op {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) | Self::DeleteAll(key) => key.len(),
        }
    }

    /// The end of what [`Self::DeleteAll`] deletes.
    pub fn end(prefix: &str) -> Vec<u8> {
        range_end(prefix.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_many_as_can_keep_their_place() {
        let one = STEP;
        for (before, after) in [
            (vec![], vec![]),
            (vec![None, None], vec![one, 2 * one]),
            (vec![Some(one), None, Some(2 * one)], vec![one, one + one / 2, 2 * one]),
            (vec![None, Some(one), None], vec![one / 2, one, 2 * one]),
            (vec![Some(2 * one), Some(one), Some(3 * one)], vec![one / 2, one, 3 * one]),
            // No room.
            (vec![Some(1), None, Some(2)], vec![one, 2 * one, 3 * one]),
            (vec![Some(Order::MAX), None], vec![one, 2 * one]),
        ] {
            assert_eq!(Order::assign(&before), after, "{before:?}");
        }
    }

    proptest! {
        #[test]
        fn orders_ascend(before in prop::collection::vec(prop::option::of(prop_oneof![0..40u64, any::<u64>()]), 0..30)) {
            let orders = Order::assign(&before);
            prop_assert_eq!(orders.len(), before.len());
            prop_assert!(orders.first().is_none_or(|first| *first > 0));
            prop_assert!(orders.is_sorted_by(|one, other| one < other), "{:?}", orders);
        }
    }
}
