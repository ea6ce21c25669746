//! A table that a fleet shares: routes under a prefix of etcd, one a key.
//!
//! What is in force is a pure function of the keys at one revision of etcd: the routes that `.head` names, and those that
//! somebody has written by hand. A push changes `.head` and what it names in one transaction, and etcd delivers a
//! transaction whole; so whoever applies revision after revision, each whole, never sees half of a push.
//!
//! ```text
//! PREFIX .head          which set is in force, how many routes it has, and their digest
//! PREFIX .set/SET/ID    a route of a set; the ID is made of its pattern
//! PREFIX .stage/SET     this set is being written: a key that ends with its writer
//! PREFIX .undo          what takes the last push back, where that changed the set in place
//! PREFIX anything else  a route that was written by hand
//! ```

// Names of keys, and what stands under `.head`.
mod keys;
// What the keys hold at one revision, and what changed in it.
mod held;
// Sets that are being written.
mod staged;
// What is read and watched becomes changes, revision by revision.
mod follow;
// The transactions that put a table in the place of another.
mod push;
// The routes in the table.
mod layer;
// Those transactions, run.
mod publish;
// Keeps in touch with it.
mod feed;
// What this daemon has of it.
mod core;
// The last good table, for a start without etcd.
mod disk;
#[cfg(test)]
mod tests;

pub use core::{Shared, Summary};
pub use disk::{Copy, Opened, copy_folder};
pub use feed::{Feed, Link, LinkState};
pub use follow::{Follower, Unfit, Want};
pub use held::{Change, Held, Item, Name};
pub use keys::{Before, Digest, Head, Id, Keys, Part, SetName, Written};
pub use layer::{EDITS, Laid, Layer, Tables};
pub use publish::{Publisher, PushError, Pushed, Wanted};
pub use push::{Differences, Order, Plan, Published, Stamp, TooLarge, back, garbage, plan};
