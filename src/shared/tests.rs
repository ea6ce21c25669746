//! Pushes, edits by hand and readers, step by step in any order, against a model of etcd.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::follow::{Follower, Unfit, Want};
use super::held::{Change, Held, Name};
use super::keys::{Head, Id, Keys, Part};
use super::push::{Plan, Published, Stamp, garbage, plan_within};
use crate::admin::view::RouteSpec;
use crate::etcd::{Compare, Event, KeyValue, Op, Txn};
use crate::route::testing::route;

const CLUSTER: u64 = 7;

/// So few operations make a push of a few routes one in many steps.
const MAX_OPS: usize = 5;

fn keys() -> Keys {
    Keys::new("p/")
}

/// What a key holds, and the revisions at which it came to be and was put last.
type Stored = (String, i64, i64);

/// etcd, with all that it ever held.
#[derive(Clone)]
struct Store {
    /// At each revision from 1 on; the last is the newest.
    states: Vec<BTreeMap<String, Stored>>,
    /// What is older cannot be asked for.
    compacted: i64,
}

impl Store {
    fn new() -> Self {
        Self { states: vec![BTreeMap::new()], compacted: 0 }
    }

    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn at(&self, revision: i64) -> &BTreeMap<String, Stored> {
        &self.states[usize::try_from(revision).unwrap() - 1]
    }

    fn now(&self) -> &BTreeMap<String, Stored> {
        self.at(self.revision())
    }

    fn run(&mut self, txn: &Txn) -> bool {
        let mut state = self.now().clone();
        let revision = self.revision() + 1;
        let holds = txn.when.iter().all(|compare| match compare {
            Compare::Modified(key, modified) => state.get(key).map_or(0, |stored| stored.2) == *modified,
            Compare::There(key) => state.contains_key(key),
        });
        if !holds {
            return false;
        }
        let mut touched = HashSet::new();
        for op in &txn.then {
            match op {
                Op::Put(key, value) => {
                    assert!(touched.insert(key.clone()), "etcd refuses a key twice in a transaction: {key}");
                    let created = state.get(key).map_or(revision, |stored| stored.1);
                    state.insert(key.clone(), (value.clone(), created, revision));
                }
                Op::Delete(key) => drop(state.remove(key)),
                Op::DeleteAll(prefix) => state.retain(|key, _| !key.starts_with(prefix)),
            }
        }
        if state != *self.now() {
            self.states.push(state);
        }
        true
    }

    fn events(&self, revision: i64) -> Vec<Event> {
        let (before, after) = (self.at(revision - 1), self.at(revision));
        let event = |key: &String, put| Event { revision, key: key.clone().into_bytes(), put };
        let put = after.iter().filter(|(_, stored)| stored.2 == revision);
        let put = put.map(|(key, stored)| event(key, Some((stored.0.clone().into_bytes(), stored.1))));
        let gone = before.keys().filter(|key| !after.contains_key(*key)).map(|key| event(key, None));
        put.chain(gone).collect()
    }

    fn published(&self) -> Published {
        let head = self.now().get(&keys().head());
        let head = head.map(|(text, _, modified)| (serde_json::from_str::<Head>(text).unwrap(), *modified));
        let set = head.as_ref().map(|(head, _)| keys().set(&head.set));
        let values = self.now().iter().filter_map(|(key, stored)| {
            let id = key.strip_prefix(set.as_deref()?)?;
            Some((serde_json::from_value::<Id>(id.into()).unwrap(), stored.0.clone()))
        });
        Published { values: values.collect(), head }
    }
}

/// What is to be in force at a state, and in which order those by hand stand.
fn in_force(state: &BTreeMap<String, Stored>) -> (BTreeMap<Name, String>, Vec<Name>) {
    let keys = keys();
    let set = state.get(&keys.head()).map(|head| serde_json::from_str::<Head>(&head.0).unwrap().set);
    let (mut routes, mut by_hand) = (BTreeMap::new(), Vec::new());
    for (key, (value, created, _)) in state {
        match keys.part(key.as_bytes()) {
            Part::Set(of, id) if Some(of) == set.as_deref() => drop(routes.insert(Name::of_id(id), value.clone())),
            Part::Hand(name) => {
                routes.insert(Name::by_hand(name), value.clone());
                by_hand.push((*created, Name::by_hand(name)));
            }
            _ => {}
        }
    }
    by_hand.sort();
    (routes, by_hand.into_iter().map(|(_, name)| name).collect())
}

fn shown(held: &Held) -> (BTreeMap<Name, String>, Vec<Name>) {
    let routes = held.items().map(|item| (item.name.clone(), item.value.as_deref().unwrap().to_owned())).collect();
    let mut by_hand: Vec<_> = held.items().filter(|item| item.name.id().is_none()).collect();
    by_hand.sort_by_key(|item| item.came);
    (routes, by_hand.into_iter().map(|item| item.name.clone()).collect())
}

/// Who pushes, transaction by transaction.
#[derive(Default)]
struct Pusher {
    steps: Vec<Txn>,
    stage: Option<String>,
}

impl Pusher {
    fn begin(&mut self, store: &Store, patterns: &[u8], number: usize) {
        let routes: Vec<_> =
            patterns.iter().map(|n| RouteSpec::of(&route(&format!("r{n}"), i64::from(n % 3)))).collect();
        let stamp = Stamp { set: format!("s{number}").into(), at: "now".into(), by: "me".into() };
        let plan = plan_within(MAX_OPS, &keys(), &store.published(), &routes, stamp).unwrap();
        self.steps = match plan {
            Plan::Nothing => Vec::new(),
            Plan::Change(_, txn) => vec![txn],
            Plan::Switch { stage, fill, switch, .. } => {
                self.stage = Some(stage.clone());
                let begin = Txn { when: Vec::new(), then: vec![Op::Put(stage, String::new())] };
                [vec![begin], fill, vec![switch]].concat()
            }
        };
        self.steps.reverse();
    }

    fn step(&mut self, store: &mut Store) {
        let Some(txn) = self.steps.pop() else { return };
        if !store.run(&txn) {
            self.die(store);
        } else if self.steps.is_empty() {
            collect(store);
        }
    }

    /// Its lease ends with it.
    fn die(&mut self, store: &mut Store) {
        self.steps.clear();
        if let Some(stage) = self.stage.take() {
            store.run(&Txn { when: Vec::new(), then: vec![Op::Delete(stage)] });
        }
    }
}

fn collect(store: &mut Store) {
    let Some((head, modified)) = store.published().head else { return };
    let sets: HashSet<_> =
        store.now().keys().filter_map(|key| Some(key.strip_prefix("p/.set/")?.split_once('/')?.0)).collect();
    let txns: Vec<_> = sets.into_iter().filter_map(|set| garbage(&keys(), set, &head, modified)).flatten().collect();
    for txn in txns {
        store.run(&txn);
    }
}

/// A daemon.
struct Reader {
    follower: Follower,
    /// What it was told, one change after the other.
    told: Held,
}

impl Reader {
    fn new() -> Self {
        Self { follower: Follower::new(keys()), told: Held::default() }
    }

    /// Asks once for what is wanted, and checks what comes of it.
    fn step(&mut self, store: &Store, page: usize) -> Result<(), Unfit> {
        match self.follower.want() {
            Want::Read { from, to, revision } => {
                if revision != 0 && revision < store.compacted {
                    self.follower.again();
                    return Ok(());
                }
                let state = if revision == 0 { store.now() } else { store.at(revision) };
                let all = state.iter().filter(|(key, _)| (&from[..]..&to[..]).contains(&key.as_bytes()));
                let mut read: Vec<_> = all
                    .map(|(key, stored)| KeyValue {
                        key: key.clone().into_bytes(),
                        value: stored.0.clone().into_bytes(),
                        created: stored.1,
                    })
                    .collect();
                let has_more = read.len() > page;
                read.truncate(page);
                let change = self.follower.page(CLUSTER, store.revision(), read, has_more)?;
                self.take(store, change);
            }
            Want::Watch { from } if from < store.compacted => self.follower.again(),
            Want::Watch { from } if from <= store.revision() => {
                self.follower.heard(CLUSTER, store.revision(), false)?;
                // What is told twice is not done twice.
                if from > 2 {
                    assert_eq!(self.follower.revision(&store.events(from - 1))?, None);
                }
                let change = self.follower.revision(&store.events(from))?;
                self.take(store, change);
            }
            Want::Watch { .. } => self.follower.heard(CLUSTER, store.revision(), true)?,
        }
        Ok(())
    }

    fn take(&mut self, store: &Store, change: Option<Change>) {
        let Some(change) = change else { return };
        assert!(change.revision >= self.told.revision, "it goes back");
        // As it comes back from a disk.
        let change: Change = serde_json::from_str(&serde_json::to_string(&change).unwrap()).unwrap();
        self.told.follow(&change);
        assert_eq!(self.told, *self.follower.held());
        assert!(self.told.is_fit());
        assert_eq!(shown(&self.told), in_force(store.at(change.revision)), "at {}", change.revision);
    }

    fn restart(&mut self) {
        let mut held = Held::default();
        held.follow(&self.told.whole());
        self.follower = Follower::resume(keys(), held);
    }

    fn catch_up(&mut self, store: &Store) {
        for _ in 0..1000 {
            // What does not fit is read again.
            let _told = self.step(store, 3);
            if self.follower.want() == (Want::Watch { from: store.revision() + 1 }) {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.follower);
    }
}

#[derive(Debug, Clone)]
enum Action {
    /// A push of these routes, in this order, by one of two.
    Push(usize, Vec<u8>),
    StepPush(usize),
    KillPusher(usize),
    /// Some keys by hand, in one transaction.
    Put(Vec<(u8, u8)>),
    Delete(u8),
    Read(usize),
    Restart,
    Compact,
}

fn any_action() -> impl Strategy<Value = Action> {
    let routes = prop::collection::hash_set(0..12u8, 0..12).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    prop_oneof![
        2 => (0..2usize, routes.prop_shuffle()).prop_map(|(who, routes)| Action::Push(who, routes)),
        8 => (0..2usize).prop_map(Action::StepPush),
        1 => (0..2usize).prop_map(Action::KillPusher),
        2 => prop::collection::vec((0..4u8, any::<u8>()), 1..3).prop_map(Action::Put),
        1 => (0..4u8).prop_map(Action::Delete),
        10 => (1..4usize).prop_map(Action::Read),
        1 => Just(Action::Restart),
        1 => Just(Action::Compact),
    ]
}

fn by_hand(entries: &[(u8, u8)]) -> Txn {
    let entries: BTreeMap<_, _> = entries.iter().copied().collect();
    let then = entries.into_iter().map(|(key, value)| Op::Put(format!("p/{key}"), value.to_string()));
    Txn { when: Vec::new(), then: then.collect() }
}

proptest! {
    #[test]
    fn what_is_in_force_was_published_as_a_whole(actions in prop::collection::vec(any_action(), 1..80)) {
        let (mut store, mut reader) = (Store::new(), Reader::new());
        let mut pushers = [Pusher::default(), Pusher::default()];
        for (number, action) in actions.into_iter().enumerate() {
            match action {
                Action::Push(who, routes) => {
                    pushers[who].die(&mut store);
                    pushers[who].begin(&store, &routes, number);
                }
                Action::StepPush(who) => pushers[who].step(&mut store),
                Action::KillPusher(who) => pushers[who].die(&mut store),
                Action::Put(entries) => drop(store.run(&by_hand(&entries))),
                Action::Delete(key) => {
                    store.run(&Txn { when: Vec::new(), then: vec![Op::Delete(format!("p/{key}"))] });
                }
                Action::Read(page) => drop(reader.step(&store, page)),
                Action::Restart if reader.told.revision > 0 => reader.restart(),
                Action::Restart => {}
                Action::Compact => store.compacted = store.revision(),
            }
        }
        reader.catch_up(&store);
        let gone = in_force(store.now()).0.is_empty() && store.published().head.is_none();
        prop_assert!(gone || shown(&reader.told) == in_force(store.now()));
    }
}

fn push(store: &mut Store, patterns: &[u8], number: usize) -> usize {
    let mut pusher = Pusher::default();
    pusher.begin(store, patterns, number);
    let steps = pusher.steps.len();
    (0..steps).for_each(|_| pusher.step(store));
    steps
}

#[test]
fn one_changed_route_is_one_transaction_of_three_operations() {
    let (mut store, mut reader) = (Store::new(), Reader::new());
    assert_eq!(push(&mut store, &[1, 2, 3, 4, 5, 6, 7, 8], 1), 4, "stage, two to fill, switch");
    reader.catch_up(&store);
    let before = store.revision();
    assert_eq!(push(&mut store, &[1, 2, 3, 9, 4, 5, 6, 7, 8], 2), 1);
    assert_eq!(store.revision(), before + 1);
    let touched: Vec<_> =
        store.events(before + 1).into_iter().map(|event| String::from_utf8(event.key).unwrap()).collect();
    assert_eq!(touched, ["p/.head", &format!("p/.set/s1/{}", Id::of("r9").as_str()), "p/.undo"]);
    reader.step(&store, 1).unwrap();
    assert_eq!(reader.told.len(), 9);
}

#[test]
fn a_set_that_somebody_edited_is_not_put_in_force_before_it_is_pushed_again() {
    let (mut store, mut reader) = (Store::new(), Reader::new());
    push(&mut store, &[1, 2, 3], 1);
    reader.catch_up(&store);
    let good = shown(&reader.told);
    let vandal = Op::Delete(keys().route("s1", &Id::of("r1")));
    store.run(&Txn { when: Vec::new(), then: vec![vandal] });
    let told = reader.step(&store, 9).unwrap_err();
    assert_eq!(
        told.to_string(),
        "the keys under `p/.set/s1/` are not the 3 routes that were pushed: has somebody edited them? push again"
    );
    reader.catch_up(&store);
    store.run(&by_hand(&[(1, 1)]));
    reader.catch_up(&store);
    assert_eq!(shown(&reader.told), good, "nor is anything else");
    push(&mut store, &[1, 2, 3], 2);
    reader.catch_up(&store);
    assert_eq!(shown(&reader.told), in_force(store.now()));
    assert_eq!(reader.told.len(), 4);
}

#[test]
fn an_etcd_that_was_emptied_takes_no_routes_away() {
    let (mut store, mut reader) = (Store::new(), Reader::new());
    push(&mut store, &[1, 2, 3], 1);
    reader.catch_up(&store);
    store.run(&Txn { when: Vec::new(), then: vec![Op::DeleteAll("p/".into())] });
    let told = reader.step(&store, 9).unwrap_err();
    assert_eq!(told.to_string(), "`p/.head` is gone; push the table again, an empty one if none is meant");
    reader.catch_up(&store);
    assert_eq!(reader.told.len(), 3);
    push(&mut store, &[], 2);
    reader.catch_up(&store);
    assert_eq!(reader.told.len(), 0, "an empty table that was pushed is one");
}

#[test]
fn routes_by_hand_that_are_all_deleted_at_once_stay() {
    let (mut store, mut reader) = (Store::new(), Reader::new());
    store.run(&by_hand(&[(1, 1), (2, 2)]));
    reader.catch_up(&store);
    store.run(&Txn { when: Vec::new(), then: vec![Op::DeleteAll("p/".into())] });
    let told = reader.step(&store, 9).unwrap_err();
    assert_eq!(told, Unfit::Gone("p/".to_owned()));
    reader.catch_up(&store);
    assert_eq!(reader.told.len(), 2);
    store.run(&by_hand(&[(3, 3)]));
    reader.catch_up(&store);
    assert_eq!(shown(&reader.told), in_force(store.now()), "what is written anew is in force");
    store.run(&Txn { when: Vec::new(), then: vec![Op::Delete("p/3".into())] });
    reader.catch_up(&store);
    assert_eq!(reader.told.len(), 0, "one may be taken away, also when it is the last");
}

#[test]
fn another_cluster_is_read_anew() {
    let (mut store, mut reader) = (Store::new(), Reader::new());
    push(&mut store, &[1, 2, 3], 1);
    reader.catch_up(&store);
    assert_eq!(reader.follower.heard(CLUSTER + 1, 1000, false), Err(Unfit::Foreign));
    assert!(matches!(reader.follower.want(), Want::Read { revision: 0, .. }));
    reader.catch_up(&store);
    assert_eq!(reader.follower.heard(CLUSTER, 1, false), Err(Unfit::Foreign), "it was set back");
}

#[test]
fn the_last_push_is_taken_back() {
    let mut store = Store::new();
    let stamp = |set: &str| Stamp { set: set.into(), at: "now".into(), by: "me".into() };
    push(&mut store, &[1, 2, 3], 1);
    let first = store.published().values;
    push(&mut store, &[1, 3, 4], 2);
    assert_ne!(store.published().values, first);
    for values in [first.clone(), store.published().values, first] {
        let undo = store.now().get(&keys().undo()).map(|stored| stored.0.clone());
        let published = store.published();
        let plan = super::push::back(&keys(), &published, published.values.clone(), undo.as_deref(), stamp("b"));
        let Some(Plan::Change(_, txn)) = plan else { panic!("{plan:?}") };
        assert!(store.run(&txn));
        assert_eq!(store.published().values, values);
    }
}
