//! What a journal knows of an undo: that it is data which can be written and read back. Which there are is for the levers to say.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The recorded way back from one pull: plain data, so that another version's rescue can carry it out.
pub trait UndoData: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static> UndoData for T {}

/// What carrying out an undo found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum UndoOutcome {
    Restored,
    /// Undone, and so many packets that were under way were dropped.
    Dropped {
        packets: u64,
    },
    /// Nothing was there any more; that is success.
    AlreadyGone,
    /// Somebody else has changed it since; it was left alone.
    Drift {
        what: Vec<String>,
    },
}
