//! `memory.hog`: takes memory and holds it, in a worker of its own; what the host keeps free is never taken.

use agent_levers::{Levers, WorkerHandle};
use agent_privileges::CapabilitySet;
use agent_view::{Feature, Features, HostView, Memory, ProcessMemory};
use proto_model::doctor::Ability;
use proto_model::injection::{EffectState, Observation};
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::{Amount, Bytes, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::target::{Aim, leaked};
use super::worker;
use crate::ability::{limited_without, needs, refuse_without};
use crate::claim::Claim;
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};
use crate::work::WorkControl;
use crate::worker::{NEEDS as WORKER, alive as worker_alive};

/// Share of what was asked (in `total`: of all memory) by which the measured amount may differ.
const TOLERANCE: f64 = 0.01;
/// The worker needs some memory itself; less than this cannot be asked for.
const LEAST: u64 = 16 << 20;
/// How late a worker's step may be seen.
const STEPS_WITHIN_MS: u64 = 1_000;
const MEBI: u64 = 1 << 20;
/// Programs that kill before the kernel does.
const KILLERS: [&str; 4] = ["systemd-oomd", "earlyoom", "oomd", "nohang"];

/// How much, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HogParams {
    /// How much: a size such as `512MiB`, or a percent of the host's memory such as `50%`; of the quota where a control group above the agent has one.
    amount: Amount,
    /// `add` takes this much on top of what is used; `total` fills memory up to this much in all, and goes on adjusting. Default add.
    #[serde(default)]
    mode: Mode,
    /// Stays free whatever is asked: memory is given back when others need it. The host's own policy may ask for more. Default 512MiB.
    #[serde(default = "half_gibibyte")]
    #[schemars(default = "half_gibibyte")]
    reserve: Bytes,
    /// Grow by this much per second, as a leak does. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Bytes>,
    /// Lock it, so that none of it is swapped out. Default false.
    #[serde(default)]
    lock: bool,
    /// What it means when the kernel kills the worker for want of memory. `error`: the fault has ended early. `accepted`: it goes on without, and its effect is told as a mismatch from then on. Default error.
    #[serde(default)]
    on_oom: OnOom,
}

fn half_gibibyte() -> Bytes {
    Bytes(512 * MEBI)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Add,
    Total,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnOom {
    #[default]
    Error,
    Accepted,
}

/// What is held against what is seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HogEffect {
    worker: WorkerHandle,
    mode: Mode,
    amount: u64,
    /// Of how much memory a share was taken.
    whole: u64,
    reserve: u64,
    rate: Option<u64>,
    lock: bool,
    on_oom: OnOom,
    began_boot_ms: u64,
    oom_kills_before: u64,
    /// In `total`, that much was used already.
    noop: bool,
}

pub(super) struct Hog;

impl Fault for Hog {
    const KIND: &'static str = "memory.hog";
    const SUMMARY: &'static str = "takes memory and holds it, at once or like a leak";
    const ALIASES: &'static [&'static str] = &[
        "memory stress",
        "memory fill",
        "memory leak",
        "memory load",
        "out of memory",
        "exhaustion",
    ];
    const MEASURED_BY: &'static str = "add: the worker's proportional set size (/proc/PID/smaps_rollup), within 1 % of asked; total: MemTotal less \
         MemAvailable, or the same of the quota, within 1 % of all memory";
    const UNDONE_BY: &'static str = "ending the worker's group and removing it";
    /// To lock what it takes in memory, whatever the limit of ordinary programs is.
    const WORKER_KEEPS: CapabilitySet = CapabilitySet::IPC_LOCK;
    const SETTLE_MS: u64 = 1_500;
    type Params = HogParams;
    type Effect = HogEffect;

    fn examples() -> Vec<Example<HogParams>> {
        let of = |amount| HogParams {
            amount,
            mode: Mode::Add,
            reserve: half_gibibyte(),
            rate: None,
            lock: false,
            on_oom: OnOom::Error,
        };
        vec![
            Example {
                says: "128 MiB on top of what is used",
                params: of(Amount::Size(Bytes(128 * MEBI))),
            },
            Example {
                says: "a leak of 32 MiB a second up to 96 MiB, locked",
                params: HogParams {
                    rate: Some(Bytes(32 * MEBI)),
                    lock: true,
                    ..of(Amount::Size(Bytes(96 * MEBI)))
                },
            },
            Example {
                says: "memory filled up to a quarter in all",
                params: HogParams {
                    mode: Mode::Total,
                    ..of(Amount::Share(Percent(25.0)))
                },
            },
        ]
    }

    fn validate(params: &HogParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        let too_little = match params.amount {
            Amount::Size(Bytes(bytes)) => bytes < LEAST,
            Amount::Share(Percent(percent)) => percent <= 0.0,
        };
        if too_little {
            problems.push(Problem::new("params.amount", format!("{} is too little", params.amount)).allowed(format!("{}..", Bytes(LEAST))));
        }
        if params.rate.is_some_and(|Bytes(rate)| rate < MEBI) {
            problems.push(Problem::new("params.rate", "is too slow to be measured").allowed("1MiB.. (per second)"));
        }
        problems.into_result()
    }

    fn claims(params: &HogParams) -> Vec<Claim> {
        match params.mode {
            Mode::Add => Vec::new(),
            Mode::Total => vec![Claim("the total use of memory".to_owned())],
        }
    }

    fn ability(host: &dyn Features) -> Ability {
        limited_without(
            needs(host, WORKER),
            host,
            &[Feature::Ptrace, Feature::Controllers, Feature::IpcLock],
        )
    }

    fn preflight(params: &HogParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        refuse_without(scene.view, WORKER)?;
        let memory = look(scene.view)?;
        let need = Need::of(params, &memory, scene.protection.memory_reserve());
        need.fits(params, &memory)?;
        let mut preflight = Preflight {
            touches: vec![need.says(params, &memory)],
            ..Preflight::default()
        };
        preflight.warnings.extend(killer_warning(scene.view));
        if memory.swap_total > 0 && !params.lock {
            preflight
                .warnings
                .push("this host swaps: what is taken may be swapped out, or swap others out (lock=true keeps it in memory)".to_owned());
        }
        if need.new == 0 {
            preflight
                .warnings
                .push(format!("{} is used already: nothing is taken", show(memory.used())));
        }
        Ok(preflight)
    }

    fn apply(params: &HogParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<HogEffect, FaultError> {
        let other = |refusal: Refusal| FaultError::Other(refusal.to_string());
        let memory = look(scene.view).map_err(other)?;
        let need = Need::of(params, &memory, scene.protection.memory_reserve());
        need.fits(params, &memory).map_err(other)?;
        let order = HogParams {
            amount: Amount::Size(Bytes(need.amount)),
            reserve: Bytes(need.reserve),
            ..params.clone()
        };
        let began_boot_ms = scene.view.boot_ms();
        let worker = levers.start_worker(&order)?;
        Ok(HogEffect {
            // Counted for the group, so the group must be there.
            oom_kills_before: scene.view.oom_kills(&worker.group)?,
            worker,
            mode: params.mode,
            amount: need.amount,
            whole: memory.total,
            reserve: need.reserve,
            rate: params.rate.map(|Bytes(rate)| rate),
            lock: params.lock,
            on_oom: params.on_oom,
            began_boot_ms,
            noop: need.new == 0,
        })
    }

    fn observe(effect: &HogEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let memory = view.memory()?;
        let seen = Seen {
            own: view.process_memory(effect.worker.pid)?,
            used: memory.used(),
            available: memory.available,
            killed: was_killed(effect, view),
        };
        let look = Look {
            boot_ms: view.boot_ms(),
            seen: json!(seen),
        };
        let Some(before) = before else { return Ok((None, look)) };
        let old: Seen = serde_json::from_value(before.seen.clone()).map_err(|e| FaultError::Other(format!("read the last look: {e}")))?;
        let elapsed_ms = look.boot_ms.saturating_sub(effect.began_boot_ms);
        Ok((compare(effect, &old, &seen, elapsed_ms), look))
    }

    fn alive(effect: &HogEffect, view: &dyn HostView) -> Result<(), String> {
        let Err(gone) = worker_alive(&effect.worker, view) else {
            return Ok(());
        };
        match (was_killed(effect, view), effect.on_oom) {
            (true, OnOom::Accepted) => Ok(()),
            (true, OnOom::Error) => Err(format!("{gone}: the kernel killed it for want of memory")),
            (false, _) => Err(gone),
        }
    }

    fn work(params: &HogParams, control: &WorkControl) -> Result<(), FaultError> {
        let aim = Aim {
            amount: params.amount.of(control.view().memory()?.total),
            total: params.mode == Mode::Total,
            reserve: params.reserve.0,
            rate: params.rate.map(|Bytes(rate)| rate),
        };
        worker::hold(&aim, params.lock, control)
    }
}

/// What else may kill here for want of memory.
fn killer_warning(view: &dyn HostView) -> Option<String> {
    let running = match view.processes() {
        Ok(running) => running,
        Err(error) => {
            let why = format!("{error}: {}", error.source);
            return Some(format!("whether {} runs here is not known: {why}", KILLERS.join(", ")));
        }
    };
    let killer = running.iter().find(|p| KILLERS.contains(&p.name.as_str()))?;
    Some(format!("{killer} runs here: it may kill other processes before memory is short"))
}

fn look(view: &dyn HostView) -> Result<Memory, Refusal> {
    view.memory()
        .map_err(|e| Refusal::new("unsupported", "params.amount", format!("the host's memory cannot be read: {e}")))
}

/// The worker is gone, and the kernel says that it killed for want of memory since.
fn was_killed(effect: &HogEffect, view: &dyn HostView) -> bool {
    let killed = view
        .oom_kills(&effect.worker.group)
        .is_ok_and(|kills| kills > effect.oom_kills_before);
    killed && worker_alive(&effect.worker, view).is_err()
}

/// The asked amount in bytes, and what it takes to have it.
struct Need {
    amount: u64,
    /// What must still be taken.
    new: u64,
    reserve: u64,
}

impl Need {
    fn of(params: &HogParams, memory: &Memory, policy_reserve: u64) -> Self {
        let amount = params.amount.of(memory.total);
        Self {
            amount,
            new: match params.mode {
                Mode::Add => amount,
                Mode::Total => amount.saturating_sub(memory.used()),
            },
            reserve: params.reserve.0.max(policy_reserve),
        }
    }

    fn fits(&self, params: &HogParams, memory: &Memory) -> Result<(), Refusal> {
        let room = memory.available.saturating_sub(self.reserve);
        let most = match params.mode {
            Mode::Add => room,
            Mode::Total => memory.used() + room,
        };
        let (least, fault) = match params.mode {
            Mode::Add => (LEAST, self.amount < LEAST),
            Mode::Total => (0, false),
        };
        if self.new <= room && !fault {
            return Ok(());
        }
        let message = format!(
            "{} asked, but {} of {} are available and {} stay free (the greater of the parameter reserve and reserve.memory of this host's agent.toml)",
            params.amount,
            show(memory.available),
            show(memory.total),
            show(self.reserve)
        );
        let allowed = match params.amount {
            Amount::Size(_) => format!("{}..{}", Bytes(least), show(most)),
            Amount::Share(_) => format!("{:.1}%..{:.1}%", percent(least, memory.total), percent(most, memory.total)),
        };
        Err(Refusal::new("invalid_params", "params.amount", message).allowed(allowed))
    }

    fn says(&self, params: &HogParams, memory: &Memory) -> String {
        let what = match params.mode {
            Mode::Add => "more",
            Mode::Total => "used in all",
        };
        let (amount, whole) = (show(self.amount), show(memory.total));
        format!("memory: {amount} {what}, of the {}'s {whole}", memory.whose())
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0) * 100.0
}

/// In whole mebibytes, rounded down.
fn show(bytes: u64) -> Bytes {
    Bytes(bytes / MEBI * MEBI)
}

/// What one look keeps for the next.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    own: Option<ProcessMemory>,
    used: u64,
    available: u64,
    killed: bool,
}

impl Seen {
    fn own(&self) -> ProcessMemory {
        self.own.unwrap_or_default()
    }
}

/// `None` while the amount is still being taken: there is nothing to compare yet.
fn compare(effect: &HogEffect, old: &Seen, new: &Seen, elapsed_ms: u64) -> Option<Observation> {
    if new.killed {
        return Some(after_kill(effect));
    }
    let leaked_now = leaked(effect.rate, elapsed_ms);
    let (asked, measured, tolerance) = match effect.mode {
        Mode::Add => (effect.amount.min(leaked_now), new.own().pss, effect.amount as f64 * TOLERANCE),
        Mode::Total => (effect.amount, new.used, effect.whole as f64 * TOLERANCE),
    };
    let grew = leaked(effect.rate, elapsed_ms.saturating_sub(STEPS_WITHIN_MS)) < effect.amount;
    let tolerance = tolerance + effect.rate.filter(|_| grew).map_or(0.0, |rate| rate as f64);
    let short = asked as f64 - measured as f64;
    let grows = new.own().pss > old.own().pss + old.own().pss / 50;
    let (state, note) = match () {
        () if short.abs() <= tolerance => held(effect, new),
        () if short > 0.0 && effect.mode == Mode::Total && leaked_now < effect.amount => {
            (EffectState::Confirmed, Some("still growing".to_owned()))
        }
        () if short > 0.0 && grows => return None,
        () if short > 0.0 => (EffectState::Mismatch, missing(effect, new)),
        () if effect.mode == Mode::Total && new.own().pss < LEAST => (EffectState::Confirmed, Some(past(new))),
        () => (EffectState::Mismatch, None),
    };
    Some(Observation {
        asked: Some(asked as f64),
        measured: Some(measured as f64),
        unit: "bytes".to_owned(),
        state,
        note,
    })
}

/// Nothing is held any more; that the injection goes on makes that no less true.
fn after_kill(effect: &HogEffect) -> Observation {
    let note = "the kernel killed the worker for want of memory, so nothing is held; on_oom accepts that, and the injection goes on";
    Observation {
        asked: Some(effect.amount as f64),
        measured: Some(0.0),
        unit: "bytes".to_owned(),
        state: EffectState::Mismatch,
        note: Some(note.to_owned()),
    }
}

/// As much as asked; with `lock` it must also be locked.
fn held(effect: &HogEffect, new: &Seen) -> (EffectState, Option<String>) {
    let own = new.own();
    if effect.lock && (own.locked as f64) < own.pss.saturating_sub(LEAST) as f64 {
        let note = format!("only {} of it are locked", show(own.locked));
        return (EffectState::Mismatch, Some(note));
    }
    (EffectState::Confirmed, Some(format!("{} stay available", show(new.available))))
}

fn past(new: &Seen) -> String {
    format!("already past the target: others use {}, nothing was added", show(new.used))
}

fn missing(effect: &HogEffect, new: &Seen) -> Option<String> {
    if new.own().swapped > MEBI {
        let note = format!("{} of it are swapped out; lock=true keeps it in memory", show(new.own().swapped));
        return Some(note);
    }
    let near = effect.reserve + effect.whole / 100;
    (new.available <= near).then(|| {
        format!(
            "the rest stays free: {} are available, {} are kept",
            show(new.available),
            show(effect.reserve)
        )
    })
}

#[cfg(test)]
mod tests;
