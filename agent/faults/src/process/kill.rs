//! `process.kill`: ends processes by a signal, again and again if asked; what it ends stays ended, and it never starts anything.
use agent_levers::{KillSignal, Levers, Victim};
use agent_view::{Features, HostView, Process};
use proto_model::catalogue::DurationRule;
use proto_model::doctor::Ability;
use proto_model::injection::{EffectState, Observation, Reversal};
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::Millis;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::matching::{Chosen, Matching};
use super::pick::Pick;
use super::replacements::{Killed, Watch};
use super::{restart, signals};
use crate::claim::Claim;
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};

/// How many processes one injection may end, all its rounds together.
const MOST_VICTIMS: usize = 1_000;
/// What must be left of the duration after the grace, so that the end can be seen.
const WATCH_MS: u64 = 2_000;
const GRACE_MS: std::ops::RangeInclusive<u64> = 100..=600_000;
const EVERY_MS: std::ops::RangeInclusive<u64> = 1_000..=43_200_000;

/// Which processes to end, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct KillParams {
    #[serde(flatten)]
    matching: Matching,
    /// The signal: TERM, KILL, INT, QUIT, HUP, ABRT, SEGV, USR1 or USR2. Default TERM.
    #[serde(default)]
    #[schemars(schema_with = "signals")]
    signal: KillSignal,
    /// KILL follows for those that are still there after this long, 100ms to 10m and less than `every`. Default: no KILL follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grace: Option<Millis>,
    /// Does it again this often while the fault lasts, to whatever matches then, 1s to 12h. Default: once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every: Option<Millis>,
}

fn signals(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": KillSignal::ALL.map(KillSignal::name) })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct KillEffect {
    watch: Watch,
    /// Processes that were sent a signal so far.
    signalled: usize,
    replaced: usize,
    rounds: u32,
    next_round_ms: Option<u64>,
    /// Who was left alone the last time, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_alone: Vec<String>,
}

pub(super) struct Kill;

impl Fault for Kill {
    const KIND: &'static str = "process.kill";
    const SUMMARY: &'static str = "ends processes by a signal, once or again and again";
    const ALIASES: &'static [&'static str] = &["crash", "kill -9", "process killer", "sigkill", "terminate"];
    const REVERSAL: Reversal = Reversal::Irreversible {
        why: std::borrow::Cow::Borrowed("a process that has ended stays ended unless somebody starts it again"),
    };
    const DURATION: DurationRule = DurationRule::Optional;
    const LASTS_MS: u64 = 15_000;
    const MEASURED_BY: &'static str = "share of the victims that the kernel shows no more, or as zombies. Confirmed when all are gone; replacements are noted with their delay";
    const UNDONE_BY: &'static str = "nothing; whoever supervises the victims may start them again";
    const SETTLE_MS: u64 = 200;
    type Params = KillParams;
    type Effect = KillEffect;

    fn examples() -> Vec<Example<KillParams>> {
        let matching = Matching {
            name: Some("redis-server".to_owned()),
            ..Matching::default()
        };
        let once = KillParams {
            matching: matching.clone(),
            signal: KillSignal::Term,
            grace: Some(Millis(2_000)),
            every: None,
        };
        let oldest = Matching {
            pick: Pick::Oldest,
            children: true,
            ..matching
        };
        let again = KillParams {
            matching: oldest,
            signal: KillSignal::Kill,
            grace: None,
            every: Some(Millis(2_000)),
        };
        vec![
            Example {
                says: "every process named redis-server, and KILL for those that are left after 2 s",
                params: once,
            },
            Example {
                says: "the oldest of them with its descendants, every 2 s",
                params: again,
            },
        ]
    }

    fn validate(params: &KillParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        params.matching.validate(&mut problems);
        if params.matching.pid == Some(1) {
            problems.push(Problem::new("params.pid", "is the init process").allowed("2 or more"));
        }
        check_span("grace", params.grace, GRACE_MS, &mut problems);
        check_span("every", params.every, EVERY_MS, &mut problems);
        if let (Some(grace), Some(every)) = (params.grace, params.every)
            && grace >= every
        {
            problems.push(Problem::new("params.grace", format!("{grace} is not less than every")).allowed(format!("..{every}")));
        }
        if params.grace.is_some() && params.signal == KillSignal::Kill {
            problems.push(Problem::new("params.grace", "nothing outlives KILL").allowed("no grace, or another signal"));
        }
        problems.into_result()
    }

    fn claims(params: &KillParams) -> Vec<Claim> {
        vec![params.matching.claim()]
    }

    fn ability(host: &dyn Features) -> Ability {
        signals::ability(host)
    }

    fn preflight(params: &KillParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let chosen = choose(params, scene, 0)?;
        signals::refuse_unless_allowed(&chosen.processes, scene.view)?;
        fits("every", params.every, scene.duration_ms)?;
        fits("grace", params.grace, scene.duration_ms)?;
        let (left_out, chosen) = (chosen.left_out(), chosen.processes);
        Ok(Preflight {
            warnings: [restart::warnings(&chosen, scene.view), Matching::warnings(&chosen), left_out].concat(),
            touches: chosen.iter().map(Process::to_string).collect(),
            engine: None,
        })
    }

    fn apply(params: &KillParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<KillEffect, FaultError> {
        let chosen = choose(params, scene, 0).map_err(|refusal| FaultError::Other(refusal.to_string()))?;
        let now = scene.view.boot_ms();
        let mut effect = KillEffect {
            watch: Watch::default(),
            signalled: 0,
            replaced: 0,
            rounds: 0,
            next_round_ms: params.every.map(|every| now + every.0),
            left_alone: Vec::new(),
        };
        effect.strike(params, chosen, now, levers)?;
        if effect.signalled == 0 {
            let text = "every process that was meant ended before it could be signalled";
            return Err(FaultError::Other(text.to_owned()));
        }
        Ok(effect)
    }

    fn observe(effect: &KillEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let now = view.boot_ms();
        let look = Look {
            boot_ms: now,
            seen: Value::Null,
        };
        if before.is_none() {
            return Ok((None, look));
        }
        let living = effect.watch.living(view)?;
        // One that may still be ending says nothing yet.
        if living.iter().any(|killed| killed.may_be_ending(now)) {
            return Ok((None, look));
        }
        Ok((Some(effect.seen(living.len())), look))
    }

    fn due(effect: &KillEffect) -> Option<u64> {
        effect.watch.next_ms().into_iter().chain(effect.next_round_ms).min()
    }

    fn go_on(params: &KillParams, mut effect: KillEffect, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<KillEffect, FaultError> {
        let now = scene.view.boot_ms();
        let processes = scene.view.processes()?;
        let replaced = effect.watch.look(&processes, now);
        effect.replaced += replaced.len();
        if !replaced.is_empty() {
            levers.declare(replaced)?;
        }
        let overdue = effect.watch.overdue(now);
        if !overdue.is_empty() {
            levers.kill_processes(overdue, KillSignal::Kill)?;
        }
        if let (Some(every), Some(due)) = (params.every, effect.next_round_ms)
            && due <= now
        {
            effect.next_round_ms = Some(now + every.0);
            effect.another_round(params, scene, now, levers)?;
        }
        Ok(effect)
    }
}

impl KillEffect {
    /// Whoever matches now; nobody is no failure: the replacement may not be there yet.
    fn another_round(&mut self, params: &KillParams, scene: &Scene<'_>, now: u64, levers: &mut Levers<'_>) -> Result<(), FaultError> {
        match choose(params, scene, self.signalled) {
            Ok(chosen) => self.strike(params, chosen, now, levers),
            Err(refusal) if refusal.code == "no_match" => Ok(()),
            Err(refusal) => Err(FaultError::Other(refusal.to_string())),
        }
    }

    fn strike(&mut self, params: &KillParams, chosen: Chosen, now: u64, levers: &mut Levers<'_>) -> Result<(), FaultError> {
        self.left_alone = chosen.left_out();
        let fresh: Vec<Process> = chosen.processes.into_iter().filter(|p| !self.watch.knows(p)).collect();
        let victims: Vec<Victim> = fresh.iter().map(victim).collect();
        let got = levers.kill_processes(victims, params.signal)?;
        let kill_at = params.grace.map(|grace| now + grace.0);
        let killed = fresh.into_iter().filter(|p| got.iter().any(|v| p.is(v.pid, v.start_time)));
        killed.for_each(|process| self.watch.add(Killed::new(process, now, kill_at)));
        self.signalled += got.len();
        self.rounds += 1;
        Ok(())
    }

    fn seen(&self, living: usize) -> Observation {
        let gone = self.signalled.saturating_sub(living);
        let state = if living == 0 {
            EffectState::Confirmed
        } else {
            EffectState::Mismatch
        };
        let rounds = if self.rounds > 1 {
            format!(" in {} rounds", self.rounds)
        } else {
            String::new()
        };
        let left_alone: String = self.left_alone.iter().map(|line| format!("; {line}")).collect();
        Observation {
            asked: Some(100.0),
            measured: Some(gone as f64 / self.signalled.max(1) as f64 * 100.0),
            unit: "percent of the victims".to_owned(),
            state,
            note: Some(format!(
                "{gone} of {}{rounds} are gone, {} were replaced{left_alone}",
                self.signalled, self.replaced
            )),
        }
    }
}

fn victim(process: &Process) -> Victim {
    Victim {
        pid: process.pid,
        start_time: process.start_time,
        name: process.name.clone(),
    }
}

fn choose(params: &KillParams, scene: &Scene<'_>, so_far: usize) -> Result<Chosen, Refusal> {
    let chosen = params.matching.choose(scene)?;
    let left = MOST_VICTIMS.saturating_sub(so_far);
    let matching = chosen.processes.len();
    if matching > left {
        let text = format!("{matching} processes match; one injection ends at most {MOST_VICTIMS}");
        return Err(Refusal::new("too_many", "params", text).allowed(format!("..{left} now")));
    }
    Ok(chosen)
}

fn check_span(key: &str, span: Option<Millis>, range: std::ops::RangeInclusive<u64>, problems: &mut Problems) {
    if let Some(span) = span.filter(|span| !range.contains(&span.0)) {
        let allowed = format!("{}..{}", Millis(*range.start()), Millis(*range.end()));
        problems.push(Problem::new(format!("params.{key}"), format!("{span} is out of range")).allowed(allowed));
    }
}

/// What happens later must happen, and be seen, before the duration is over.
fn fits(key: &str, span: Option<Millis>, duration_ms: u64) -> Result<(), Refusal> {
    let most = duration_ms.saturating_sub(WATCH_MS);
    match span {
        Some(span) if span.0 > most => {
            let text = format!("{span} is too long for a duration of {}", Millis(duration_ms));
            Err(Refusal::new("invalid_params", format!("params.{key}"), text).allowed(format!("..{}", Millis(most))))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(value: Value) -> String {
        let parsed = crate::params::parse_params::<KillParams>(&value).and_then(|params| Kill::validate(&params));
        parsed.unwrap_err().0.remove(0).path
    }

    #[test]
    fn each_parameter_is_checked_by_name() {
        assert_eq!(wrong(json!({})), "params");
        assert_eq!(wrong(json!({"pid": 1})), "params.pid");
        assert_eq!(wrong(json!({"name": "x", "signal": "STOP"})), "params.signal");
        assert_eq!(wrong(json!({"name": "x", "grace": "1ms"})), "params.grace");
        assert_eq!(wrong(json!({"name": "x", "grace": "11m"})), "params.grace");
        assert_eq!(wrong(json!({"name": "x", "every": "200ms"})), "params.every");
        assert_eq!(wrong(json!({"name": "x", "every": "2s", "grace": "2s"})), "params.grace");
        assert_eq!(wrong(json!({"name": "x", "signal": "KILL", "grace": "2s"})), "params.grace");
        assert_eq!(wrong(json!({"name": "x", "every": 2})), "params.every");
    }

    #[test]
    fn what_comes_later_fits_into_the_duration() {
        assert!(fits("grace", None, 1_000).is_ok());
        assert!(fits("grace", Some(Millis(8_000)), 10_000).is_ok());
        let refusal = fits("grace", Some(Millis(8_001)), 10_000).unwrap_err();
        assert_eq!((refusal.path.as_str(), refusal.allowed.as_deref()), ("params.grace", Some("..8s")));
    }
}
