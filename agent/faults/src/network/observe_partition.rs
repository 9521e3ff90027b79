//! Whether a fault that stops packets does: counters of two looks, told apart from one another; it looks and judges, nothing else.

use agent_view::{HostView, PassedTraffic, TrafficCounters};
use proto_model::id::InjectionId;
use proto_model::injection::{EffectState, Observation};

use crate::fault::{FaultError, Look};

const UNIT: &str = "percent of packets";
const ASKED: f64 = 100.0;
/// Of the packets that were to be stopped, so many percent may come through before it is a mismatch.
const TOLERATED: f64 = 1.0;

/// What the kernel counted since the look before; nothing is told of the first look.
pub(super) fn stopped(
    injection: &InjectionId,
    view: &dyn HostView,
    before: Option<&Look>,
) -> Result<(Option<Observation>, Look), FaultError> {
    let now = view.traffic(injection)?;
    let look = Look {
        boot_ms: view.boot_ms(),
        seen: serde_json::to_value(now).map_err(|e| FaultError::Other(format!("keep the packet counters: {e}")))?,
    };
    let Some(before) = before else { return Ok((None, look)) };
    let before: Option<TrafficCounters> = serde_json::from_value(before.seen.clone()).unwrap_or_default();
    Ok((Some(judge(before, now)), look))
}

fn judge(before: Option<TrafficCounters>, now: Option<TrafficCounters>) -> Observation {
    let Some(now) = now else {
        return told(EffectState::Mismatch, None, "the network rules are gone".to_owned());
    };
    let Some((hit, passed)) = before.and_then(|before| grown(&before, &now)) else {
        return told(EffectState::Unknown, None, "there is no earlier count to compare with".to_owned());
    };
    let measured = (hit + passed > 0).then(|| ASKED * hit as f64 / (hit + passed) as f64);
    let counts = format!("{hit} packets stopped, {passed} came through");
    if !now.gate_open {
        let note = format!("{counts}; the kernel has ended the fault, since its time was not prolonged");
        return told(EffectState::Mismatch, measured, note);
    }
    match measured {
        None => told(EffectState::Unexercised, None, "no packet to or from the peers".to_owned()),
        Some(share) if share >= ASKED - TOLERATED => told(EffectState::Confirmed, measured, counts),
        Some(_) => told(EffectState::Mismatch, measured, counts),
    }
}

/// Packets stopped and come through since `before`; `None` when the counters began anew.
fn grown(before: &TrafficCounters, now: &TrafficCounters) -> Option<(u64, u64)> {
    let PassedTraffic { packets: passed, .. } = now.passed;
    Some((
        now.hit_packets.checked_sub(before.hit_packets)?,
        passed.checked_sub(before.passed.packets)?,
    ))
}

fn told(state: EffectState, measured: Option<f64>, note: String) -> Observation {
    Observation {
        asked: Some(ASKED),
        measured,
        unit: UNIT.to_owned(),
        state,
        note: Some(note),
    }
}

/// Why the fault no longer acts, if so.
pub(super) fn still_there(injection: &InjectionId, view: &dyn HostView) -> Result<(), String> {
    match view.traffic(injection) {
        Ok(Some(counters)) if counters.gate_open => Ok(()),
        Ok(Some(_)) => Err("the kernel has ended it: its time was not prolonged".to_owned()),
        Ok(None) => Err("its network rules are gone: somebody else has removed them".to_owned()),
        Err(error) => Err(format!("{error}: {}", error.source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(hit: u64, passed: u64, gate_open: bool) -> Option<TrafficCounters> {
        Some(TrafficCounters {
            met_packets: 0,
            hit_packets: hit,
            hit_bytes: hit * 60,
            passed: PassedTraffic {
                packets: passed,
                bytes: passed * 60,
            },
            gate_open,
        })
    }

    #[test]
    fn each_story_that_two_counts_can_tell() {
        for (before, now, state, measured) in [
            (counters(5, 1, true), counters(15, 1, true), EffectState::Confirmed, Some(100.0)),
            (
                counters(0, 0, true),
                counters(1_000, 3, true),
                EffectState::Confirmed,
                Some(99.700_897_308_075_77),
            ),
            (counters(5, 1, true), counters(15, 11, true), EffectState::Mismatch, Some(50.0)),
            (counters(5, 1, true), counters(5, 2, true), EffectState::Mismatch, Some(0.0)),
            (counters(5, 1, true), counters(5, 1, true), EffectState::Unexercised, None),
            (counters(5, 1, true), counters(15, 1, false), EffectState::Mismatch, Some(100.0)),
            (counters(5, 1, true), counters(2, 0, true), EffectState::Unknown, None),
            (counters(5, 1, true), None, EffectState::Mismatch, None),
            (None, counters(5, 1, true), EffectState::Unknown, None),
        ] {
            let told = judge(before, now);
            assert_eq!((told.state, told.measured), (state, measured), "{before:?} {now:?}");
            assert!(told.note.is_some() && told.asked == Some(100.0));
        }
    }
}
