//! A disk for the tests of every room, which fails when it is told to, and forgets in a crash what was not settled.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::Disk;
use super::{Contents, Journal, JournalError};

/// What comes of an operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It fails, and nothing of it is done.
    Nothing,
    /// It fails after so much of it, in 256ths, is done; the rest of the time it may still be lost.
    Part(u8),
}

/// A disk; its clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    file: Option<Vec<u8>>,
    /// What may be there in place of the file after a crash.
    instead: Vec<Option<Vec<u8>>>,
    /// What comes of the next operations; beyond them all are done.
    fates: VecDeque<Fate>,
}

/// Mostly good.
pub(crate) fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Done), 1 => Just(Fate::Nothing), 1 => any::<u8>().prop_map(Fate::Part)]
}

impl Memory {
    /// Opens the journal that the disk holds.
    pub(crate) fn open<R: DeserializeOwned + Serialize>(&self) -> Result<(Journal, Contents<R>), JournalError> {
        Journal::load("journal".into(), Box::new(self.clone()))
    }

    /// What comes of the next operations.
    pub(crate) fn meet(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state().fates = fates.into_iter().collect();
    }

    /// The power is cut, and comes back: the disk is what it is, or what it was before something was settled.
    pub(crate) fn crash(&self, choice: prop::sample::Index) {
        let mut state = self.state();
        state.fates.clear();
        let mut all = std::mem::take(&mut state.instead);
        all.push(state.file.take());
        state.file = all.swap_remove(choice.index(all.len()));
    }

    /// The bytes of the file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.state().file.clone().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn next(&mut self) -> Fate {
        self.fates.pop_front().unwrap_or(Fate::Done)
    }

    /// Puts a file in the place of the one that is there, which may come back until it is settled.
    fn put(&mut self, file: Vec<u8>) {
        let old = self.file.replace(file);
        self.instead.push(old);
    }
}

impl Disk for Memory {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.state().file.clone())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        assert!(state.instead.is_empty(), "written behind what is not settled");
        let mut file = state.file.clone().unwrap();
        match state.next() {
            Fate::Done => {
                file.extend_from_slice(bytes);
                state.file = Some(file);
                Ok(())
            }
            Fate::Nothing => Err(io::ErrorKind::StorageFull.into()),
            Fate::Part(part) => {
                file.extend_from_slice(&bytes[..bytes.len() * usize::from(part) / 255]);
                state.put(file);
                Err(io::ErrorKind::StorageFull.into())
            }
        }
    }

    fn settle(&mut self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let mut file = state.file.clone().unwrap();
        file.truncate(usize::try_from(len).unwrap());
        match state.next() {
            Fate::Done => {
                state.file = Some(file);
                state.instead.clear();
                Ok(())
            }
            Fate::Nothing => Err(io::Error::other("the disk is bad")),
            Fate::Part(_) => {
                state.put(file);
                Err(io::Error::other("the disk is bad"))
            }
        }
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        match state.next() {
            Fate::Done => state.put(bytes.to_owned()),
            Fate::Nothing | Fate::Part(_) => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(())
    }

    fn keep_beside(&mut self) -> io::Result<PathBuf> {
        Ok("kept".into())
    }
}
