//! A whole table at once.

use std::sync::Arc;

use super::index::Builder;
use super::runs::{Rows, Runs};
use super::shards::Shards;
use super::slab::Id;
use super::{Entry, KeySlot, Rank, RouteTable, Row, Taken, hash};

/// What adding the entries one by one to an empty table comes to, in a third of the time: what goes into the same part
/// of a hash table goes in together.
pub(super) fn table<E: Entry>(parts: Vec<Vec<E>>) -> Result<RouteTable<E>, Vec<Taken>> {
    let keys = keys(&parts.iter().flatten().collect::<Vec<_>>())?;
    let length = parts.iter().map(Vec::len).sum();

    let mut builder = Builder::new(length);
    // Which of several requirements is best is seen when the others are in.
    let mut undecided = Vec::new();
    let row = |(id, entry): (Id, E)| {
        let sets = entry.pattern().requirements();
        let mut row = Row { rank: Rank::new(entry.weight(), id.into()), found_by: None, entry };
        if sets.len() > 1 {
            undecided.push(id);
        } else {
            row.choose(builder.index(), &sets);
            builder.insert(id, row.needles(&sets));
        }
        Arc::new(row)
    };
    let mut rows: Rows<E> = (0..).zip(parts.into_iter().flatten()).map(row).collect();
    let mut index = builder.finish(&rows);
    for id in undecided {
        let Some(row) = rows.get_mut(id).and_then(Arc::get_mut) else { continue };
        let sets = row.pattern().requirements();
        row.choose(&index, &sets);
        let needles = row.found_by.and_then(|by| sets.get(usize::from(by)));
        index.insert(&rows, id, needles.map(Vec::as_slice));
    }
    let order = Runs::from_unsorted(&rows, (0..).take(rows.len()).collect());
    Ok(RouteTable { rows, keys, index, order, next: length as u64 })
}

/// The rows of the keys, or every key that is there again.
fn keys<E: Entry>(entries: &[&E]) -> Result<Shards<KeySlot>, Vec<Taken>> {
    let entry = |id: Id| entries.get(id as usize);
    let key = |id| entry(id).map(|entry| entry.key());
    let mut again = Vec::new();
    let slots = (0..).zip(entries).map(|(id, entry)| KeySlot { hash: hash(entry.key()), id }).collect();
    let keys = Shards::build(slots, |shard, slot| {
        match shard.find(slot.hash, |first| first.hash == slot.hash && key(first.id) == key(slot.id)) {
            Some(first) => again.push((slot.id, first.id)),
            None => shard.insert(slot),
        }
    });
    if again.is_empty() {
        return Ok(keys);
    }
    again.sort_unstable();
    let origin = |id| entry(id).map(|entry| entry.origin().clone());
    let taken = |(second, first)| Some(Taken { first: origin(first)?, second: origin(second)? });
    Err(again.into_iter().filter_map(taken).collect())
}
