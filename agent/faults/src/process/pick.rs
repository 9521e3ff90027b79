//! Which of the processes that fit a fault means: by age, or by the seed of the run; it chooses, and touches nothing.

use std::borrow::Cow;
use std::fmt;

use agent_view::Process;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Pick {
    #[default]
    All,
    Oldest,
    Newest,
    Random(u32),
}

impl Pick {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "all" => Some(Self::All),
            "oldest" => Some(Self::Oldest),
            "newest" => Some(Self::Newest),
            "random" => Some(Self::Random(1)),
            other => {
                let count = other.strip_prefix("random")?.strip_prefix([':', ' '])?;
                count.trim().parse().ok().filter(|n| *n > 0).map(Self::Random)
            }
        }
    }

    /// Those picked of `matched`. Random is decided per process, so that another one's coming or going changes nothing else.
    pub(super) fn of(self, mut matched: Vec<Process>, seed: u64) -> Vec<Process> {
        matched.sort_by_key(|p| (p.start_time, p.pid));
        match self {
            Self::All => matched,
            Self::Oldest => matched.into_iter().take(1).collect(),
            Self::Newest => matched.pop().into_iter().collect(),
            Self::Random(n) => {
                matched.sort_by_key(|p| scrambled(seed ^ scrambled(p.start_time) ^ u64::from(p.pid)));
                matched.truncate(n as usize);
                matched
            }
        }
    }
}

/// The finalizer of splitmix64: any change of the input changes half of the output's bits.
fn scrambled(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Oldest => f.write_str("oldest"),
            Self::Newest => f.write_str("newest"),
            Self::Random(n) => write!(f, "random:{n}"),
        }
    }
}

impl Serialize for Pick {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fail = || de::Error::custom(format!("{text:?} is not a pick: expected all, oldest, newest, random or random:N"));
        Self::parse(&text).ok_or_else(fail)
    }
}

impl JsonSchema for Pick {
    fn schema_name() -> Cow<'static, str> {
        "Pick".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": ["all", "oldest", "newest", "random"] }, { "type": "string", "pattern": "^random[: ][0-9]+$" }] })
    }
}

#[cfg(test)]
mod tests {
    use agent_view::ProcessState;

    use super::*;

    fn process(pid: u32) -> Process {
        Process {
            pid,
            start_time: u64::from(pid) * 10,
            parent: 1,
            name: "x".to_owned(),
            exe: Some("/usr/bin/x".to_owned()),
            command_line: vec!["x".to_owned()],
            uid: 1000,
            real_uid: 1000,
            saved_uid: 1000,
            user: Some("app".to_owned()),
            state: ProcessState::Sleeping,
            our_program: false,
            installed_program: false,
            kernel_thread: false,
            groups: vec!["/".to_owned()],
            unified: None,
            unread: None,
        }
    }

    #[test]
    fn picks_are_by_age_or_by_seed() {
        let all = || (1..=20).rev().map(process).collect::<Vec<_>>();
        let pids = |pick: Pick, seed| pick.of(all(), seed).iter().map(|p| p.pid).collect::<Vec<_>>();
        assert_eq!(pids(Pick::Oldest, 0), vec![1]);
        assert_eq!(pids(Pick::Newest, 0), vec![20]);
        assert_eq!(pids(Pick::Random(3), 7), pids(Pick::Random(3), 7));
        assert_eq!(pids(Pick::Random(3), 7).len(), 3);
        assert!((0..10).any(|seed| pids(Pick::Random(3), seed) != pids(Pick::Random(3), 7)));
    }

    #[test]
    fn a_stranger_more_does_not_change_who_else_is_picked() {
        let mut all: Vec<Process> = (1..=20).map(process).collect();
        let without = Pick::Random(5).of(all.clone(), 3);
        all.push(process(99));
        let with: Vec<Process> = Pick::Random(6).of(all, 3).into_iter().filter(|p| p.pid != 99).collect();
        assert!(without.iter().all(|p| with.contains(p)));
    }

    #[test]
    fn picks_are_read_as_they_are_written() {
        for text in ["all", "oldest", "newest", "random:3"] {
            assert_eq!(Pick::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Pick::parse("random 2"), Some(Pick::Random(2)));
        assert!(Pick::parse("random:0").is_none() && Pick::parse("some").is_none());
    }
}
