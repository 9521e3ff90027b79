//! From a wish about a volume's fullness to bytes, and back to what was reached; pure.

use agent_view::Volume;
use proto_model::injection::{EffectState, Observation};
use proto_model::quantity::{Amount, Bytes, Percent};
use serde::{Deserialize, Serialize};

const MEBI: u64 = 1 << 20;

/// How full; one of three ways to say it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    Used(Percent),
    Amount(Amount),
    Free(Amount),
}

/// How full a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fullness {
    pub(super) used: u64,
    pub(super) available: u64,
    /// What the ballast takes.
    pub(super) ballast: u64,
}

impl Goal {
    /// The parameter that says it.
    pub(super) fn parameter(&self) -> &'static str {
        match self {
            Self::Used(_) => "params.used",
            Self::Amount(_) => "params.amount",
            Self::Free(_) => "params.free",
        }
    }

    /// Bytes that must be added to a volume as it is now.
    pub(super) fn needs(&self, volume: &Volume) -> u64 {
        let total = volume.total();
        match self {
            Self::Used(percent) => Amount::Share(*percent).of(total).saturating_sub(volume.used),
            Self::Amount(amount) => amount.of(total),
            Self::Free(amount) => volume.available.saturating_sub(amount.of(total)),
        }
    }

    /// What could be asked instead where at most `room` bytes can be added.
    pub(super) fn allowed(&self, volume: &Volume, room: u64) -> String {
        let total = volume.total() as f64;
        let floor = |share: f64| (share * 10.0).floor() / 10.0;
        match self {
            Self::Used(_) => format!("..{}%", floor((volume.used + room) as f64 / total.max(1.0) * 100.0)),
            Self::Amount(_) => format!("..{}", Bytes(room / MEBI * MEBI)),
            Self::Free(_) => format!("{}..", Bytes((volume.available - room).next_multiple_of(MEBI))),
        }
    }

    /// Compares with what the volume says now. `due` is what the ballast should have by now, `whole` in the end.
    pub(super) fn judge(&self, before: Fullness, now: Fullness, due: u64, whole: u64, slack: u64) -> Observation {
        let total = now.used + now.available;
        let (asked, measured, short) = match self {
            Self::Used(percent) => {
                let measured = now.used as f64 / (total as f64).max(1.0) * 100.0;
                (percent.0, measured, Amount::Share(*percent).of(total) as f64 - now.used as f64)
            }
            Self::Amount(_) => {
                let added = now.used as f64 - before.used as f64;
                (due as f64, added, due as f64 - added)
            }
            Self::Free(amount) => {
                let left = amount.of(total);
                (left as f64, now.available as f64, now.available as f64 - left as f64)
            }
        };
        let slack = match self {
            Self::Used(_) => slack.max(total / 1_000),
            _ => slack,
        };
        // A file system that has counted nothing of the file yet says nothing of others.
        let unseen = matches!(self, Self::Amount(_)) && due > slack && measured <= slack as f64;
        let (state, note) = match unseen && now.ballast.abs_diff(due) <= slack {
            true => (
                EffectState::Unknown,
                Some("the volume shows nothing of what the file takes".to_owned()),
            ),
            false => self.verdict(short, slack as f64, now.ballast.abs_diff(due) <= slack, due < whole),
        };
        Observation {
            asked: Some(asked),
            measured: Some(measured),
            unit: if matches!(self, Self::Used(_)) { "percent" } else { "bytes" }.to_owned(),
            state,
            note,
        }
    }

    fn verdict(&self, short: f64, slack: f64, ballast_is_right: bool, grows: bool) -> (EffectState, Option<String>) {
        let adds = matches!(self, Self::Amount(_));
        let size = Bytes(short.abs() as u64 / MEBI * MEBI);
        let (state, note) = match () {
            () if short.abs() <= slack => return (EffectState::Confirmed, None),
            () if adds && ballast_is_right && short > 0.0 => (EffectState::Confirmed, format!("others have freed {size} since")),
            () if adds && ballast_is_right => (EffectState::Confirmed, format!("others have taken {size} since")),
            () if adds => (EffectState::Mismatch, "the file is not what it should be".to_owned()),
            () if short < 0.0 => (EffectState::Confirmed, format!("past the target by {size} of others")),
            () if grows && ballast_is_right => (EffectState::Confirmed, "still growing".to_owned()),
            () if ballast_is_right => (EffectState::Mismatch, format!("others have freed {size} since")),
            () => (EffectState::Mismatch, format!("{size} are missing")),
        };
        (state, Some(note))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(used: u64, available: u64) -> Volume {
        Volume {
            path: "/x".into(),
            is_folder: true,
            device: 1,
            id: None,
            mount_point: "/".into(),
            kind: "ext4".into(),
            read_only: false,
            thin: false,
            used,
            available,
        }
    }

    #[test]
    fn each_way_to_say_it_comes_to_bytes() {
        let volume = volume(300 * MEBI, 700 * MEBI);
        let size = |mebi: u64| Amount::Size(Bytes(mebi * MEBI));
        for (goal, mebi) in [
            (Goal::Used(Percent(90.0)), 600),
            (Goal::Used(Percent(10.0)), 0),
            (Goal::Amount(size(123)), 123),
            (Goal::Amount(Amount::Share(Percent(10.0))), 100),
            (Goal::Free(size(50)), 650),
            (Goal::Free(size(900)), 0),
        ] {
            assert_eq!(goal.needs(&volume), mebi * MEBI, "{goal:?}");
        }
    }

    #[test]
    fn what_is_allowed_is_said_in_the_same_words() {
        let volume = volume(300 * MEBI, 700 * MEBI);
        let allowed = |goal: Goal| goal.allowed(&volume, 600 * MEBI);
        assert_eq!(allowed(Goal::Used(Percent(99.0))), "..90%");
        assert_eq!(allowed(Goal::Amount(Amount::Size(Bytes(1)))), "..600MiB");
        assert_eq!(allowed(Goal::Free(Amount::Size(Bytes(1)))), "100MiB..");
    }

    fn judged(goal: Goal, used: u64, ballast: u64) -> (EffectState, Option<f64>) {
        let before = Fullness {
            used: 300 * MEBI,
            available: 700 * MEBI,
            ballast: 0,
        };
        let now = Fullness {
            used: used * MEBI,
            available: (1_000 - used) * MEBI,
            ballast: ballast * MEBI,
        };
        let observation = goal.judge(before, now, 600 * MEBI, 600 * MEBI, MEBI);
        (observation.state, observation.measured)
    }

    #[test]
    fn what_others_do_is_told_apart_from_what_is_missing() {
        let used = Goal::Used(Percent(90.0));
        let amount = Goal::Amount(Amount::Size(Bytes(600 * MEBI)));
        assert_eq!(judged(used, 900, 600), (EffectState::Confirmed, Some(90.0)));
        assert_eq!(judged(used, 950, 600).0, EffectState::Confirmed);
        assert_eq!(judged(used, 800, 600).0, EffectState::Mismatch);
        assert_eq!(judged(used, 500, 200).0, EffectState::Mismatch);
        assert_eq!(judged(amount, 900, 600), (EffectState::Confirmed, Some((600 * MEBI) as f64)));
        assert_eq!(judged(amount, 800, 600).0, EffectState::Confirmed);
        assert_eq!(judged(amount, 800, 500).0, EffectState::Mismatch);
        assert_eq!(judged(amount, 300, 600).0, EffectState::Unknown, "measured 0 is never confirmed");
        assert_eq!(
            judged(Goal::Free(Amount::Size(Bytes(100 * MEBI))), 900, 600).0,
            EffectState::Confirmed
        );
    }
}
