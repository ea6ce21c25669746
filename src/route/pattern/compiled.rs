//! Patterns that a comparison of strings does not decide, compiled.

use std::sync::{Arc, LazyLock};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::{Input, meta};
use regex_syntax::hir::Hir;

use super::lower;

/// How many states and transitions a program may have, by the bound of [`lower::size`]. At the bound it compiles in a few
/// milliseconds.
pub(super) const MOST: u64 = 100_000;

/// How many bytes the programs may have together that are compiled and not pinned.
const CACHE_BYTES: u64 = 64 << 20;

/// A pattern of up to this size, by the same bound, is tried as a table.
const TABLE_SIZE: u64 = 4_000;
/// How many bytes a table may have.
const TABLE_BYTES: usize = 8 << 10;
/// How many more it may take while it is built.
const BUILDING_BYTES: usize = 32 << 10;

/// A compiled pattern.
#[derive(Debug)]
pub(super) enum Compiled {
    /// The states are followed side by side: soon compiled.
    Program(meta::Regex),
    /// Every state is known, one step for each byte of a name: soon searched.
    Table(Box<dense::DFA<Vec<u32>>>),
}

impl Compiled {
    /// For a few searches. None only where the library refuses, which it does for no program within [`MOST`].
    pub(super) fn for_now(hir: &Hir) -> Option<Self> {
        let program = program(hir);
        debug_assert!(program.is_some(), "a program of {} states and transitions is refused", lower::size(hir));
        program.map(Self::Program)
    }

    /// For many searches.
    pub(super) fn for_long(hir: &Hir) -> Option<Self> {
        let table = if lower::size(hir) <= TABLE_SIZE { table(hir) } else { None };
        table.map(|table| Self::Table(Box::new(table))).or_else(|| Self::for_now(hir))
    }

    pub(super) fn is_match(&self, text: &str) -> bool {
        match self {
            Self::Program(program) => program.is_match(text),
            // A search of a table fails only for bytes on which it was built to stop, and there are none.
            Self::Table(table) => matches!(table.try_search_fwd(&Input::new(text).earliest(true)), Ok(Some(_))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            // And as much again for what a search keeps.
            Self::Program(program) => 2 * program.memory_usage(),
            Self::Table(table) => table.memory_usage(),
        }
    }
}

fn table(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    let config = thompson::Config::new().which_captures(WhichCaptures::None);
    let nfa = thompson::Compiler::new().configure(config).build_from_hir(hir).ok()?;
    let config = dense::Config::new()
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .dfa_size_limit(Some(TABLE_BYTES))
        .determinize_size_limit(Some(BUILDING_BYTES));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

fn program(hir: &Hir) -> Option<meta::Regex> {
    let config = meta::Config::new()
        .nfa_size_limit(None)
        .which_captures(WhichCaptures::Implicit)
        .auto_prefilter(false)
        .hybrid(false)
        .dfa(false)
        .onepass(false);
    meta::Builder::new().configure(config).build_from_hir(hir).ok()
}

/// The programs that were used last, in all tables together. The key is a pattern's text: what is compiled depends on
/// nothing else, so the programs also serve the next table, in which most patterns are the same.
static CACHE: LazyLock<Cache<String, Arc<Compiled>, Bytes>> =
    LazyLock::new(|| Cache::with_weighter(4096, CACHE_BYTES, Bytes));

#[derive(Clone)]
struct Bytes;

impl Weighter<String, Arc<Compiled>> for Bytes {
    fn weight(&self, text: &String, compiled: &Arc<Compiled>) -> u64 {
        // The entry itself, and the fixed part of a program.
        const ENTRY: usize = 1000;
        (ENTRY + text.len() + compiled.bytes()) as u64
    }
}

/// The program of a pattern, from the cache or by compiling it.
pub(super) fn of(text: &str, compile: impl FnOnce() -> Option<Compiled>) -> Option<Arc<Compiled>> {
    CACHE.get_or_insert_with(text, || compile().map(Arc::new).ok_or(())).ok()
}
