//! The shared routes in the table: files win over them, what was pushed over what was written by hand, and edits at run
//! time lie over all. A change costs what it changes, however large the table is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;

use super::held::{Change, Item, Name};
use super::keys::{Head, Id, Keys};
use super::push::Order;
use crate::admin::view::RouteSpec;
use crate::config::{Context, Place, Problem, Problems, SharedRules, read_shared, read_shared_json};
use crate::dial::Trusts;
use crate::edits::{self, Ended};
use crate::route::{Origin, Route, RouteTable, Row, SharedOrigin};

/// Which shared routes there are, and what is wrong with them.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `etcd:NAME`
    pub table: Arc<str>,
    /// Their keys.
    pub keys: Keys,
    /// What they may do.
    pub rules: SharedRules,
    /// Of those that were pushed, which are too many for one each.
    pushed: Origin,
    /// The routes, each as it was when it was last good.
    good: HashMap<Name, Good>,
    /// What is wrong with those that are not good now.
    bad: BTreeMap<Name, Arc<str>>,
    /// The good ones, each with its number.
    by_pattern: HashMap<Box<str>, SmallVec<[(u64, Name); 1]>>,
    /// How many of them are in the table, or hidden by an edit.
    standing: usize,
}

/// A shared route.
#[derive(Debug, Clone)]
struct Good {
    number: u64,
    pattern: Box<str>,
    value: Arc<str>,
}

/// What the layer lies over and below.
#[derive(Debug)]
pub struct Tables<'a> {
    /// What is in force.
    pub table: &'a mut RouteTable,
    /// What edits hide.
    pub removed: &'a mut RouteTable,
    /// The edits.
    pub edits: &'a edits::Layer,
    /// What the files of TLS policies hold; `None`: none of them is opened.
    pub trusts: Option<&'a mut Trusts>,
    /// The names of the resolvers that there are.
    pub resolvers: &'a [Arc<str>],
}

/// What came of a change.
#[derive(Debug, Default)]
pub struct Laid {
    /// Routes that are new in the table.
    pub added: usize,
    /// Routes that are gone from it.
    pub removed: usize,
    /// Routes that say something else, or stand elsewhere.
    pub changed: usize,
    /// The edits that it has ended.
    pub ended: Vec<Ended>,
    /// What is wrong with routes, each with its key in the place of a file.
    pub problems: Problems,
}

/// Files have the numbers from 0 on, then comes what was pushed, what was written by hand, and edits.
const PUSHED: u64 = 1 << 61;
/// What was written by hand; behind what was pushed.
const BY_HAND: u64 = 1 << 62;
/// Edits at run time, which come last.
pub const EDITS: u64 = 1 << 63;

impl Layer {
    /// One without routes. `table` is `etcd:NAME`.
    pub fn new(table: Arc<str>, keys: Keys, rules: SharedRules) -> Self {
        let pushed = Origin::Shared(Arc::new(SharedOrigin { table: Arc::clone(&table), key: None }));
        let (good, bad, by_pattern) = Default::default();
        Self { table, keys, rules, pushed, good, bad, by_pattern, standing: 0 }
    }

    /// One that has read nothing yet, but knows what was good before.
    #[must_use]
    pub fn anew(&self, rules: SharedRules) -> Self {
        let mut new = Self::new(Arc::clone(&self.table), self.keys.clone(), rules);
        for name in self.bad.keys() {
            if let Some(good) = self.good.get(name) {
                new.insert(name.clone(), good.clone());
            }
        }
        new.bad.clone_from(&self.bad);
        new
    }

    /// How many routes the layer gives to the table; those that an edit hides are among them.
    pub fn standing(&self) -> usize {
        self.standing
    }

    /// How many routes are not in force, because another has their pattern.
    pub fn shadowed(&self) -> usize {
        self.good.len().saturating_sub(self.standing)
    }

    /// The keys whose values are refused, and why, in the order of the keys.
    pub fn refused(&self, head: Option<&Head>) -> Vec<(String, Arc<str>)> {
        self.bad.iter().map(|(name, why)| (self.key(name, head), Arc::clone(why))).collect()
    }

    /// Makes a step: takes what has changed into the tables.
    pub fn follow(&mut self, change: &Change, tables: &mut Tables<'_>) -> Laid {
        let (mut laid, mut touched, mut fresh) = (Laid::default(), BTreeSet::new(), HashMap::new());
        for name in &change.remove {
            touched.extend(self.remove(name));
        }
        for item in &change.upsert {
            match self.read(item, change.head.as_deref(), tables, &mut laid.problems) {
                Ok((number, route)) => {
                    touched.extend(self.remove(&item.name));
                    let (pattern, value) = (route.pattern.as_str().into(), item.value.clone().unwrap_or_default());
                    let good = Good { number, pattern, value };
                    touched.insert(good.pattern.clone());
                    self.insert(item.name.clone(), good);
                    fresh.insert(&item.name, route);
                }
                // What was good before stays: else a slip of the pen would take a route from the whole fleet.
                Err(why) => {
                    self.bad.insert(item.name.clone(), why);
                    touched.extend(self.good.get(&item.name).map(|good| good.pattern.clone()));
                }
            }
        }
        // All of them leave their places before any takes one: a route may come to where another has stood.
        let before: Vec<_> = touched.iter().map(|pattern| self.take_out(pattern, tables)).collect();
        for (pattern, before) in touched.into_iter().zip(before) {
            let owner = self.owner(&pattern).cloned();
            let route = owner.and_then(|(number, name)| {
                let route = fresh.remove(&name).or_else(|| self.read_again(&name, tables))?;
                Some((number, name, route))
            });
            self.settle(&pattern, before, route, tables, &mut laid);
        }
        laid
    }

    /// The first of those that have the pattern.
    fn owner(&self, pattern: &str) -> Option<&(u64, Name)> {
        self.by_pattern.get(pattern)?.iter().min()
    }

    fn insert(&mut self, name: Name, good: Good) {
        self.by_pattern.entry(good.pattern.clone()).or_default().push((good.number, name.clone()));
        self.good.insert(name, good);
    }

    /// Takes an entry out, and tells its pattern.
    fn remove(&mut self, name: &Name) -> Option<Box<str>> {
        self.bad.remove(name);
        let good = self.good.remove(name)?;
        if let Some(names) = self.by_pattern.get_mut(&good.pattern) {
            names.retain(|(_, other)| other != name);
            if names.is_empty() {
                self.by_pattern.remove(&good.pattern);
            }
        }
        Some(good.pattern)
    }

    /// Takes the shared route with a pattern out of its place; what was in force with it.
    fn take_out(&mut self, pattern: &str, tables: &mut Tables<'_>) -> Option<Arc<Row<Route>>> {
        let is_shared =
            |table: &RouteTable| table.get(pattern).is_some_and(|row| matches!(row.origin, Origin::Shared(_)));
        let before = if is_shared(tables.table) { tables.table.remove(pattern).ok() } else { None };
        let hidden = is_shared(tables.removed) && tables.removed.remove(pattern).is_ok();
        self.standing -= usize::from(before.is_some()) + usize::from(hidden);
        before
    }

    /// Puts the route that has a pattern among the shared ones in its place, or none. `before` was in force with it.
    fn settle(
        &mut self,
        pattern: &str,
        before: Option<Arc<Row<Route>>>,
        route: Option<(u64, Name, Route)>,
        tables: &mut Tables<'_>,
        laid: &mut Laid,
    ) {
        let is_file =
            |table: &RouteTable| table.get(pattern).is_some_and(|row| matches!(row.origin, Origin::File { .. }));
        if is_file(tables.table) || is_file(tables.removed) {
            return;
        }
        let by = route.as_ref().map(|(_, _, route)| route.origin.clone());
        if let Some(edit) = tables.edits.removal(pattern) {
            match route {
                Some((_, _, route)) if RouteSpec::of(&route) == edit.route => {
                    self.standing += usize::from(tables.removed.add(route).is_ok());
                    return;
                }
                _ => laid.ended.push(Ended::Removed { pattern: pattern.to_owned(), at: edit.at, by: by.clone() }),
            }
        }
        let Some((number, name, route)) = route else {
            laid.removed += usize::from(before.is_some());
            return;
        };
        if let (Some(edit), Some(by)) = (tables.edits.addition(pattern), by) {
            drop(tables.table.remove(pattern));
            laid.ended.push(Ended::Added { pattern: pattern.to_owned(), at: edit.at, by });
        }
        match (tables.table.add_at(route, number), before) {
            (Ok(_), None) => laid.added += 1,
            (Ok(row), Some(before)) if row.means_the_same(&before) && row.rank() == before.rank() => {}
            (Ok(_), Some(_)) => laid.changed += 1,
            (Err(taken), before) => {
                laid.removed += usize::from(before.is_some());
                self.standing -= 1;
                let why = format!("its pattern or its order is taken by the route of {}", taken.first);
                self.refuse(&name, &why, &mut laid.problems);
            }
        }
        self.standing += 1;
    }

    fn refuse(&mut self, name: &Name, why: &str, problems: &mut Problems) {
        problems.push(Problem::error(why).at(Place::of_file(Path::new(&self.key(name, None)))));
        self.bad.insert(name.clone(), why.into());
    }

    /// The number and the route of a value; `problems` has what is wrong with it.
    fn read(
        &self,
        item: &Item,
        head: Option<&Head>,
        tables: &mut Tables<'_>,
        problems: &mut Problems,
    ) -> Result<(u64, Route), Arc<str>> {
        let mut own = Problems::default();
        let key = self.key(&item.name, head);
        let read = self.parse(&key, item, tables, &mut own);
        let why = own.why();
        // What was said before is not said again.
        if read.is_some() || self.bad.get(&item.name).is_none_or(|said| **said != *why) {
            problems.extend(own.iter().cloned());
        }
        read.ok_or_else(|| why.into())
    }

    fn read_again(&self, name: &Name, tables: &mut Tables<'_>) -> Option<Route> {
        let good = self.good.get(name)?;
        let item = Item { name: name.clone(), came: 0, value: Some(Arc::clone(&good.value)) };
        self.parse(&self.key(name, None), &item, tables, &mut Problems::default()).map(|(_, route)| route)
    }

    fn parse(&self, key: &str, item: &Item, tables: &mut Tables<'_>, problems: &mut Problems) -> Option<(u64, Route)> {
        let path = Path::new(key);
        let context = Context { trusts: tables.trusts.as_deref_mut(), resolvers: Some(tables.resolvers.to_vec()) };
        let mut refuse = |message: String, help: &str| {
            problems.push(Problem::error(message).at(Place::of_file(path)).help(help));
            None
        };
        let Some(value) = &item.value else {
            return refuse("the value is no UTF-8, or larger than 64 KiB".to_owned(), "write the keys of a [[route]]");
        };
        let Some(id) = item.name.id() else {
            let shared = SharedOrigin { table: Arc::clone(&self.table), key: Some(key.into()) };
            let origin = Origin::Shared(Arc::new(shared));
            let route = read_shared(path, value, origin, &self.rules, context, problems)?;
            return Some((BY_HAND | item.came, route));
        };
        let written = match serde_json::from_str::<Written>(value) {
            Ok(written) => written,
            Err(error) => return refuse(format!("no push has written this: {error}"), "push the table again"),
        };
        if written.order > Order::MAX
            || written.route.get("match").and_then(Value::as_str).map(Id::of) != Some(Id::read(id))
        {
            return refuse(
                "no push has written this: its key or order is of another route".to_owned(),
                "push the table again",
            );
        }
        let origin = self.pushed.clone();
        let route = read_shared_json(path, &written.route, origin, &self.rules, context, problems)?;
        Some((PUSHED | written.order, route))
    }

    fn key(&self, name: &Name, head: Option<&Head>) -> String {
        match name.id() {
            None => format!("{}{}", self.keys.prefix(), name.as_str()),
            Some(id) => format!("{}{id}", self.keys.set(head.map_or("", |head| &head.set))),
        }
    }
}

/// What stands under a key of a set; the route is read as one by hand is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    order: u64,
    route: Value,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::edits::{Edit, Record};
    use crate::route::testing::route;
    use crate::shared::Held;

    /// Tables with a shared one in them, and what the shared one holds.
    struct World {
        layer: Layer,
        held: Held,
        table: RouteTable,
        removed: RouteTable,
        edits: edits::Layer,
    }

    impl World {
        fn new(files: &[&str], edits: Vec<Record>) -> Self {
            let layer = Layer::new("etcd:fleet".into(), Keys::new("p/"), SharedRules::default());
            let files = files.iter().map(|pattern| route(pattern, 100)).collect();
            let (mut table, edits) = (RouteTable::from_entries(files).unwrap(), edits::Layer::of(edits));
            table.begin_at(EDITS);
            let applied = edits.apply(table, |spec, at| Some(Route { origin: Origin::Edit { at }, ..of(spec) }));
            Self { layer, held: Held::default(), table: applied.table, removed: applied.removed, edits }
        }

        fn step(&mut self, upsert: &[(&str, u64, String)], remove: &[&str]) -> Laid {
            let item = |(name, came, value): &(&str, u64, String)| Item {
                name: Name::by_hand(name),
                came: *came,
                value: Some(value.as_str().into()),
            };
            let change = Change {
                cluster: 1,
                revision: self.held.revision + 1,
                head: None,
                upsert: upsert.iter().map(item).collect(),
                remove: remove.iter().map(|name| Name::by_hand(name)).collect(),
            };
            self.held.follow(&change);
            let Self { layer, table, removed, edits, .. } = self;
            let laid = layer.follow(
                &change,
                &mut Tables { table, removed, edits, trusts: Some(&mut Trusts::new(None)), resolvers: &[] },
            );
            self.check();
            laid
        }

        /// It stands as if it had been laid at once.
        fn check(&self) {
            let mut whole = Self::new(&[], Vec::new());
            let files = self.table.iter().chain(self.removed.iter());
            for row in files.filter(|row| matches!(row.origin, Origin::File { .. })) {
                whole.table.add_at(Route::clone(row), row.rank().number()).unwrap();
            }
            whole.layer = self.layer.anew(SharedRules::default());
            let (table, removed) = (&mut whole.table, &mut whole.removed);
            let none = edits::Layer::default();
            let mut tables =
                Tables { table, removed, edits: &none, trusts: Some(&mut Trusts::new(None)), resolvers: &[] };
            whole.layer.follow(&self.held.whole(), &mut tables);
            let shared = |table: &RouteTable, removed: &RouteTable| {
                let all = table.iter().chain(removed.iter()).filter(|row| matches!(row.origin, Origin::Shared(_)));
                let mut all: Vec<_> = all.map(|row| (row.pattern.to_string(), row.origin.to_string())).collect();
                all.sort();
                all
            };
            let ours = shared(&self.table, &self.removed);
            assert_eq!(ours, shared(&whole.table, &whole.removed));
            assert_eq!((self.layer.standing(), whole.layer.standing()), (ours.len(), ours.len()));
            assert_eq!(self.layer.shadowed(), whole.layer.shadowed());
        }

        fn patterns(&self) -> String {
            self.table.iter().map(|row| format!("{} ", row.pattern)).collect()
        }
    }

    fn of(spec: &RouteSpec) -> Route {
        route(&spec.pattern, spec.weight)
    }

    fn toml(pattern: &str) -> String {
        format!("match = '{pattern}'\nhost = '127.0.0.1:1'\n")
    }

    fn edit(pattern: &str) -> Edit {
        Edit::new(RouteSpec::of(&route(pattern, 100)), SystemTime::UNIX_EPOCH + Duration::from_secs(1))
    }

    #[test]
    fn files_come_first_and_then_shared_routes_in_the_order_in_which_they_came() {
        let mut world = World::new(&["f", "g"], vec![Record::Add(edit("e"))]);
        let laid = world.step(&[("2", 2, toml("b")), ("1", 5, toml("a")), ("3", 3, toml("f"))], &[]);
        assert_eq!((laid.added, laid.removed, laid.changed), (2, 0, 0));
        assert_eq!(world.patterns(), "f g b a e ");
        assert_eq!(world.layer.shadowed(), 1, "a file has the pattern f");
        assert_eq!(world.table.get("b").unwrap().origin.to_string(), "etcd:fleet, key p/2");
        let laid = world.step(&[("2", 2, toml("c"))], &["1"]);
        assert_eq!((laid.added, laid.removed, laid.changed), (1, 2, 0));
        assert_eq!(world.patterns(), "f g c e ");
    }

    #[test]
    fn the_first_of_two_with_a_pattern_stands_and_the_second_takes_its_place() {
        let mut world = World::new(&[], Vec::new());
        world.step(&[("x", 9, toml("a")), ("y", 4, toml("a"))], &[]);
        assert_eq!(world.table.get("a").unwrap().origin.to_string(), "etcd:fleet, key p/y");
        let laid = world.step(&[], &["y"]);
        assert_eq!(laid.changed, 1, "it stands elsewhere");
        assert_eq!(world.table.get("a").unwrap().origin.to_string(), "etcd:fleet, key p/x");
        world.step(&[], &["x"]);
        assert_eq!(world.patterns(), "");
    }

    #[test]
    fn a_route_takes_the_place_of_another_whatever_their_patterns_are() {
        let mut world = World::new(&[], Vec::new());
        world.step(&[("1", 5, toml("z")), ("2", 6, toml("k")), ("3", 7, toml("a"))], &[]);
        let laid = world.step(&[("4", 5, toml("b")), ("2", 7, toml("k")), ("5", 6, toml("y"))], &["1", "3"]);
        assert_eq!((laid.added, laid.removed, laid.changed), (2, 2, 1));
        assert_eq!(world.patterns(), "b y k ");
    }

    #[test]
    fn a_bad_entry_is_refused_alone_and_what_it_was_stays() {
        let mut world = World::new(&[], Vec::new());
        let laid = world.step(&[("x", 1, toml("a")), ("y", 2, "match = 'b'".to_owned())], &[]);
        assert_eq!(world.patterns(), "a ");
        assert!(laid.problems.first_error().starts_with("p/y:1:1: the route has no `host`"), "{:?}", laid.problems);
        let laid = world.step(&[("x", 1, "match = 'a('".to_owned())], &[]);
        assert!(laid.problems.first_error().starts_with("p/x:1:"), "{:?}", laid.problems);
        assert_eq!(world.patterns(), "a ");
        let refused = world.layer.refused(None);
        assert_eq!(refused.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["p/x", "p/y"]);
        world.step(&[("x", 1, toml("c"))], &["y"]);
        assert_eq!(world.patterns(), "c ");
        assert!(world.layer.refused(None).is_empty());
    }

    #[test]
    fn edits_lie_over_shared_routes_as_over_files() {
        let mut world = World::new(&[], vec![Record::Remove(edit("a")), Record::Add(edit("b"))]);
        world.edits = edits::Layer::of([Record::Remove(edit("a")), Record::Add(edit("b"))]);
        let laid = world.step(&[("x", 1, toml("a")), ("y", 2, toml("b"))], &[]);
        assert_eq!(world.patterns(), "b ");
        assert_eq!(world.removed.len(), 1, "what was removed stays so");
        let ended: Vec<_> = laid.ended.iter().map(ToString::to_string).collect();
        assert_eq!(ended, ["the route `b` of the edit of 1970-01-01T00:00:01Z is replaced by etcd:fleet, key p/y"]);
        let laid = world.step(&[("x", 1, format!("{}weight = 7\n", toml("a")))], &[]);
        assert_eq!(world.patterns(), "b a ");
        assert_eq!(laid.ended.len(), 1);
        assert!(world.removed.is_empty());
    }
}
