//! The rules of judgement, one function each: the reasons why a rule matches, empty when it does not. None of them knows the others.

use proto_model::event::{RunPhase, StopCause};
use proto_model::injection::{Cleanliness, EffectState, EndedBy};
use proto_model::probe::{Phase, ProbeSpec, SampleResult};
use proto_model::verdict::{Cleanup, Reason};

use crate::history::{History, InjectionHistory};
use crate::samples::{Standing, during, standing, tally};

/// The plain attack's only reason.
pub(crate) const NO_HYPOTHESIS: &str = "no_hypothesis";
/// The code of an order's refusal that a halt explains: no failure of the run.
const HALTED: &str = "halted";

/// Rule 1: a host that was touched is not proven clean.
pub(crate) fn unclean(history: &History, cleanup: Cleanup) -> Vec<Reason> {
    if cleanup == Cleanup::Proven {
        return Vec::new();
    }
    let touched = history.plan.hosts.iter().map(|h| &h.name).filter(|h| history.touched(h));
    let mut reasons: Vec<Reason> = touched.filter_map(|host| unclean_host(history, host)).collect();
    if reasons.is_empty() {
        reasons.push(Reason::new("cleanup_unproven", "not every host is proven clean"));
    }
    reasons
}

fn unclean_host(history: &History, host: &proto_model::id::HostName) -> Option<Reason> {
    let proof = history.proofs.get(host);
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
pub(crate) fn broken(history: &History) -> Vec<Reason> {
    let Some(hypothesis) = history.plan.hypothesis.as_ref().filter(|_| held_before(history)) else {
        return Vec::new();
    };
    let mut reasons = Vec::new();
    for probe in &hypothesis.probes {
        let during = during(history, probe);
        if any_confirmed(history) && during.standing == Standing::Broke {
            let steps = during.step.unwrap_or_else(|| steps_when_bad(history, &probe.name));
            let (bad, answered) = (during.tally.bad, during.tally.answered());
            let text = format!("{} was bad in {bad} of {answered} samples during {steps}", probe.name);
            reasons.push(Reason::new("hypothesis_broke", text).probe(&probe.name));
        }
        if after_was_waited_for(history) && standing(history, probe, Phase::After) == Standing::Broke {
            let text = format!(
                "{} did not recover within {} ms after the last undo",
                probe.name, hypothesis.after_ms
            );
            reasons.push(Reason::new("not_recovered", text).probe(&probe.name));
        }
    }
    reasons
}

fn held_before(history: &History) -> bool {
    let mut probes = history.plan.hypothesis.iter().flat_map(|h| &h.probes);
    history.plan.hypothesis.is_some() && probes.all(|p| standing(history, p, Phase::Before) == Standing::Held)
}

fn any_confirmed(history: &History) -> bool {
    history.injections.iter().any(InjectionHistory::is_confirmed)
}

/// A stop cuts the time to recover short, so that nothing can be said of it.
fn after_was_waited_for(history: &History) -> bool {
    history.first_applied().is_some() && history.stop.is_none() && !history.restarted
}

/// The injections that acted while the probe was bad, in words.
fn steps_when_bad(history: &History, probe: &str) -> String {
    let mut names: Vec<String> = Vec::new();
    for (phase, _, sample) in &history.samples {
        if *phase != Phase::During || sample.probe != probe || sample.result != SampleResult::Bad {
            continue;
        }
        let end = sample.started_at.plus_ms(sample.took_ms);
        for i in &history.injections {
            let acted = i.applied_at.is_some_and(|at| at <= end) && i.ended_at.is_none_or(|at| sample.started_at <= at);
            let name = format!("{} ({} on {})", i.injection.step, i.injection.fault, i.injection.host);
            if acted && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() { "the run".to_owned() } else { names.join(", ") }
}

/// Rule 3: what was planned was not what was done.
pub(crate) fn not_carried_out(history: &History) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = history
        .refusals
        .iter()
        .map(|(host, refusal)| Reason::new("refused", format!("{host} refused: {refusal}")).host(host))
        .collect();
    if history.plan.hosts.is_empty() || history.injections.is_empty() {
        reasons.push(Reason::new("no_targets", "the plan touches no host"));
    }
    reasons.extend(history.injections.iter().filter_map(|i| undone_wrongly(history, i)));
    if let (Some((StopCause::Failure, text)), true) = (&history.stop, reasons.is_empty()) {
        reasons.push(Reason::new("not_followed", text.clone()));
    }
    reasons
}

fn undone_wrongly(history: &History, i: &InjectionHistory) -> Option<Reason> {
    let name = format!("{} on {}", i.injection.fault, i.injection.host);
    let (code, text) = match (&i.refusal, i.ended_by) {
        (Some(refusal), _) if refusal.code == HALTED => return None,
        (Some(refusal), _) => ("refused", format!("{name} was refused: {refusal}")),
        (None, Some(EndedBy::ApplyFailed)) => ("apply_failed", format!("{name} could not be applied: {}", why(i))),
        (None, Some(EndedBy::EndedEarly)) => ("ended_early", format!("{name} ended before its time: {}", why(i))),
        (None, _) if (i.state.is_terminal() && i.applied_at.is_some()) || history.stop.is_some() || history.restarted => return None,
        (None, _) => ("not_carried_out", format!("{name} was {} when the run ended", i.state.as_str())),
    };
    Some(Reason::new(code, text).host(&i.injection.host).injection(&i.injection.id))
}

fn why(injection: &InjectionHistory) -> &str {
    injection.reason.as_deref().unwrap_or("the host gave no reason")
}

/// Rule 4: somebody or something ended it before its end.
pub(crate) fn cut_short(history: &History) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some((cause, text)) = &history.stop {
        let code = match cause {
            StopCause::Operator => Some("stopped"),
            StopCause::Halt => Some("halted"),
            StopCause::Guard => Some("guard_broke"),
            StopCause::Limit => Some("limit"),
            StopCause::HostLost => Some("host_lost"),
            StopCause::ControllerRestart => Some("controller_restart"),
            StopCause::Failure | StopCause::Baseline => None,
        };
        reasons.extend(code.map(|code| Reason::new(code, text.clone())));
    }
    if history.restarted && reasons.iter().all(|r| r.code != "controller_restart") {
        reasons.push(Reason::new(
            "controller_restart",
            "the controller was restarted, or lost the run, before it was judged",
        ));
    }
    reasons.extend(history.injections.iter().filter_map(|i| taken_over(history, i)));
    reasons
}

/// An injection that ended neither by its time nor by a stop of ours.
fn taken_over(history: &History, i: &InjectionHistory) -> Option<Reason> {
    let (fault, host) = (&i.injection.fault, &i.injection.host);
    let halted = i.refusal.as_ref().is_some_and(|refusal| refusal.code == HALTED);
    let (code, text) = match i.ended_by {
        _ if halted => ("halted", format!("{fault} on {host} was refused because of a halt")),
        None | Some(EndedBy::DurationElapsed | EndedBy::ApplyFailed | EndedBy::EndedEarly) => return None,
        Some(by) => (code_of_end(by), format!("{fault} on {host} was ended by {}", by.as_str())),
    };
    // What the stop itself did needs no second reason.
    if history.stop.is_some() && matches!(code, "stopped" | "halted") {
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
pub(crate) fn undecided(history: &History) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match &history.plan.hypothesis {
        None => reasons.push(Reason::new(
            NO_HYPOTHESIS,
            "nothing was asked of the system; this is no evidence of resilience",
        )),
        Some(hypothesis) => reasons.extend(hypothesis.probes.iter().flat_map(|probe| undecided_probe(history, probe))),
    }
    if let Some((StopCause::Baseline, text)) = &history.stop
        && reasons.is_empty()
    {
        reasons.push(Reason::new("baseline_not_steady", text.clone()));
    }
    reasons.extend(history.injections.iter().filter_map(unconfirmed));
    let applied = || history.injections.iter().filter(|i| i.applied_at.is_some());
    if applied().next().is_some() && applied().all(InjectionHistory::is_noop) {
        reasons.push(Reason::new("all_noop", "every host was already past the target; nothing was done"));
    }
    reasons
}

fn undecided_probe(history: &History, probe: &ProbeSpec) -> Vec<Reason> {
    let cut = history.stop.is_some() || history.restarted;
    let injected = history.first_applied().is_some();
    let baseline_over = injected || history.entered(RunPhase::During) || matches!(history.stop, Some((StopCause::Baseline, _)));
    let mut reasons = Vec::new();
    for (phase, word, asked) in [
        (Phase::Before, "before", baseline_over),
        (Phase::During, "during", injected),
        (Phase::After, "after", injected && !cut),
    ] {
        let (mut seen, mut word) = (tally(history, &probe.name, phase), word.to_owned());
        if phase == Phase::During {
            let during = during(history, probe);
            seen = during.tally;
            word.extend(during.step.iter().flat_map(|step| [" ", step]));
        }
        let (code, text) = match (standing(history, probe, phase), phase) {
            _ if !asked => continue,
            (Standing::Held, _) => continue,
            (Standing::Broke, Phase::Before) => (
                "baseline_not_steady",
                format!(
                    "{} was bad in {} of {} samples before anything was injected",
                    probe.name, seen.bad, seen.samples
                ),
            ),
            (Standing::Broke, Phase::During) if !any_confirmed(history) => (
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

fn unconfirmed(i: &InjectionHistory) -> Option<Reason> {
    let nothing_to_see = i.applied_at.is_none() || (i.windows.is_empty() && i.is_noop());
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
    let (fault, host) = (&i.injection.fault, &i.injection.host);
    let text = format!("{fault} on {host}: effect {}{}", state.as_str(), note.unwrap_or_default());
    Some(Reason::new(code, text).host(host).injection(&i.injection.id))
}
