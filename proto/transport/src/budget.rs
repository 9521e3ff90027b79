//! How many connections of one kind may be open: for each key (an address, an identity) and in all.
//!
//! A full budget does not refuse everybody: the key that holds the most gives up its oldest seat, so that one greedy address cannot keep
//! others out. Seats are protected for a while, because honest peers are quick.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

/// How many seats there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// For one key.
    pub each: usize,
    pub all: usize,
}

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Each,
    All,
}

/// Seats that are taken. Clones share them.
#[derive(Debug)]
pub(crate) struct Budget<K>(Arc<Inner<K>>);

#[derive(Debug)]
struct Inner<K> {
    quota: Quota,
    state: Mutex<State<K>>,
    /// Rung when a seat is free again.
    freed: Notify,
}

#[derive(Debug)]
struct State<K> {
    /// The oldest first. Few have more than one, so that a list takes the least.
    taken: HashMap<K, Vec<Occupied>>,
    count: usize,
    next: u64,
}

#[derive(Debug)]
struct Occupied {
    id: u64,
    /// Nobody with as many seats may have this one before; `None` is never.
    protected_until: Option<Instant>,
    /// Used when the seat is given to another; none for one that was taken for good.
    evict: Option<oneshot::Sender<()>>,
}

/// A seat, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Eq + Hash> {
    budget: Budget<K>,
    key: K,
    id: u64,
}

impl<K> Clone for Budget<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash + Clone> Budget<K> {
    pub fn new(quota: Quota) -> Self {
        let state = State {
            taken: HashMap::new(),
            count: 0,
            next: 0,
        };
        Self(Arc::new(Inner {
            quota,
            state: Mutex::new(state),
            freed: Notify::new(),
        }))
    }

    /// A seat that others may have after `protected`; `None` keeps it for good. The receiver resolves to `Ok` when it was given away.
    pub fn take(&self, key: K, protected: Option<Duration>) -> Result<(Seat<K>, oneshot::Receiver<()>), Full> {
        let (evict, evicted) = oneshot::channel();
        let mut state = self.state();
        let now = Instant::now();
        let held = state.taken.get(&key).map_or(0, Vec::len);
        if held >= self.0.quota.each && !state.evict_oldest(&key, now, false) {
            return Err(Full::Each);
        }
        if state.count >= self.0.quota.all && !state.make_room(held, now) {
            return Err(Full::All);
        }
        let id = state.next;
        state.next += 1;
        state.count += 1;
        let occupied = Occupied {
            id,
            protected_until: protected.map(|protected| now + protected),
            evict: protected.is_some().then_some(evict),
        };
        state
            .taken
            .entry(key.clone())
            .or_insert_with(|| Vec::with_capacity(1))
            .push(occupied);
        drop(state);
        let budget = self.clone();
        Ok((Seat { budget, key, id }, evicted))
    }

    /// How many seats this key has.
    pub fn held(&self, key: &K) -> usize {
        self.state().taken.get(key).map_or(0, Vec::len)
    }

    /// Comes when a seat has become free; of several who wait, to one.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.state().count
    }
}

impl<K> Budget<K> {
    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Seat<K> {
    /// From now on for this long, nobody with as many seats may have it.
    pub fn protect(&self, protected: Duration) {
        let mut state = self.budget.state();
        let mut own = state.taken.get_mut(&self.key).into_iter().flatten();
        if let Some(occupied) = own.find(|occupied| occupied.id == self.id) {
            occupied.protected_until = Some(Instant::now() + protected);
        }
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut state = self.budget.state();
        let Some(of) = state.taken.get_mut(&self.key) else { return };
        let before = of.len();
        of.retain(|occupied| occupied.id != self.id);
        let freed = of.len() < before;
        if of.is_empty() {
            state.taken.remove(&self.key);
        }
        state.count -= usize::from(freed);
        drop(state);
        self.budget.0.freed.notify_one();
    }
}

impl<K: Eq + Hash + Clone> State<K> {
    /// Frees a seat of a key that holds the most, for one that holds `held`: of several such keys, the seat whose protection ends first.
    fn make_room(&mut self, held: usize, now: Instant) -> bool {
        let most = self.taken.values().map(Vec::len).max().unwrap_or_default();
        let ends = |of: &Vec<Occupied>| of.iter().filter_map(|occupied| occupied.protected_until).min();
        let of_the_greediest = self.taken.iter().filter(|(_, of)| of.len() == most);
        let first = of_the_greediest
            .filter_map(|(key, of)| Some((ends(of)?, key)))
            .min_by_key(|(until, _)| *until);
        let Some(key) = first.map(|(_, key)| key.clone()) else {
            return false;
        };
        // Protection is for equals: it does not shield a greedy key from a modest one.
        self.evict_oldest(&key, now, most > held + 1)
    }

    fn evict_oldest(&mut self, key: &K, now: Instant, also_protected: bool) -> bool {
        let Some(of) = self.taken.get_mut(key) else { return false };
        // Seats that are kept for good are not given away.
        let oldest = of
            .iter()
            .enumerate()
            .filter_map(|(at, occupied)| Some((occupied.protected_until?, at)))
            .min()
            .filter(|(until, _)| also_protected || *until <= now);
        let Some(occupied) = oldest.map(|(_, at)| of.remove(at)) else {
            return false;
        };
        if of.is_empty() {
            self.taken.remove(key);
        }
        self.count -= 1;
        // Whoever sat there may be leaving at this moment.
        let _ = occupied.evict.map(|evict| evict.send(()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(3_600));
    const NONE: Option<Duration> = Some(Duration::ZERO);

    fn budget(each: usize, all: usize) -> Budget<&'static str> {
        Budget::new(Quota { each, all })
    }

    #[test]
    fn a_key_gives_up_its_own_oldest_seat_once_it_is_unprotected() {
        let budget = budget(2, 10);
        let (first, mut first_evicted) = budget.take("greedy", NONE).unwrap();
        let (_second, mut second_evicted) = budget.take("greedy", NONE).unwrap();
        let _third = budget.take("greedy", LONG).unwrap();
        assert!(first_evicted.try_recv().is_ok() && second_evicted.try_recv().is_err());
        drop(first);
        assert_eq!(budget.count(), 2, "a seat that was given away is not freed twice");
        let _fourth = budget.take("greedy", LONG).unwrap();
        assert_eq!(budget.take("greedy", LONG).err(), Some(Full::Each));
        assert!(budget.take("other", LONG).is_ok());
    }

    #[test]
    fn the_greediest_key_makes_room_for_a_modest_one_even_while_it_is_protected() {
        let budget = budget(4, 4);
        let mut greedy: Vec<_> = (0..3).map(|_| budget.take("greedy", LONG).unwrap()).collect();
        let modest = budget.take("modest", LONG).unwrap();
        let _newcomer = budget.take("newcomer", LONG).unwrap();
        assert!(greedy[0].1.try_recv().is_ok(), "the oldest of the greediest goes");
        let _last = budget.take("last", LONG).unwrap();
        assert!(greedy[1].1.try_recv().is_ok());
        // Everybody has one now, and everybody is protected.
        assert_eq!(budget.take("one more", LONG).err(), Some(Full::All));
        assert_eq!(budget.take("modest", LONG).err(), Some(Full::All));
        drop(modest);
        assert!(budget.take("one more", LONG).is_ok());
    }

    #[test]
    fn of_equals_the_one_whose_protection_is_over_makes_room() {
        let keys = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let budget = budget(2, keys.len());
        let mut seats: Vec<_> = keys
            .map(|key| budget.take(key, if key == "f" { NONE } else { LONG }).unwrap())
            .into_iter()
            .collect();
        assert!(budget.take("newcomer", LONG).is_ok());
        let evicted: Vec<&str> = keys
            .into_iter()
            .zip(&mut seats)
            .filter_map(|(key, (_, evicted))| evicted.try_recv().is_ok().then_some(key))
            .collect();
        assert_eq!(evicted, ["f"]);
    }

    #[test]
    fn seats_that_are_kept_for_good_are_given_to_nobody() {
        let budget = budget(2, 2);
        let mut kept: Vec<_> = (0..2).map(|_| budget.take("host", None).unwrap()).collect();
        assert_eq!(budget.take("other", LONG).err(), Some(Full::All));
        assert!(kept.iter_mut().all(|(_, evicted)| evicted.try_recv().is_err()));
        kept[0].0.protect(Duration::ZERO);
        assert!(budget.take("other", LONG).is_ok());
        drop(kept);
        assert_eq!(budget.count(), 0);
    }
}
