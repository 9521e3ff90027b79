//! The answer to whether a host has something: present, to be loaded, absent with the command that fixes it, or unknown.

use serde::{Deserialize, Serialize};

/// Whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "presence", rename_all = "snake_case")]
pub enum Presence {
    Present,
    /// Present, in the state that `detail` describes.
    Described {
        detail: String,
    },
    /// The kernel loads its module when it is first used.
    Loadable,
    Absent {
        why: String,
        /// The command that fixes it.
        fix: String,
    },
    /// It could not be looked at, or the look says nothing.
    Unknown {
        why: String,
        /// The command that shows it, or lets it be looked at.
        fix: String,
    },
}

impl Presence {
    pub(crate) fn described(detail: impl Into<String>) -> Self {
        Self::Described { detail: detail.into() }
    }

    pub(crate) fn absent(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Absent {
            why: why.into(),
            fix: fix.into(),
        }
    }

    pub(crate) fn unknown(why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Unknown {
            why: why.into(),
            fix: fix.into(),
        }
    }

    /// Of several that are needed together, the one that says most against it.
    pub(crate) fn worst(all: impl Iterator<Item = Self>) -> Self {
        all.max_by_key(Self::rank).unwrap_or(Self::Present)
    }

    /// Of several of which one is enough, the first that says least against it.
    pub(crate) fn best(all: impl Iterator<Item = Self>) -> Self {
        all.min_by_key(Self::rank).unwrap_or(Self::Present)
    }

    pub(crate) fn is_there(&self) -> bool {
        matches!(self, Self::Present | Self::Described { .. })
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Present | Self::Described { .. } => 0,
            Self::Loadable => 1,
            Self::Unknown { .. } => 2,
            Self::Absent { .. } => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_needs_counts() {
        let all = [Presence::Loadable, Presence::unknown("x", "look"), Presence::Present];
        assert_eq!(Presence::worst(all.into_iter()), Presence::unknown("x", "look"));
        assert_eq!(
            Presence::worst([Presence::unknown("x", "look"), Presence::absent("y", "add y")].into_iter()),
            Presence::absent("y", "add y")
        );
    }

    #[test]
    fn of_alternatives_the_best_counts() {
        let ways = || [Presence::absent("x", "add x"), Presence::Loadable, Presence::absent("y", "add y")].into_iter();
        assert_eq!(Presence::best(ways()), Presence::Loadable);
        assert_eq!(
            Presence::best(ways().filter(|way| *way != Presence::Loadable)),
            Presence::absent("x", "add x")
        );
    }
}
