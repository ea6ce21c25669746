//! A portolan that was built without etcd: the configuration refuses it before anybody asks.

use super::{EtcdConfig, EtcdError, Found, Heard, Page, Txn};

/// etcd, which is not there.
#[derive(Debug, Clone)]
pub struct Etcd;

/// Changes, of which there are none.
#[derive(Debug)]
pub struct Watching;

impl Etcd {
    /// Nobody can be asked.
    pub fn new(_config: EtcdConfig) -> Self {
        Self
    }

    /// No value.
    pub async fn get(&self, _key: String) -> Result<Found, EtcdError> {
        Err(absent())
    }

    /// No revision.
    pub async fn revision(&self, _prefix: &str) -> Result<i64, EtcdError> {
        Err(absent())
    }

    /// No key.
    pub async fn first(&self, _from: &[u8], _to: &[u8]) -> Result<Option<Vec<u8>>, EtcdError> {
        Err(absent())
    }

    /// No keys.
    pub async fn page(&self, _from: &[u8], _to: &[u8], _revision: i64) -> Result<Page, EtcdError> {
        Err(absent())
    }

    /// No watch.
    pub async fn watch(&self, _prefix: &str, _from: i64) -> Result<Watching, EtcdError> {
        Err(absent())
    }

    /// Nothing is run.
    pub async fn run(&self, _txn: &Txn, _lease: Option<i64>) -> Result<bool, EtcdError> {
        Err(absent())
    }

    /// No lease.
    pub async fn lease(&self, _seconds: i64) -> Result<i64, EtcdError> {
        Err(absent())
    }

    /// No lease.
    pub async fn keep_alive(&self, _lease: i64) -> Result<(), EtcdError> {
        Err(absent())
    }

    /// No lease.
    pub async fn end_lease(&self, _lease: i64) -> Result<(), EtcdError> {
        Err(absent())
    }
}

impl Watching {
    /// Nothing comes.
    pub async fn next(&mut self) -> Result<Heard, EtcdError> {
        Err(absent())
    }
}

fn absent() -> EtcdError {
    EtcdError::Away { endpoint: "etcd".to_owned(), why: "this portolan was built without it".to_owned() }
}
