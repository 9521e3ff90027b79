//! The engine of the kernel's own queue: a path beside the interface, and a worker that times the way to a peer, where one can be timed.

use agent_levers::work::packets::{Harm, PacketNote, Probe, TimingWork};
use agent_levers::{Direction, Levers, Packets, PathHandle, PathSpec, WorkerHandle};
use agent_view::{Feature, HostView, PathCounters, TrafficCounters};
use proto_model::doctor::Can;
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use serde::{Deserialize, Serialize};

use super::observe_delay::{self, Measurement, RequestedDelay, RttSample};
use super::packets::note;
use super::shaping::{AppliedEngine, ShapingRequest};
use crate::ability::needs;
use crate::fault::{FaultError, Look, Scene};

/// What the worker needs that times the way: to give up the rights of root, and to be read by the agent.
const TIMER: &[Feature] = &[Feature::ChangeUser, Feature::Ptrace];

/// The way is timed as it is before anything makes it worse.
pub(super) fn begin(request: &ShapingRequest<'_>, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<AppliedEngine, FaultError> {
    let untimed = match request.harm {
        Harm::Delay(_) => untimed(request, scene),
        Harm::Loss(_) => None,
    };
    let order = match request.harm {
        Harm::Delay(delay) if untimed.is_none() => request.probe(scene).map(|times| TimingWork {
            times,
            longest_us: u64::try_from(delay.longest().as_micros()).unwrap_or(u64::MAX),
        }),
        Harm::Delay(_) | Harm::Loss(_) => None,
    };
    let timer = order.map(|order| levers.start_timing_worker(&order)).transpose()?;
    let path = levers.shape_path(&PathSpec {
        packets: packets(request),
        shape: request.harm.into(),
    })?;
    Ok(AppliedEngine::Path { path, timer, untimed })
}

/// Said before a delay that acts, but that this host cannot measure although it could time a peer.
pub(super) fn untimed_warning(request: &ShapingRequest<'_>, scene: &Scene<'_>) -> Option<String> {
    let lack = untimed(request, scene)?;
    Some(format!("the delay cannot be measured, so its observation will be unknown: {lack}"))
}

fn untimed(request: &ShapingRequest<'_>, scene: &Scene<'_>) -> Option<String> {
    let lack = timer_lacks(scene.view)?;
    request.probe(scene).is_some().then_some(lack)
}

/// What the host surely lacks to start the timer; where that is in doubt it is tried.
fn timer_lacks(view: &dyn HostView) -> Option<String> {
    let ability = needs(view, TIMER);
    let fix = ability.fix.map(|fix| format!(" (fix: {fix})")).unwrap_or_default();
    (ability.can == Can::No).then(|| ability.why.unwrap_or_default() + &fix)
}

fn packets(request: &ShapingRequest<'_>) -> Packets {
    Packets {
        peers: request.resolved.peers.clone(),
        except: request.resolved.except.clone(),
        ports: request.matching.ports.clone(),
        local_ports: request.matching.local_ports.clone(),
        protocol: request.matching.protocol,
        interface: request.matching.interface.clone(),
        direction: request.direction,
    }
}

/// Why the path no longer acts, or no longer lets packets through, if so.
pub(super) fn still_there(injection: &InjectionId, path: &PathHandle, view: &dyn HostView) -> Result<(), String> {
    match view.path(injection) {
        Ok(Some(seen)) if !seen.shaped => Err(format!("{} or its queue is gone: somebody else has removed it", path.link)),
        Ok(Some(seen)) if seen.filters < path.filters => Err(format!(
            "{} of {} filters on {} are gone: somebody else has removed them, or the interface",
            path.filters - seen.filters,
            path.filters,
            path.interfaces.join(", ")
        )),
        Ok(Some(seen)) if !seen.gate_open => Err("the kernel has ended it: its time was not prolonged".to_owned()),
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err("its filters and its link are gone: somebody else has removed them".to_owned()),
        Err(error) => Err(format!("{error}: {}", error.source)),
    }
}

/// What the kernel counted before and behind the queue, as it is told of rules.
pub(super) fn counted(injection: &InjectionId, view: &dyn HostView) -> Result<Option<TrafficCounters>, FaultError> {
    let seen = view.path(injection)?;
    Ok(seen.map(|seen| {
        let mut told = TrafficCounters {
            met_packets: seen.led_packets.saturating_sub(seen.waiting_packets),
            gate_open: seen.gate_open && seen.shaped,
            ..TrafficCounters::default()
        };
        told.passed.packets = seen.passed_packets;
        told.hit_packets = told.met_packets.saturating_sub(seen.passed_packets);
        told
    }))
}

/// What one look keeps for the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    path: Option<PathCounters>,
    timer: Option<PacketNote>,
    untimed: Option<String>,
}

pub(super) fn delayed(
    injection: &InjectionId,
    timer: Option<&WorkerHandle>,
    untimed: Option<&String>,
    asked: RequestedDelay,
    view: &dyn HostView,
    before: Option<&Look>,
) -> Result<(Option<Observation>, Look), FaultError> {
    let seen = Seen {
        path: view.path(injection)?,
        timer: timer.and_then(|timer| note(timer, view)),
        untimed: untimed.cloned(),
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
    let Some(path) = now.path.filter(|path| path.shaped) else {
        return asked.gone("path");
    };
    let Some(path_before) = before.path else { return asked.unknown() };
    let echoes = now.timer.as_ref().and_then(|note| note.echoes.as_ref());
    let echoes_before = before.timer.as_ref().and_then(|note| note.echoes.as_ref());
    let timed = echoes.and_then(|echoes| RttSample::since(echoes, echoes_before));
    let led = path.led_packets.saturating_sub(path_before.led_packets);
    let own = |note: &Option<PacketNote>| note.as_ref().map_or(0, |note| own_packets(note, asked.direction));
    // Its page may be a question old, whose packets are counted already.
    let slack = if echoes.is_some() { one_question(asked.direction) } else { 0 };
    let met = led.saturating_sub(own(&now.timer).saturating_sub(own(&before.timer)));
    let timing = match &now.untimed {
        Some(lack) => format!("the way to the peers cannot be timed: {lack}"),
        None => observe_delay::words(timed.as_ref(), echoes),
    };
    let mut words = vec![format!("{met} packets met the fault"), timing];
    let dropped = path.dropped_packets.saturating_sub(path_before.dropped_packets);
    if dropped > 0 {
        words.push(format!("{dropped} dropped for want of room"));
    }
    asked.judge(&Measurement {
        gate_open: path.gate_open,
        exercised: met > slack,
        timed,
        words: words.join("; "),
    })
}

/// Those of the probe that took the path.
fn own_packets(note: &PacketNote, direction: Direction) -> u64 {
    let Some(echoes) = &note.echoes else { return 0 };
    let sent = if direction.covers_out() { echoes.sent } else { 0 };
    let came = if direction.covers_in() { echoes.came } else { 0 };
    sent + came
}

fn one_question(direction: Direction) -> u64 {
    let sent = if direction.covers_out() { Probe::MOST_SENT } else { 0 };
    sent + u64::from(direction.covers_in())
}

#[cfg(test)]
mod tests {
    use agent_levers::work::packets::{Delay, Distribution, Echoes};
    use proto_model::injection::EffectState;

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

    fn seen(led: u64, answered: u64, us: u64) -> Seen {
        Seen {
            path: Some(PathCounters {
                led_packets: led,
                shaped: true,
                filters: 2,
                gate_open: true,
                ..PathCounters::default()
            }),
            timer: Some(PacketNote {
                echoes: Some(Echoes {
                    by: "echoes of 192.0.2.10".to_owned(),
                    asked: answered,
                    answered,
                    sent: answered,
                    came: answered,
                    before_us: Some(200),
                    last_us: vec![us; 20],
                }),
                ..PacketNote::default()
            }),
            untimed: None,
        }
    }

    #[test]
    fn each_story_that_two_looks_can_tell() {
        let start = seen(10, 5, 0);
        for (now, state, says) in [
            (seen(60, 25, 100_300), EffectState::Confirmed, "30 packets met the fault; 20 echoes"),
            (seen(60, 25, 50_000), EffectState::Mismatch, "30 packets"),
            (seen(31, 25, 100_300), EffectState::Unexercised, "besides our own"),
            (seen(60, 5, 100_300), EffectState::Unknown, "not answered"),
        ] {
            let judged = judge(ASKED, &start, &now);
            assert_eq!(judged.state, state, "{judged:?}");
            assert!(judged.note.clone().unwrap().contains(says), "{judged:?}");
        }
        let changed = |change: fn(&mut PathCounters)| {
            let mut now = seen(60, 25, 100_300);
            change(now.path.as_mut().unwrap());
            judge(ASKED, &start, &now).state
        };
        assert_eq!(changed(|path| path.gate_open = false), EffectState::Mismatch);
        assert_eq!(changed(|path| path.shaped = false), EffectState::Mismatch);
        assert_eq!(judge(ASKED, &Seen::default(), &start).state, EffectState::Unknown);
        assert_eq!(judge(ASKED, &start, &Seen::default()).state, EffectState::Mismatch);
    }

    #[test]
    fn without_a_timer_packets_are_counted_and_nothing_is_claimed() {
        let untimed = |led| Seen {
            timer: None,
            ..seen(led, 0, 0)
        };
        let judged = judge(ASKED, &untimed(10), &untimed(11));
        assert_eq!(judged.state, EffectState::Unknown);
        assert!(
            judged
                .note
                .unwrap()
                .contains("1 packets met the fault; none of the peers can be timed")
        );
        let lacking = Seen {
            untimed: Some("no CAP_SYS_PTRACE".to_owned()),
            ..untimed(11)
        };
        let observation = judge(ASKED, &untimed(10), &lacking);
        assert_eq!(observation.state, EffectState::Unknown);
        assert!(observation.note.unwrap().contains("cannot be timed: no CAP_SYS_PTRACE"));
        assert_eq!(judge(ASKED, &untimed(10), &untimed(10)).state, EffectState::Unexercised);
    }
}
