//! Whether a delay is what was asked for: round trips that the worker's probe timed, beside the packets that met the fault.

use agent_levers::work::packets::{Delay, Distribution, Echoes, PacketNote};
use agent_levers::{Direction, WorkerHandle};
use agent_view::{HostView, TrafficCounters};
use proto_model::id::InjectionId;
use proto_model::injection::{EffectState, Observation};
use serde::{Deserialize, Serialize};

use super::packets;
use crate::fault::{FaultError, Look};

const UNIT: &str = "ms";
/// The median may be off by this much, and by this share of what was asked.
const OFF_MS: f64 = 2.0;
const OFF_SHARE: f64 = 0.05;

/// Fewer round trips than this bound no median.
const LEAST_ROUND_TRIPS: usize = 6;
/// Standard deviations of the interval of the median: 95 %.
const CONFIDENCE: f64 = 1.96;

/// What was asked of each packet, and of which.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestedDelay {
    pub hold: Delay,
    pub direction: Direction,
}

impl RequestedDelay {
    /// How often a round trip is held.
    fn ways(self) -> f64 {
        if self.direction == Direction::Both { 2.0 } else { 1.0 }
    }

    /// What a round trip should take longer.
    fn ms(self) -> f64 {
        self.hold.delay_us as f64 / 1_000.0 * self.ways()
    }

    fn jitter_ms(self) -> f64 {
        self.hold.jitter_us as f64 / 1_000.0
    }

    /// The median of a lopsided distribution is not its mean.
    fn median_ms(self) -> f64 {
        let lopsided = if self.hold.distribution == Distribution::Pareto {
            -0.32
        } else {
            0.0
        };
        self.ms() + lopsided * self.jitter_ms() * self.ways()
    }

    /// A median further off than this is a wrong one, however many round trips there were.
    fn wrong_ms(self) -> f64 {
        2.0 * (OFF_MS + OFF_SHARE * self.ms()) + self.jitter_ms() * self.ways().sqrt()
    }

    /// Whether the round trips exclude every wrong median: the interval of the median by rank, which no distribution spoils.
    fn is_certain(self, timed: &RttSample) -> bool {
        let Some((low, high)) = self.ranks(timed.round_trips) else {
            return false;
        };
        let within = |ms: f64| (ms - self.median_ms()).abs() <= self.wrong_ms();
        within(timed.sorted_ms[low]) && within(timed.sorted_ms[high])
    }

    /// Ranks between which the true median lies; `None` where too few round trips bound it.
    fn ranks(self, round_trips: usize) -> Option<(usize, usize)> {
        let alike = self.hold.correlation.clamp(0.0, 0.99);
        let spread = CONFIDENCE / 2.0 * (round_trips as f64 * (1.0 + alike) / (1.0 - alike)).sqrt();
        let low = (round_trips as f64 / 2.0 - spread).floor();
        (round_trips >= LEAST_ROUND_TRIPS && low >= 0.0).then(|| (low as usize, round_trips - 1 - low as usize))
    }

    fn wanting(self, round_trips: usize) -> usize {
        let enough = (round_trips.max(1)..)
            .find(|enough| self.ranks(*enough).is_some())
            .unwrap_or(round_trips);
        (enough - round_trips.min(enough)).max(1)
    }

    /// How far the median of so many round trips may be off; luck with the jitter included, alike ones being fewer.
    fn tolerance_ms(self, round_trips: usize) -> f64 {
        let alike = self.hold.correlation.min(0.99);
        let independent = round_trips as f64 * (1.0 - alike) / (1.0 + alike);
        let luck = 3.0 * 1.25 * self.jitter_ms() * self.ways().sqrt() / independent.max(1.0).sqrt();
        OFF_MS + OFF_SHARE * self.ms() + luck
    }
}

/// What one look keeps for the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    rules: Option<TrafficCounters>,
    worker: Option<PacketNote>,
}

pub(super) fn delayed(
    injection: &InjectionId,
    worker: &WorkerHandle,
    asked: RequestedDelay,
    view: &dyn HostView,
    before: Option<&Look>,
) -> Result<(Option<Observation>, Look), FaultError> {
    let seen = Seen {
        rules: view.traffic(injection)?,
        worker: packets::note(worker, view),
    };
    let look = Look {
        boot_ms: view.boot_ms(),
        seen: serde_json::to_value(&seen).map_err(|e| FaultError::Other(format!("keep what was seen: {e}")))?,
    };
    let Some(before) = before else { return Ok((None, look)) };
    let before: Seen = serde_json::from_value(before.seen.clone()).unwrap_or_default();
    Ok((Some(judge(asked, &before, &seen)), look))
}

fn judge(asked: RequestedDelay, before: &Seen, now: &Seen) -> Observation {
    let (Some(rules), Some(worker)) = (&now.rules, &now.worker) else {
        return asked.gone(if now.rules.is_none() { "network rules" } else { "worker" });
    };
    let (Some(rules_before), Some(worker_before)) = (&before.rules, &before.worker) else {
        return asked.unknown();
    };
    let met = worker.met.saturating_sub(worker_before.met);
    let reached = rules.hit_packets.saturating_sub(rules_before.hit_packets);
    let timed = worker
        .echoes
        .as_ref()
        .and_then(|echoes| RttSample::since(echoes, worker_before.echoes.as_ref()));
    let mut all = vec![
        format!("{met} packets met the fault"),
        words(timed.as_ref(), worker.echoes.as_ref()),
    ];
    for (count, earlier, what) in [
        (worker.overflowed, worker_before.overflowed, "dropped for want of room"),
        (
            worker.refused,
            worker_before.refused,
            "refused by the kernel when they were sent again",
        ),
        (worker.passed_by, worker_before.passed_by, "too long to be held"),
    ] {
        if count > earlier {
            all.push(format!("{} {what}", count - earlier));
        }
    }
    asked.judge(&Measurement {
        gate_open: rules.gate_open,
        exercised: reached > 0 && met > 0,
        timed,
        words: all.join("; "),
    })
}

/// What two looks tell, whatever the engine.
pub(super) struct Measurement {
    pub gate_open: bool,
    /// Packets met the fault that were not our own.
    pub exercised: bool,
    pub timed: Option<RttSample>,
    pub words: String,
}

impl RequestedDelay {
    pub fn judge(self, story: &Measurement) -> Observation {
        let Measurement { timed, words, .. } = story;
        let measured = timed.as_ref().map(|timed| round(timed.median_ms));
        if !story.gate_open {
            let note = format!("{words}; the kernel has ended the fault, since its time was not prolonged");
            return self.told(EffectState::Mismatch, measured, note);
        }
        if !story.exercised {
            let note = format!("no packet of the peers besides our own; {words}");
            return self.told(EffectState::Unexercised, measured, note);
        }
        let Some(timed) = timed else {
            return self.told(EffectState::Unknown, measured, words.clone());
        };
        let near = (timed.median_ms - self.median_ms()).abs() <= self.tolerance_ms(timed.round_trips);
        if near && self.is_certain(timed) {
            return self.told(EffectState::Confirmed, measured, words.clone());
        }
        if !near && timed.round_trips >= LEAST_ROUND_TRIPS {
            return self.told(EffectState::Mismatch, measured, words.clone());
        }
        let note = format!(
            "{words}: too few to tell, at least {} more are needed",
            self.wanting(timed.round_trips)
        );
        self.told(EffectState::Unknown, measured, note)
    }

    /// Something of what was made is not there any more.
    pub fn gone(self, what: &str) -> Observation {
        self.told(EffectState::Mismatch, None, format!("the {what} is not there any more"))
    }

    pub fn unknown(self) -> Observation {
        self.told(EffectState::Unknown, None, "there is no earlier count to compare with".to_owned())
    }

    fn told(self, state: EffectState, measured: Option<f64>, note: String) -> Observation {
        Observation {
            asked: Some(self.ms()),
            measured,
            unit: UNIT.to_owned(),
            state,
            note: Some(note),
        }
    }
}

/// How much longer round trips took than before the fault.
pub(super) struct RttSample {
    round_trips: usize,
    median_ms: f64,
    spread_ms: f64,
    sorted_ms: Vec<f64>,
    by: String,
}

impl RttSample {
    /// Over the answers since the look before, or a few more, as far as they are remembered; `None` when there is nothing to compare.
    pub fn since(now: &Echoes, before: Option<&Echoes>) -> Option<Self> {
        let base = now.before_us? as f64 / 1_000.0;
        let new = now.answered.saturating_sub(before.map_or(0, |echoes| echoes.answered));
        if new == 0 {
            return None;
        }
        // Where a look is short, those before it help to tell; the newest are judged all the same.
        let taken = usize::try_from(new)
            .unwrap_or(usize::MAX)
            .max(2 * LEAST_ROUND_TRIPS)
            .min(now.last_us.len());
        let mut ms: Vec<f64> = now.last_us[now.last_us.len() - taken..]
            .iter()
            .map(|us| *us as f64 / 1_000.0 - base)
            .collect();
        ms.sort_unstable_by(f64::total_cmp);
        let median_ms = *ms.get(ms.len() / 2)?;
        let mean = ms.iter().sum::<f64>() / ms.len() as f64;
        let spread = ms.iter().map(|ms| (ms - mean).powi(2)).sum::<f64>() / ms.len() as f64;
        Some(Self {
            round_trips: ms.len(),
            median_ms,
            spread_ms: spread.sqrt(),
            sorted_ms: ms,
            by: now.by.clone(),
        })
    }
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

/// What the probe did.
pub(super) fn words(timed: Option<&RttSample>, echoes: Option<&Echoes>) -> String {
    match (timed, echoes) {
        (Some(timed), _) => format!("{} {}, spread {:.1} ms", timed.round_trips, timed.by, timed.spread_ms),
        (None, Some(echoes)) => format!("{} were not answered before the fault or are not now", echoes.by),
        (None, None) => "none of the peers can be timed from here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: RequestedDelay = RequestedDelay {
        hold: Delay {
            delay_us: 100_000,
            jitter_us: 0,
            distribution: Distribution::Uniform,
            correlation: 0.0,
        },
        direction: Direction::Out,
    };

    fn seen(hits: u64, met: u64, last_us: &[u64], answered: u64) -> Seen {
        let echoes = Echoes {
            by: "echoes of 192.0.2.10".to_owned(),
            asked: answered,
            answered,
            before_us: Some(200),
            last_us: last_us.to_vec(),
            ..Echoes::default()
        };
        Seen {
            rules: Some(TrafficCounters {
                hit_packets: hits,
                gate_open: true,
                ..TrafficCounters::default()
            }),
            worker: Some(PacketNote {
                met,
                echoes: Some(echoes),
                ..PacketNote::default()
            }),
        }
    }

    #[test]
    fn each_story_that_two_looks_can_tell() {
        let start = seen(10, 8, &[1; 3], 3);
        let right: Vec<u64> = (0..20).map(|n| 100_200 + n * 10).collect();
        for (now, state, says) in [
            (seen(40, 20, &right, 23), EffectState::Confirmed, "20 echoes"),
            (seen(40, 20, &[50_000; 20], 23), EffectState::Mismatch, "12 packets"),
            (seen(30, 8, &right, 23), EffectState::Unexercised, "besides our own"),
            (seen(40, 20, &right, 3), EffectState::Unknown, "not answered"),
        ] {
            let told = judge(ASKED, &start, &now);
            assert_eq!(told.state, state, "{told:?}");
            assert!(told.note.clone().unwrap().contains(says), "{told:?}");
        }
        let mut closed = seen(40, 20, &right, 23);
        closed.rules.as_mut().unwrap().gate_open = false;
        assert_eq!(judge(ASKED, &start, &closed).state, EffectState::Mismatch);
        assert_eq!(judge(ASKED, &Seen::default(), &start).state, EffectState::Unknown);
        assert_eq!(judge(ASKED, &start, &Seen::default()).state, EffectState::Mismatch);
    }

    #[test]
    fn a_few_round_trips_confirm_nothing_and_neither_do_scattered_ones() {
        let start = seen(10, 8, &[1; 3], 3);
        for few in 1..LEAST_ROUND_TRIPS {
            let told = judge(ASKED, &start, &seen(40, 20, &vec![100_200; few], 3 + few as u64));
            assert_eq!(told.state, EffectState::Unknown, "{told:?}");
            assert!(told.note.unwrap().contains("more are needed"));
        }
        let enough = judge(ASKED, &start, &seen(40, 20, &[100_200; LEAST_ROUND_TRIPS], 9));
        assert_eq!(enough.state, EffectState::Confirmed, "{enough:?}");
        // The middle one is right by luck: the others say that the delay is none.
        let scattered: Vec<u64> = (0..9).map(|n| if n < 5 { 100_200 } else { 400 }).collect();
        let told = judge(ASKED, &start, &seen(40, 20, &scattered, 12));
        assert_eq!(told.state, EffectState::Unknown, "{told:?}");
    }

    #[test]
    fn without_a_probe_nothing_is_claimed_and_both_ways_count_twice() {
        let (start, mut now) = (seen(10, 8, &[], 0), seen(40, 20, &[], 0));
        now.worker.as_mut().unwrap().echoes = None;
        assert_eq!(judge(ASKED, &start, &now).state, EffectState::Unknown);
        let both = RequestedDelay {
            direction: Direction::Both,
            ..ASKED
        };
        let told = judge(both, &start, &seen(40, 20, &[200_400; 9], 9));
        assert_eq!((told.state, told.asked), (EffectState::Confirmed, Some(200.0)));
    }
}
