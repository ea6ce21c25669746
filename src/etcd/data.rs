//! What is said to etcd and what it says, without its library.

/// A key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it holds, and the revision at which it was put last; `None`: there is no such key.
    pub value: Option<(Vec<u8>, i64)>,
    /// The revision of the whole store at which that is so.
    pub revision: i64,
}

/// A key that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Vec<u8>,
    /// What it holds.
    pub value: Vec<u8>,
    /// The revision at which it came to be.
    pub created: i64,
}

/// Some keys at a revision.
#[derive(Debug)]
pub struct Page {
    /// Who said so.
    pub cluster: u64,
    /// The revision at which the cluster was.
    pub revision: i64,
    /// The keys.
    pub keys: Vec<KeyValue>,
    /// Whether there are more.
    pub has_more: bool,
}

/// A key that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The revision at which it did.
    pub revision: i64,
    /// The key.
    pub key: Vec<u8>,
    /// What it holds now, and the revision at which it came to be; `None`: it is gone.
    pub put: Option<(Vec<u8>, i64)>,
}

/// What a watch says at a time.
#[derive(Debug)]
pub struct Heard {
    /// Who said so.
    pub cluster: u64,
    /// The revision at which the cluster was.
    pub revision: i64,
    /// Everything up to there has been told.
    pub is_progress: bool,
    /// What has changed, revision by revision; none is split between two of these.
    pub events: Vec<Event>,
}

/// What is done all at once if every comparison holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// What must hold.
    pub when: Vec<Compare>,
    /// What is done.
    pub then: Vec<Op>,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key was put last at this revision; 0: it is not there.
    Modified(String, i64),
    /// The key is there.
    There(String),
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The key holds this.
    Put(String, String),
    /// The key is gone.
    Delete(String),
    /// All keys that begin with this are gone.
    DeleteAll(String),
}
