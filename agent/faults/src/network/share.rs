//! Whether as many packets are lost as asked: those that met the fault against those that came through, counted by the kernel.

use agent_view::TrafficCounters;
use proto_model::injection::{EffectState, Observation};
use serde::{Deserialize, Serialize};

use crate::fault::{FaultError, Look};

const UNIT: &str = "percent of packets";
/// Points of percent that measured may differ from asked, given packets enough; of small shares no more than this part.
const TOLERANCE: f64 = 1.0;
const TOLERANCE_PART: f64 = 0.2;
/// Deviations of luck that are no mismatch.
const DEVIATIONS: f64 = 3.0;
/// Losses to expect before it means something that there was none.
const EXPECTED: f64 = 5.0;

/// The share that should be lost in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    pub percent: f64,
    /// How much a packet's fate is like the one before's, 0 to 1: the more, the wider is luck.
    pub likeness: f64,
}

impl Asked {
    fn tolerance(self, packets: u64) -> f64 {
        let share = self.percent / 100.0;
        let alike = self.likeness.min(0.99);
        let independent = packets.max(1) as f64 * (1.0 - alike) / (1.0 + alike);
        let luck = 100.0 * DEVIATIONS * (share * (1.0 - share) / independent).sqrt();
        luck.max(TOLERANCE.min(self.percent * TOLERANCE_PART))
    }
}

/// What one look keeps: shares are taken since the first, so that they settle; what is new since the last shows that it acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    first: Option<TrafficCounters>,
    last: Option<TrafficCounters>,
}

/// `now` is what the kernel counted of the packets that met the fault and of those that came through.
pub(super) fn lost(
    asked: Asked,
    now: Option<TrafficCounters>,
    boot_ms: u64,
    before: Option<&Look>,
) -> Result<(Option<Observation>, Look), FaultError> {
    let earlier: Option<Seen> = before.map(|look| serde_json::from_value(look.seen.clone()).unwrap_or_default());
    let seen = Seen {
        first: earlier.and_then(|seen| seen.first).or(now),
        last: now,
    };
    let look = Look {
        boot_ms,
        seen: serde_json::to_value(seen).map_err(|e| FaultError::Other(format!("keep the packet counters: {e}")))?,
    };
    Ok((earlier.map(|earlier| judge(asked, earlier, now)), look))
}

/// Packets that met the fault: counted apart where only a share of them is taken by a rule.
fn met(counters: &TrafficCounters) -> u64 {
    if counters.met_packets > 0 {
        counters.met_packets
    } else {
        counters.hit_packets
    }
}

fn judge(asked: Asked, earlier: Seen, now: Option<TrafficCounters>) -> Observation {
    let told = |state, measured, note: String| Observation {
        asked: Some(round(asked.percent)),
        measured,
        unit: UNIT.to_owned(),
        state,
        note: Some(note),
    };
    let Some(now) = now else {
        return told(EffectState::Mismatch, None, "what made it is gone".to_owned());
    };
    let (Some(first), Some(last)) = (earlier.first, earlier.last) else {
        return told(EffectState::Unknown, None, "there is no earlier count to compare with".to_owned());
    };
    let (Some(all), Some(passed)) = (
        met(&now).checked_sub(met(&first)),
        now.passed.packets.checked_sub(first.passed.packets),
    ) else {
        return told(EffectState::Unknown, None, "the packet counters began anew".to_owned());
    };
    let lost = all.saturating_sub(passed);
    let measured = (all > 0).then(|| 100.0 * lost as f64 / all as f64);
    let words = format!("{all} packets met the fault since it was first looked at, {passed} came through");
    let rounded = measured.map(round);
    if !now.gate_open {
        return told(
            EffectState::Mismatch,
            rounded,
            format!("{words}; the kernel has ended the fault, since its time was not prolonged"),
        );
    }
    let Some(measured) = measured.filter(|_| met(&now) > met(&last)) else {
        return told(
            EffectState::Unexercised,
            rounded,
            format!("no packet of the peers since the last look; {words}"),
        );
    };
    let near = (measured - asked.percent).abs() <= asked.tolerance(all);
    let state = match (near, lost) {
        (false, _) => EffectState::Mismatch,
        (true, 0) if all as f64 * asked.percent / 100.0 < EXPECTED => EffectState::Unknown,
        (true, _) => EffectState::Confirmed,
    };
    let few = if state == EffectState::Unknown { ": too few to tell" } else { "" };
    told(state, rounded, format!("{words}{few}"))
}

fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use agent_view::PassedTraffic;

    use super::*;

    const ASKED: Asked = Asked {
        percent: 20.0,
        likeness: 0.0,
    };

    fn counters(met: u64, passed: u64) -> TrafficCounters {
        TrafficCounters {
            met_packets: met,
            hit_packets: met - passed,
            passed: PassedTraffic { packets: passed, bytes: 0 },
            gate_open: true,
            ..TrafficCounters::default()
        }
    }

    fn told(asked: Asked, from: (u64, u64), to: (u64, u64)) -> (EffectState, Option<f64>) {
        let from = Some(counters(from.0, from.1));
        let observation = judge(asked, Seen { first: from, last: from }, Some(counters(to.0, to.1)));
        (observation.state, observation.measured)
    }

    #[test]
    fn each_story_that_counts_can_tell() {
        assert_eq!(told(ASKED, (0, 0), (10_000, 8_050)), (EffectState::Confirmed, Some(19.5)));
        assert_eq!(told(ASKED, (0, 0), (100_000, 78_500)), (EffectState::Mismatch, Some(21.5)));
        assert_eq!(told(ASKED, (100, 80), (100, 80)).0, EffectState::Unexercised);
        assert_eq!(told(ASKED, (0, 0), (4, 4)).0, EffectState::Unknown);
        assert_eq!(told(ASKED, (0, 0), (50, 50)).0, EffectState::Mismatch, "none of fifty is no luck");
        let mut closed = counters(10_000, 8_000);
        closed.gate_open = false;
        let from = Some(counters(0, 0));
        assert_eq!(
            judge(ASKED, Seen { first: from, last: from }, Some(closed)).state,
            EffectState::Mismatch
        );
        assert_eq!(judge(ASKED, Seen::default(), from).state, EffectState::Unknown);
        assert_eq!(judge(ASKED, Seen { first: from, last: from }, None).state, EffectState::Mismatch);
    }

    #[test]
    fn bursts_may_be_further_from_the_share_than_single_losses() {
        let bursts = Asked { likeness: 0.8, ..ASKED };
        assert_eq!(told(bursts, (0, 0), (1_000, 720)).0, EffectState::Confirmed);
        assert_eq!(told(ASKED, (0, 0), (1_000, 720)).0, EffectState::Mismatch);
    }
}
