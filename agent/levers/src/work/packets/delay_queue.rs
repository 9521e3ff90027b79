//! Packets that wait for their time, the earliest first, within limits of number and bytes; it sends none.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Packets per second that are expected at most: 1.2 Gbit/s of full Ethernet frames.
const RATE: f64 = 100_000.0;
/// However short or long the delay: so many packets may wait.
const PACKETS: (f64, f64) = (1_000.0, 50_000.0);
/// So many bytes may wait, in each direction.
const BYTES: usize = 64 << 20;

/// What may wait at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub packets: usize,
    pub bytes: usize,
}

impl Room {
    /// Sized from delay times rate.
    pub fn for_delay(longest: Duration) -> Self {
        let packets = (longest.as_secs_f64() * RATE).clamp(PACKETS.0, PACKETS.1);
        Self {
            packets: packets as usize,
            bytes: BYTES,
        }
    }
}

/// One waiting thing; those due at the same time leave in the order in which they came.
struct Waiting<T> {
    due: Instant,
    number: u64,
    bytes: usize,
    thing: T,
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

pub(crate) struct Held<T> {
    room: Room,
    waiting: BinaryHeap<Reverse<Waiting<T>>>,
    bytes: usize,
    number: u64,
}

impl<T> Held<T> {
    pub fn new(room: Room) -> Self {
        Self {
            room,
            waiting: BinaryHeap::new(),
            bytes: 0,
            number: 0,
        }
    }

    /// Gives it back when there is no room.
    pub fn hold(&mut self, due: Instant, bytes: usize, thing: T) -> Result<(), T> {
        if self.waiting.len() >= self.room.packets || self.bytes + bytes > self.room.bytes {
            return Err(thing);
        }
        self.bytes += bytes;
        self.number += 1;
        let number = self.number;
        self.waiting.push(Reverse(Waiting { due, number, bytes, thing }));
        Ok(())
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(waiting)| waiting.due)
    }

    /// The earliest, if its time has come; without a time, the earliest there is.
    pub fn take_due(&mut self, now: Option<Instant>) -> Option<T> {
        if now.is_some_and(|now| self.next_due().is_some_and(|due| due > now)) {
            return None;
        }
        let Reverse(waiting) = self.waiting.pop()?;
        self.bytes -= waiting.bytes;
        Some(waiting.thing)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_leave_by_their_time_and_then_by_their_turn() {
        let mut held = Held::new(Room { packets: 10, bytes: 100 });
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        for (ms, name) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            held.hold(at(ms), 1, name).unwrap();
        }
        assert_eq!(held.next_due(), Some(at(1)));
        assert_eq!(held.take_due(Some(now)), None);
        assert_eq!((held.take_due(Some(at(3))), held.take_due(Some(at(3)))), (Some("a"), Some("b")));
        assert_eq!(held.take_due(Some(at(4))), None);
        assert_eq!(
            (held.take_due(None), held.take_due(None), held.take_due(None)),
            (Some("c"), Some("d"), None)
        );
    }

    #[test]
    fn what_has_no_room_is_given_back_and_room_comes_again() {
        let mut held = Held::new(Room { packets: 2, bytes: 100 });
        let now = Instant::now();
        held.hold(now, 60, 1).unwrap();
        assert_eq!(held.hold(now, 60, 2), Err(2), "too many bytes");
        held.hold(now, 40, 3).unwrap();
        assert_eq!(held.hold(now, 0, 4), Err(4), "too many");
        assert_eq!(held.take_due(None), Some(1));
        held.hold(now, 60, 5).unwrap();
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn room_grows_with_the_delay_between_its_bounds() {
        let packets = |ms| Room::for_delay(Duration::from_millis(ms)).packets;
        assert_eq!((packets(1), packets(100), packets(60_000)), (1_000, 10_000, 50_000));
    }
}
