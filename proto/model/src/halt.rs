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

    /// The newer of two records of the latch.
    pub fn newest(self, other: Self) -> Self {
        if other.epoch > self.epoch { other } else { self }
    }
}
