//! Counts log records that their reader did not take, and has the count written as a record of its own before the next.

use std::sync::atomic::{AtomicU64, Ordering};

/// What that record says, beside its count.
pub(crate) const MESSAGE: &str = "log records were dropped here: what reads the log took none for a while";

/// How many records were dropped since the last one that was written.
#[derive(Debug, Default)]
pub(crate) struct Dropped(AtomicU64);

impl Dropped {
    /// Writes a record with `write`, which is false when it was not taken; before it a report of those that were dropped.
    pub(crate) fn deliver(&self, record: &[u8], report: impl FnOnce(u64) -> Vec<u8>, write: impl Fn(&[u8]) -> bool) {
        let before = self.0.swap(0, Ordering::Relaxed);
        let reported = before == 0 || write(&report(before));
        let dropped = if reported {
            u64::from(!write(record))
        } else {
            // This one would stand where others are missing, and nothing would say so.
            before + 1
        };
        self.0.fetch_add(dropped, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    #[test]
    fn what_was_dropped_is_counted_and_reported_once_before_the_next() {
        let (dropped, room, written) = (Dropped::default(), Cell::new(1), RefCell::new(Vec::new()));
        let deliver = |record: &str| {
            let report = |number: u64| format!("{number} dropped").into_bytes();
            dropped.deliver(record.as_bytes(), report, |record| {
                let taken = room.get() > 0;
                if taken {
                    room.set(room.get() - 1);
                    written.borrow_mut().push(String::from_utf8_lossy(record).into_owned());
                }
                taken
            });
        };
        ["a", "b", "c"].into_iter().for_each(deliver);
        room.set(1);
        // The report takes the only place, so this one is dropped after it.
        deliver("d");
        room.set(9);
        ["e", "f"].into_iter().for_each(deliver);
        assert_eq!(*written.borrow(), ["a", "2 dropped", "1 dropped", "e", "f"]);
    }
}
