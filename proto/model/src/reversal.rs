//! Whether a fault can be taken back, and why not.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Whether a fault can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reversal {
    Full,
    /// `why` ends the sentence "it cannot be undone:".
    Irreversible {
        why: Cow<'static, str>,
    },
}

impl Reversal {
    pub fn is_full(&self) -> bool {
        *self == Self::Full
    }
}
