//! `cpu.burn`: keeps processors busy from a worker process of its own; it never takes time by priority, only by asking for it.

use std::fmt;

use agent_levers::{Levers, WorkerHandle};
use agent_view::{CpuTicks, Feature, Features, HostView, ThreadTime};
use proto_model::doctor::Ability;
use proto_model::injection::{EffectState, Observation};
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::{CpuList, Percent};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::json;

use super::duty::{self, Share};
use super::total;
use crate::ability::{limited_without, needs, refuse_without};
use crate::claim::Claim;
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};
use crate::work::WorkControl;
use crate::worker;

/// Points of percent that measured may differ from asked.
const TOLERANCE: f64 = 2.0;
/// Above this the chosen processors have nothing left to give.
const SATURATED: f64 = 97.0;

/// How hard, on which processors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BurnParams {
    /// Share of each chosen core to use, in percent of that core, 1 to 100. Default 100.
    #[serde(default = "whole")]
    #[schemars(range(min = 1, max = 100), default = "whole")]
    percent: Percent,
    /// How many cores to keep busy: a count, or `all` that the agent may use. Default all.
    #[serde(default)]
    cores: Cores,
    /// `add` uses this much on top of what already runs; `total` fills the cores up to this much in all. Default add.
    #[serde(default)]
    mode: Mode,
    /// Only these cores, as a list such as `0,2-3`. Default: every core that the agent may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<CpuList>,
}

fn whole() -> Percent {
    Percent(100.0)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Add,
    Total,
}

/// A count of cores, written `2`, or `all`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Cores {
    #[default]
    All,
    Count(u32),
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Count(n) => write!(f, "{n}"),
        }
    }
}

impl Serialize for Cores {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Count(n) => serializer.serialize_u32(*n),
        }
    }
}

impl<'de> Deserialize<'de> for Cores {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match (text.as_str(), text.parse::<u32>()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(n)) if n > 0 => Ok(Self::Count(n)),
            _ => Err(de::Error::custom(format!(
                "{text:?} is not a count of cores: expected 1 or more, or all"
            ))),
        }
    }
}

impl JsonSchema for Cores {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cores".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1 }, { "const": "all" }] })
    }
}

/// What the worker is told: the choice of cores is made before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct BurnEffect {
    worker: WorkerHandle,
    percent: f64,
    mode: Mode,
    cpus: Vec<u32>,
    /// In `total`, the cores were busier than asked already.
    noop: bool,
}

pub(super) struct Burn;

impl Fault for Burn {
    const KIND: &'static str = "cpu.burn";
    const SUMMARY: &'static str = "keeps processors busy at a share you choose";
    const ALIASES: &'static [&'static str] = &["stress", "cpu stress", "cpu hog", "cpu load", "exhaustion"];
    const MEASURED_BY: &'static str = "add: processor time the kernel accounts to the worker's group, over time x cores; total: busy share of the cores \
         from /proc/stat. Confirmed within 2 points of asked on each core, and where the cores are saturated and the share cannot be reached";
    const UNDONE_BY: &'static str = "ending the worker's group and removing it";
    const SETTLE_MS: u64 = 1_500;
    type Params = BurnParams;
    type Effect = BurnEffect;

    fn examples() -> Vec<Example<BurnParams>> {
        let of = |percent, cores, mode, pin| BurnParams {
            percent: Percent(percent),
            cores,
            mode,
            pin,
        };
        vec![
            Example {
                says: "half of every core, on top of what runs",
                params: of(50.0, Cores::All, Mode::Add, None),
            },
            Example {
                says: "one whole core",
                params: of(100.0, Cores::Count(1), Mode::Add, None),
            },
            Example {
                says: "core 0 filled up to 60 percent in all",
                params: of(60.0, Cores::All, Mode::Total, Some(CpuList(vec![0]))),
            },
        ]
    }

    fn validate(params: &BurnParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if !(1.0..=100.0).contains(&params.percent.0) {
            problems.push(Problem::new("params.percent", format!("{} is out of range", params.percent.0)).allowed("1..100"));
        }
        if let (Cores::Count(n), Some(CpuList(pin))) = (params.cores, &params.pin)
            && n as usize > pin.len()
        {
            problems
                .push(Problem::new("params.cores", format!("{n} cores of the {} pinned", pin.len())).allowed(format!("1..{}", pin.len())));
        }
        problems.into_result()
    }

    fn claims(params: &BurnParams) -> Vec<Claim> {
        match params.mode {
            Mode::Add => Vec::new(),
            Mode::Total => vec![Claim("the total load of the processors".to_owned())],
        }
    }

    fn ability(host: &dyn Features) -> Ability {
        limited_without(needs(host, worker::NEEDS), host, &[Feature::Controllers])
    }

    fn preflight(params: &BurnParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        refuse_without(scene.view, worker::NEEDS)?;
        let usable = usable(scene.view)?;
        let cpus = chosen(params, &usable)?;
        let mut preflight = Preflight {
            touches: vec![format!("processors {}", CpuList(cpus.clone()))],
            ..Preflight::default()
        };
        if let Some(quota) = scene.view.cpu_quota() {
            fits_quota(params, cpus.len(), quota)?;
            preflight
                .touches
                .push(format!("a processor quota of {quota:.2} cores, which is above this agent"));
        }
        let whole_host = cpus.len() == usable.len() && params.percent.0 >= 95.0;
        if whole_host {
            preflight
                .warnings
                .push("every core is kept busy: whatever else runs there gets slower, the agent included".to_owned());
        }
        Ok(preflight)
    }

    fn apply(params: &BurnParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<BurnEffect, FaultError> {
        let other = |refusal: Refusal| FaultError::Other(refusal.to_string());
        let cpus = chosen(params, &usable(scene.view).map_err(other)?).map_err(other)?;
        let noop = params.mode == Mode::Total && already_past(scene.view, &cpus, params.percent.0)?;
        let order = BurnParams {
            cores: Cores::All,
            pin: Some(CpuList(cpus.clone())),
            ..params.clone()
        };
        let worker = levers.start_worker_on(u32::try_from(cpus.len()).unwrap_or(u32::MAX), &order)?;
        Ok(BurnEffect {
            worker,
            percent: params.percent.0,
            mode: params.mode,
            cpus,
            noop,
        })
    }

    fn observe(effect: &BurnEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let seen = Seen {
            group_usec: view.group_cpu_usec(&effect.worker.group)?,
            ticks: view.cpu_ticks()?,
            threads: view.thread_times(effect.worker.pid)?,
        };
        let look = Look {
            boot_ms: view.boot_ms(),
            seen: json!(seen),
        };
        let Some(before) = before else { return Ok((None, look)) };
        let old: Seen = serde_json::from_value(before.seen.clone()).map_err(|e| FaultError::Other(format!("read the last look: {e}")))?;
        let wall_ms = look.boot_ms.saturating_sub(before.boot_ms);
        Ok((Some(compare(effect, &old, &seen, wall_ms)), look))
    }

    fn alive(effect: &BurnEffect, view: &dyn HostView) -> Result<(), String> {
        worker::alive(&effect.worker, view)
    }

    fn work(params: &BurnParams, control: &WorkControl) -> Result<(), FaultError> {
        let cpus = params.pin.as_ref().map(|list| list.0.clone()).unwrap_or_default();
        let target = params.percent.0 / 100.0;
        let first = if params.mode == Mode::Add { target } else { 0.0 };
        let shares: Vec<Share> = cpus.iter().map(|_| Share::new(first)).collect();
        let stop = || control.should_stop();
        std::thread::scope(|scope| {
            let threads: Vec<_> = cpus
                .iter()
                .zip(&shares)
                .map(|(cpu, share)| scope.spawn(move || duty::burn(*cpu, share, stop)))
                .collect();
            if params.mode == Mode::Total {
                total::steer(control.view(), &cpus, target, &shares, stop);
            }
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result.map_err(|e| FaultError::Other(format!("pin a thread to its core: {e}"))),
                Err(_) => Err(FaultError::Other("a burning thread panicked".to_owned())),
            })
        })
    }
}

/// What one look keeps for the next.
#[derive(Serialize, Deserialize)]
struct Seen {
    group_usec: Option<u64>,
    ticks: Vec<CpuTicks>,
    #[serde(default)]
    threads: Vec<ThreadTime>,
}

fn usable(view: &dyn HostView) -> Result<Vec<u32>, Refusal> {
    view.usable_cpus()
        .map_err(|e| Refusal::new("unsupported", "params.cores", format!("the host's processors cannot be read: {e}")))
}

/// The cores meant: those of `pin` that may be used, the first `cores` of them.
fn chosen(params: &BurnParams, usable: &[u32]) -> Result<Vec<u32>, Refusal> {
    let mut cpus = match &params.pin {
        None => usable.to_vec(),
        Some(CpuList(pin)) => {
            if let Some(stranger) = pin.iter().find(|cpu| !usable.contains(cpu)) {
                return Err(
                    Refusal::new("invalid_params", "params.pin", format!("this host has no usable core {stranger}"))
                        .allowed(CpuList(usable.to_vec()).to_string()),
                );
            }
            pin.clone()
        }
    };
    if let Cores::Count(n) = params.cores {
        if n as usize > cpus.len() {
            return Err(Refusal::new(
                "invalid_params",
                "params.cores",
                format!("{n} cores asked, {} may be used", cpus.len()),
            )
            .allowed(format!("1..{}", cpus.len())));
        }
        cpus.truncate(n as usize);
    }
    Ok(cpus)
}

/// More than the quota is never had: the kernel would throttle everything under it, the agent included.
fn fits_quota(params: &BurnParams, cores: usize, quota: f64) -> Result<(), Refusal> {
    let most = (quota / cores.max(1) as f64 * 100.0).floor();
    if params.percent.0 <= most {
        return Ok(());
    }
    let asked = params.percent.0 / 100.0 * cores as f64;
    let message = format!(
        "{} percent of {cores} cores is {asked:.2} cores, and a processor quota above this agent gives {quota:.2}",
        params.percent.0
    );
    let refusal = Refusal::new("invalid_params", "params.percent", message);
    Err(if most >= 1.0 {
        refusal.allowed(format!("1..{most}"))
    } else {
        refusal
    })
}

/// A short look before anything is done: a fifth of a second tells a busy host from an idle one.
fn already_past(view: &dyn HostView, cpus: &[u32], percent: f64) -> Result<bool, FaultError> {
    let before = view.cpu_ticks()?;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let busy = total::mean(&total::busy_shares(&before, &view.cpu_ticks()?, cpus));
    Ok(busy.is_some_and(|busy| busy * 100.0 > percent + TOLERANCE))
}

/// Ticks of processor time are counted by hundredths of a second: a shorter look tells nothing.
const LEAST_WINDOW_MS: u64 = 500;

fn compare(effect: &BurnEffect, old: &Seen, new: &Seen, wall_ms: u64) -> Observation {
    let shares = total::busy_shares(&old.ticks, &new.ticks, &effect.cpus);
    let busy = total::mean(&shares).map(|share| share * 100.0);
    let own = own_percent(old, new, wall_ms, effect.cpus.len());
    let measured = match effect.mode {
        Mode::Add => own,
        Mode::Total => busy,
    };
    let worst = worst_core(effect, old, new, wall_ms).filter(|_| effect.mode == Mode::Add);
    let missed = worst.filter(|(_, percent)| (percent - effect.percent).abs() > TOLERANCE);
    let (state, note) = match (effect.mode, measured) {
        _ if wall_ms < LEAST_WINDOW_MS => (
            EffectState::Unknown,
            Some(format!("{wall_ms} ms are too short to tell; {LEAST_WINDOW_MS} ms are needed")),
        ),
        (_, None) => (
            EffectState::Unknown,
            Some("the kernel accounts no processor time for it".to_owned()),
        ),
        (_, Some(m)) if (m - effect.percent).abs() <= TOLERANCE && missed.is_none() => (EffectState::Confirmed, None),
        (Mode::Total, Some(m)) if m > effect.percent => past_target(own, m),
        (Mode::Add, Some(m)) if m < effect.percent => short_of(m, missed, &shares),
        (_, Some(_)) => (EffectState::Mismatch, missed.map(|(cpu, percent)| on_core(cpu, percent))),
    };
    Observation {
        asked: Some(effect.percent),
        measured: measured.map(|m| (m * 10.0).round() / 10.0),
        unit: "percent".to_owned(),
        state,
        note,
    }
}

fn on_core(cpu: u32, percent: f64) -> String {
    format!("core {cpu} has {percent:.1} percent")
}

/// The core whose share is farthest from what was asked, with that share in percent; a mean would hide one that gets less.
fn worst_core(effect: &BurnEffect, old: &Seen, new: &Seen, wall_ms: u64) -> Option<(u32, f64)> {
    let used = |cpu: u32| -> Option<f64> {
        let thread = new.threads.iter().filter(|thread| thread.cpu == cpu);
        let grown = thread.filter_map(|now| {
            let before = old.threads.iter().find(|before| before.tid == now.tid)?;
            now.usec.checked_sub(before.usec)
        });
        // The thread that only waits may have run on any core; the one that burns has used most.
        grown.max().map(|usec| usec as f64 / (wall_ms as f64 * 1_000.0) * 100.0)
    };
    let each: Option<Vec<(u32, f64)>> = effect.cpus.iter().map(|cpu| Some((*cpu, used(*cpu)?))).collect();
    let far = |percent: f64| (percent - effect.percent).abs();
    each.filter(|_| wall_ms > 0)?
        .into_iter()
        .max_by(|a, b| far(a.1).total_cmp(&far(b.1)))
}

/// Processor time of our group over what the cores had to give, in percent.
fn own_percent(old: &Seen, new: &Seen, wall_ms: u64, cores: usize) -> Option<f64> {
    let used = new.group_usec?.checked_sub(old.group_usec?)?;
    (wall_ms > 0 && cores > 0).then(|| used as f64 / (wall_ms as f64 * 1_000.0 * cores as f64) * 100.0)
}

/// Busier than asked: no fault of ours when we add (almost) nothing.
fn past_target(own: Option<f64>, measured: f64) -> (EffectState, Option<String>) {
    if own.is_some_and(|own| own <= TOLERANCE) {
        let note = format!("already past the target: others keep the cores {measured:.0} % busy, nothing was added");
        return (EffectState::Confirmed, Some(note));
    }
    (EffectState::Mismatch, None)
}

/// Less than asked. Cores that have nothing left to give are as busy as any fault could make them: that is confirmed, and said.
fn short_of(own: f64, missed: Option<(u32, f64)>, busy: &[Option<f64>]) -> (EffectState, Option<String>) {
    let saturated = busy.iter().all(|share| share.is_some_and(|share| share * 100.0 >= SATURATED));
    match (saturated, total::mean(busy)) {
        (true, Some(mean)) => {
            let (all, others) = (mean * 100.0, (mean * 100.0 - own).max(0.0));
            let note =
                format!("the cores are saturated, so the asked share cannot be reached: {all:.0} % busy, of which others took {others:.0}");
            (EffectState::Confirmed, Some(note))
        }
        _ => (EffectState::Mismatch, missed.map(|(cpu, percent)| on_core(cpu, percent))),
    }
}

#[cfg(test)]
mod tests;
