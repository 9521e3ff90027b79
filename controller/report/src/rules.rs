//! The rules of judgement, one function each: the reasons why a rule matches, empty when it does not. None of them knows the others.

use proto_model::event::{RunPhase, StopCause};
use proto_model::injection::{Cleanliness, EffectState, EndedBy};
use proto_model::probe::{Phase, ProbeSpec};
use proto_model::verdict::{Cleanup, Reason};

use crate::injection_status::InjectionStatus;
use crate::samples::Standing;
use crate::standing::{during, standing};
use crate::state::RunState;

/// The plain attack's only reason.
pub(crate) const NO_HYPOTHESIS: &str = "no_hypothesis";
/// The code of an order's refusal that a halt explains: no failure of the run.
const HALTED: &str = "halted";

/// Rule 1: a host that was touched is not proven clean.
pub(crate) fn unclean(state: &RunState, cleanup: Cleanup) -> Vec<Reason> {
    if cleanup == Cleanup::Proven {
        return Vec::new();
    }
    let touched = state.plan.hosts.iter().map(|h| &h.name).filter(|h| state.touched(h));
    let mut reasons: Vec<Reason> = touched.filter_map(|host| unclean_host(state, host)).collect();
    if reasons.is_empty() {
        reasons.push(Reason::new("cleanup_unproven", "not every host is proven clean"));
    }
    reasons
}

fn unclean_host(state: &RunState, host: &proto_model::id::HostName) -> Option<Reason> {
    let proof = state.proof(host);
    let reason = match proof.map(|p| p.result) {
        Some(Cleanliness::Clean) => return None,
        Some(Cleanliness::Dirty | Cleanliness::Faulted) => {
            let left: Vec<&str> = proof
                .iter()
                .flat_map(|p| p.owned_left.iter().chain(&p.not_restored))
                .map(String::as_str)
                .collect();
            Reason::new("host_dirty", format!("{host} still has: {}", left.join("; ")))
        }
        Some(Cleanliness::Unproven) | None => Reason::new("cleanup_unproven", format!("{host} could not be asked whether it is clean")),
    };
    Some(reason.host(host))
}

/// Rule 2: the hypothesis held before, and broke under a confirmed effect, or did not come back.
pub(crate) fn broken(state: &RunState) -> Vec<Reason> {
    let Some(hypothesis) = state.plan.hypothesis.as_ref().filter(|_| held_before(state)) else {
        return Vec::new();
    };
    let mut reasons = Vec::new();
    for probe in &hypothesis.probes {
        let during = during(state, probe);
        if any_confirmed(state) && during.standing == Standing::Broke {
            let steps = during.step.unwrap_or_else(|| steps_when_bad(state, &probe.name));
            let (bad, answered) = (during.tally.bad, during.tally.answered());
            let text = format!("{} was bad in {bad} of {answered} samples during {steps}", probe.name);
            reasons.push(Reason::new("hypothesis_broke", text).probe(&probe.name));
        }
        if after_was_waited_for(state) && standing(state, probe, Phase::After) == Standing::Broke {
            let text = format!(
                "{} did not recover within {} ms after the last undo",
                probe.name, hypothesis.after_ms
            );
            reasons.push(Reason::new("not_recovered", text).probe(&probe.name));
        }
    }
    reasons
}

fn held_before(state: &RunState) -> bool {
    let mut probes = state.plan.hypothesis.iter().flat_map(|h| &h.probes);
    state.plan.hypothesis.is_some() && probes.all(|p| standing(state, p, Phase::Before) == Standing::Held)
}

fn any_confirmed(state: &RunState) -> bool {
    state.injections.iter().any(InjectionStatus::is_confirmed)
}

/// A stop cuts the time to recover short, so that nothing can be said of it.
fn after_was_waited_for(state: &RunState) -> bool {
    state.totals.first_applied.is_some() && state.stop.is_none() && !state.restarted
}

/// The injections that acted while the probe was bad, in words.
fn steps_when_bad(state: &RunState, probe: &str) -> String {
    let acting = state.samples.acting_when_bad(probe).map(|place| &state.injections[place]);
    let names: Vec<String> = acting
        .map(|i| format!("{} ({} on {})", i.injection.step, i.injection.wish.fault, i.injection.host))
        .collect();
    if names.is_empty() { "the run".to_owned() } else { names.join(", ") }
}

/// Rule 3: what was planned was not what was done.
pub(crate) fn not_carried_out(state: &RunState) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = state
        .refusals
        .iter()
        .map(|(host, refusal)| Reason::new("refused", format!("{host} refused: {refusal}")).host(host))
        .collect();
    if state.plan.hosts.is_empty() || state.injections.is_empty() {
        reasons.push(Reason::new("no_targets", "the plan touches no host"));
    }
    reasons.extend(state.injections.iter().filter_map(|i| undone_wrongly(state, i)));
    if let Some(stop) = state.stop.as_ref().filter(|stop| stop.cause == StopCause::Failure)
        && reasons.is_empty()
    {
        reasons.push(Reason::new("not_followed", stop.reason.clone()));
    }
    reasons
}

fn undone_wrongly(state: &RunState, i: &InjectionStatus) -> Option<Reason> {
    let name = format!("{} on {}", i.injection.wish.fault, i.injection.host);
    let (code, text) = match (&i.refusal, i.ended_by) {
        (Some(refusal), _) if refusal.code == HALTED => return None,
        (Some(refusal), _) => ("refused", format!("{name} was refused: {refusal}")),
        (None, Some(EndedBy::ApplyFailed)) => ("apply_failed", format!("{name} could not be applied: {}", why(i))),
        (None, Some(EndedBy::EndedEarly)) => ("ended_early", format!("{name} ended before its time: {}", why(i))),
        (None, _) if (i.state.is_terminal() && i.applied_at.is_some()) || state.stop.is_some() || state.restarted => return None,
        (None, _) => ("not_carried_out", format!("{name} was {} when the run ended", i.state.as_str())),
    };
    Some(Reason::new(code, text).host(&i.injection.host).injection(&i.injection.id))
}

fn why(injection: &InjectionStatus) -> &str {
    injection.reason.as_deref().unwrap_or("the host gave no reason")
}

/// Rule 4: somebody or something ended it before its end.
pub(crate) fn cut_short(state: &RunState) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(stop) = &state.stop {
        let code = match stop.cause {
            StopCause::Operator => Some("stopped"),
            StopCause::Halt => Some("halted"),
            StopCause::Guard => Some("guard_broke"),
            StopCause::Limit => Some("limit"),
            StopCause::HostLost => Some("host_lost"),
            StopCause::ControllerRestart => Some("controller_restart"),
            StopCause::Failure | StopCause::Baseline => None,
        };
        reasons.extend(code.map(|code| Reason::new(code, stop.reason.clone())));
    }
    if state.restarted && reasons.iter().all(|r| r.code != "controller_restart") {
        reasons.push(Reason::new(
            "controller_restart",
            "the controller was restarted, or lost the run, before it was judged",
        ));
    }
    reasons.extend(state.injections.iter().filter_map(|i| taken_over(state, i)));
    reasons
}

/// An injection that ended neither by its time nor by a stop of ours.
fn taken_over(state: &RunState, i: &InjectionStatus) -> Option<Reason> {
    let (fault, host) = (&i.injection.wish.fault, &i.injection.host);
    let halted = i.refusal.as_ref().is_some_and(|refusal| refusal.code == HALTED);
    let (code, text) = match i.ended_by {
        _ if halted => ("halted", format!("{fault} on {host} was refused because of a halt")),
        None | Some(EndedBy::DurationElapsed | EndedBy::ApplyFailed | EndedBy::EndedEarly) => return None,
        Some(by) => (code_of_end(by), format!("{fault} on {host} was ended by {}", by.as_str())),
    };
    // What the stop itself did needs no second reason.
    if state.stop.is_some() && matches!(code, "stopped" | "halted") {
        return None;
    }
    Some(Reason::new(code, text).host(host).injection(&i.injection.id))
}

fn code_of_end(by: EndedBy) -> &'static str {
    match by {
        EndedBy::Stop => "stopped",
        EndedBy::Halt | EndedBy::LocalHalt => "halted",
        EndedBy::LeaseLost | EndedBy::KernelExpiry => "lease_lost",
        EndedBy::Guardian | EndedBy::Rescue | EndedBy::Boot | EndedBy::Package => "agent_lost",
        EndedBy::DurationElapsed | EndedBy::ApplyFailed | EndedBy::EndedEarly => "ended",
    }
}

/// Rule 5: too little was asked or seen to say anything.
pub(crate) fn undecided(state: &RunState) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match &state.plan.hypothesis {
        None => reasons.push(Reason::new(
            NO_HYPOTHESIS,
            "nothing was asked of the system; this is no evidence of resilience",
        )),
        Some(hypothesis) => reasons.extend(hypothesis.probes.iter().flat_map(|probe| undecided_probe(state, probe))),
    }
    if let Some(stop) = state.stop.as_ref().filter(|stop| stop.cause == StopCause::Baseline)
        && reasons.is_empty()
    {
        reasons.push(Reason::new("baseline_not_steady", stop.reason.clone()));
    }
    reasons.extend(state.injections.iter().filter_map(unconfirmed));
    let applied = || state.injections.iter().filter(|i| i.applied_at.is_some());
    if applied().next().is_some() && applied().all(|i| i.noop) {
        reasons.push(Reason::new("all_noop", "every host was already past the target; nothing was done"));
    }
    reasons
}

fn undecided_probe(state: &RunState, probe: &ProbeSpec) -> Vec<Reason> {
    let cut = state.stop.is_some() || state.restarted;
    let injected = state.totals.first_applied.is_some();
    let baseline_over = injected || state.entered(RunPhase::During) || state.cause_of_stop() == Some(StopCause::Baseline);
    let mut reasons = Vec::new();
    for (phase, word, asked) in [
        (Phase::Before, "before", baseline_over),
        (Phase::During, "during", injected),
        (Phase::After, "after", injected && !cut),
    ] {
        let (mut seen, mut word) = (state.samples.tally(&probe.name, phase), word.to_owned());
        if phase == Phase::During {
            let during = during(state, probe);
            seen = during.tally;
            word.extend(during.step.iter().flat_map(|step| [" ", step]));
        }
        let (code, text) = match (standing(state, probe, phase), phase) {
            _ if !asked => continue,
            (Standing::Held, _) => continue,
            (Standing::Broke, Phase::Before) => (
                "baseline_not_steady",
                format!(
                    "{} was bad in {} of {} samples before anything was injected",
                    probe.name, seen.bad, seen.samples
                ),
            ),
            (Standing::Broke, Phase::During) if !any_confirmed(state) => (
                "broke_unconfirmed",
                format!("{} broke, but no injection is confirmed to have acted", probe.name),
            ),
            (Standing::Broke, _) => continue,
            (Standing::Unknown, Phase::During) if cut => continue,
            (Standing::Unknown, _) => (
                "too_few_samples",
                format!(
                    "{} has {} samples {word}, {} of them missing: too few to say",
                    probe.name, seen.samples, seen.missing
                ),
            ),
        };
        reasons.push(Reason::new(code, text).probe(&probe.name));
    }
    reasons
}

fn unconfirmed(i: &InjectionStatus) -> Option<Reason> {
    let nothing_to_see = i.applied_at.is_none() || (i.windows.is_empty() && i.noop);
    if nothing_to_see || i.is_confirmed() {
        return None;
    }
    let state = i.effect();
    let code = match state {
        EffectState::Confirmed => return None,
        EffectState::Mismatch => "effect_mismatch",
        EffectState::Unexercised => "effect_unexercised",
        EffectState::Unknown => "effect_unknown",
    };
    let note = i
        .telling_window()
        .and_then(|w| w.observation.note.clone())
        .map(|n| format!(": {n}"));
    let (fault, host) = (&i.injection.wish.fault, &i.injection.host);
    let text = format!("{fault} on {host}: effect {}{}", state.as_str(), note.unwrap_or_default());
    Some(Reason::new(code, text).host(host).injection(&i.injection.id))
}
