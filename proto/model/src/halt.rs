//! The emergency stop as a value: an epoch that only grows, engaged or released by a named person; never a queue.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltState {
    pub epoch: u64,
    pub engaged: bool,
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

impl HaltState {
    /// What a controller starts with: nothing halted, epoch 0.
    pub fn released() -> Self {
        Self {
            epoch: 0,
            engaged: false,
            by: String::new(),
            reason: String::new(),
            at: Timestamp(0),
        }
    }

    pub fn engage(&self, by: &str, reason: &str, at: Timestamp) -> Self {
        Self {
            epoch: self.epoch + 1,
            engaged: true,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
        }
    }

    pub fn release(&self, by: &str, reason: &str, at: Timestamp) -> Self {
        Self {
            epoch: self.epoch + 1,
            engaged: false,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at,
        }
    }

    /// In words, such as `halted by root@local: drill`; a reason that only repeats the name is said once.
    pub fn words(&self) -> String {
        if self.reason == format!("by {}", self.by) {
            return format!("halted {}", self.reason);
        }
        format!("halted by {}: {}", self.by, self.reason)
    }

    /// The newer of two records of the latch.
    pub fn newest(self, other: Self) -> Self {
        if other.epoch > self.epoch { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_repeats_the_name_is_said_once() {
        let released = HaltState::released();
        assert_eq!(
            released.engage("root@local", "by root@local", Timestamp(0)).words(),
            "halted by root@local"
        );
        assert_eq!(
            released.engage("root@local", "drill", Timestamp(0)).words(),
            "halted by root@local: drill"
        );
    }
}
