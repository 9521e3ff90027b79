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
/// A share that is further from what was asked than this many points, or than this part of it, is a wrong one: an effect is confirmed only
/// when the packets seen exclude every wrong share.
const WRONG: f64 = 15.0;
const WRONG_PART: f64 = 0.5;
/// Standard deviations of the interval that must exclude wrong shares: 99 %.
const CONFIDENCE: f64 = 2.576;
/// No more packets than this are asked for.
const MOST_PACKETS: u64 = 1 << 40;

/// The share that should be lost in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct RequestedLoss {
    pub percent: f64,
    /// How much a packet's fate is like the one before's, 0 to 1: the more, the wider is luck.
    pub likeness: f64,
}

impl RequestedLoss {
    fn tolerance(self, packets: u64) -> f64 {
        let share = self.percent / 100.0;
        let luck = 100.0 * DEVIATIONS * (share * (1.0 - share) / self.independent(packets)).sqrt();
        luck.max(TOLERANCE.min(self.percent * TOLERANCE_PART))
    }

    /// Packets whose fate is their own, among so many that are alike.
    fn independent(self, packets: u64) -> f64 {
        let alike = self.likeness.clamp(0.0, 0.99);
        packets.max(1) as f64 * (1.0 - alike) / (1.0 + alike)
    }

    /// Whether so many packets, of which `percent` were lost, exclude every wrong share.
    fn is_certain(self, percent: f64, packets: u64) -> bool {
        let (low, high) = interval(percent / 100.0, self.independent(packets));
        let wrong = WRONG.min(self.percent * WRONG_PART);
        low * 100.0 >= self.percent - wrong && high * 100.0 <= self.percent + wrong
    }

    /// How many packets more it takes when they are lost as asked; as many again where that many were seen already.
    fn wanting(self, packets: u64) -> u64 {
        let mut enough = packets.max(1);
        while enough < MOST_PACKETS && !self.is_certain(self.percent, enough) {
            enough += enough.div_ceil(20);
        }
        if enough > packets { enough - packets } else { packets }
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
    asked: RequestedLoss,
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

fn judge(asked: RequestedLoss, earlier: Seen, now: Option<TrafficCounters>) -> Observation {
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
    let (state, few) = match (near, asked.is_certain(measured, all)) {
        (false, _) => (EffectState::Mismatch, String::new()),
        (true, true) => (EffectState::Confirmed, String::new()),
        (true, false) => (
            EffectState::Unknown,
            format!(": too few to tell, about {} more are needed", asked.wanting(all)),
        ),
    };
    told(state, rounded, format!("{words}{few}"))
}

/// Wilson's interval for a share that was seen among so many.
fn interval(share: f64, number: f64) -> (f64, f64) {
    let z2 = CONFIDENCE * CONFIDENCE;
    let center = (share + z2 / (2.0 * number)) / (1.0 + z2 / number);
    let half = CONFIDENCE / (1.0 + z2 / number) * (share * (1.0 - share) / number + z2 / (4.0 * number * number)).sqrt();
    (center - half, center + half)
}

fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use agent_view::PassedTraffic;

    use super::*;

    const ASKED: RequestedLoss = RequestedLoss {
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

    fn told(asked: RequestedLoss, from: (u64, u64), to: (u64, u64)) -> (EffectState, Option<f64>) {
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
    fn bursts_may_be_further_from_the_share_than_single_losses_and_need_more_packets() {
        let bursts = RequestedLoss { likeness: 0.8, ..ASKED };
        assert_eq!(told(bursts, (0, 0), (1_000, 720)).0, EffectState::Unknown);
        assert_eq!(told(bursts, (0, 0), (4_000, 3_100)).0, EffectState::Confirmed);
        assert_eq!(told(ASKED, (0, 0), (1_000, 720)).0, EffectState::Mismatch);
    }

    #[test]
    fn a_few_packets_confirm_nothing_and_it_says_how_many_do() {
        let note = |from: (u64, u64), to: (u64, u64)| {
            let from = Some(counters(from.0, from.1));
            judge(ASKED, Seen { first: from, last: from }, Some(counters(to.0, to.1)))
        };
        for (met, passed) in [(1, 0), (2, 0), (2, 2), (5, 4), (19, 10), (50, 40)] {
            let observation = note((0, 0), (met, passed));
            assert_eq!(observation.state, EffectState::Unknown, "{observation:?}");
            assert!(observation.note.unwrap().contains("more are needed"));
        }
        // What it asks for is enough when it comes as asked.
        let enough = 50 + ASKED.wanting(50);
        assert!((80..400).contains(&enough), "{enough}");
        assert_eq!(note((0, 0), (enough, enough - enough / 5)).state, EffectState::Confirmed);
        for percent in [0.01, 1.0, 50.0, 99.0, 100.0] {
            let asked = RequestedLoss { percent, likeness: 0.0 };
            assert!(!asked.is_certain(percent, 10), "{percent}");
            assert!(asked.is_certain(percent, 10 + asked.wanting(10)), "{percent}");
        }
    }

    proptest::proptest! {
        /// Over every count that may come of a wrong share, weighed by how likely it is.
        #[test]
        fn a_wrong_share_is_hardly_ever_confirmed_and_the_asked_one_is(percent in 1.0..99.0f64, packets in 1u64..3_000, off in 1.01..3.0f64) {
            let asked = RequestedLoss { percent, likeness: 0.0 };
            let wrong = WRONG.min(percent * WRONG_PART) * off;
            for share in [percent - wrong, percent + wrong].into_iter().filter(|share| (0.0..=100.0).contains(share)) {
                proptest::prop_assert!(likely_confirmed(asked, share / 100.0, packets) < 0.02);
            }
            let enough = 4 * asked.wanting(1);
            proptest::prop_assume!(enough < 5_000);
            proptest::prop_assert!(likely_confirmed(asked, percent / 100.0, enough) > 0.97);
        }
    }

    /// How likely so many packets confirm, when `share` of them is lost by luck.
    fn likely_confirmed(asked: RequestedLoss, share: f64, packets: u64) -> f64 {
        let from = Some(counters(0, 0));
        let mut log_likely = packets as f64 * (1.0 - share).max(1e-300).ln();
        let mut all = 0.0;
        for lost in 0..=packets {
            let to = Some(counters(packets, packets - lost));
            if judge(asked, Seen { first: from, last: from }, to).state == EffectState::Confirmed {
                all += log_likely.exp();
            }
            let odds = (share.max(1e-300) / (1.0 - share).max(1e-300)).ln();
            log_likely += ((packets - lost) as f64 / (lost + 1) as f64).ln() + odds;
        }
        all
    }
}
