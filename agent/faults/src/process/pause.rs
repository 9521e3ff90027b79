//! `process.pause`: stops processes where they are and lets them go on at the end; it never kills, and stops nothing twice.

use agent_levers::{Levers, Victim};
use agent_view::{Features, HostView, Process, ProcessStat, ProcessState};
use proto_model::doctor::Ability;
use proto_model::injection::{EffectState, Observation};
use proto_model::problem::{Problem, Problems, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

use super::matching::Matching;
use super::pick::Pick;
use super::signals;
use crate::claim::Claim;
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};

/// Where the kernel's freezers may be, and what each reads when its group is frozen or not.
const FREEZERS: [(&str, &str, &str, &str); 3] = [
    ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
    ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
    ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
];

/// How often is looked for processes that were forked while others were being stopped.
const MOST_LOOKS: u32 = 5;

/// Which processes to pause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct PauseParams {
    #[serde(flatten)]
    matching: Matching,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PauseEffect {
    victims: Vec<Victim>,
    /// The group's freezer, when it was used instead of signals.
    freezer: Option<Freezer>,
    /// What was left out, in words.
    left_out: Vec<String>,
    /// By which those that come later are known; none in what an older version recorded.
    #[serde(default)]
    matching: Option<Matching>,
    /// Those that were left alone since they could not be read: they do not come later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spared: Vec<Victim>,
}

/// One group's freezer knob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Freezer {
    folder: String,
    knob: String,
    frozen: String,
}

impl Freezer {
    fn path(&self) -> String {
        format!("{}/{}", self.folder, self.knob)
    }
}

pub(super) struct Pause;

impl Fault for Pause {
    const KIND: &'static str = "process.pause";
    const SUMMARY: &'static str = "stops processes where they are, and lets them go on at the end";
    const ALIASES: &'static [&'static str] = &["freeze", "hang", "stop process", "sigstop", "suspend"];
    const MEASURED_BY: &'static str = "share of the victims, and of those that match and came later, that the kernel shows as stopped or frozen. Confirmed when all that are left are; unknown while a tracer holds one, which hides whether it is stopped";
    const UNDONE_BY: &'static str = "continuing each victim that is still the same process, or thawing the group";
    const SETTLE_MS: u64 = 200;
    type Params = PauseParams;
    type Effect = PauseEffect;

    fn examples() -> Vec<Example<PauseParams>> {
        let redis = Matching {
            name: Some("redis-server".to_owned()),
            ..Matching::default()
        };
        let oldest = Matching {
            pick: Pick::Oldest,
            children: true,
            ..redis.clone()
        };
        vec![
            Example {
                says: "every process named redis-server",
                params: PauseParams { matching: redis },
            },
            Example {
                says: "the oldest of them with its descendants",
                params: PauseParams { matching: oldest },
            },
        ]
    }

    fn validate(params: &PauseParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        params.matching.validate(&mut problems);
        if params.matching.pid == Some(1) {
            problems.push(Problem::new("params.pid", "is the init process").allowed("2 or more"));
        }
        problems.into_result()
    }

    fn claims(params: &PauseParams) -> Vec<Claim> {
        vec![params.matching.claim()]
    }

    fn ability(host: &dyn Features) -> Ability {
        signals::ability(host)
    }

    fn preflight(params: &PauseParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let choice = Choice::make(params, scene)?;
        Ok(Preflight {
            warnings: [choice.left_out, choice.warnings].concat(),
            touches: choice.victims.iter().map(|v| format!("{} (pid {})", v.name, v.pid)).collect(),
            engine: Some(if choice.freezer.is_some() { "freezer" } else { "signal" }.to_owned()),
        })
    }

    fn apply(params: &PauseParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<PauseEffect, FaultError> {
        let choice = Choice::make(params, scene).map_err(|refusal| FaultError::Other(refusal.to_string()))?;
        let (mut victims, mut spared) = (choice.victims, choice.spared);
        match &choice.freezer {
            Some(freezer) => {
                levers.set_knob(&freezer.path(), &freezer.frozen)?;
            }
            None => victims = stop_all(&params.matching, victims, &mut spared, scene, levers)?,
        }
        if victims.is_empty() {
            return Err(FaultError::Other(
                "every process that was meant ended before it could be stopped".to_owned(),
            ));
        }
        Ok(PauseEffect {
            victims,
            freezer: choice.freezer,
            left_out: choice.left_out,
            matching: Some(params.matching.clone()),
            spared,
        })
    }

    fn observe(effect: &PauseEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let look = Look {
            boot_ms: view.boot_ms(),
            seen: Value::Null,
        };
        if before.is_none() {
            return Ok((None, look));
        }
        let alive = living(effect, view)?;
        let in_state = |state: ProcessState| alive.iter().filter(|process| process.state == state).count();
        let counted = match &effect.freezer {
            Some(freezer) if is_frozen(freezer, view)? => Counted {
                stopped: alive.len(),
                traced: 0,
                strays: 0,
            },
            _ => Counted {
                stopped: in_state(ProcessState::Stopped),
                traced: in_state(ProcessState::Traced),
                strays: strays(effect, view)?,
            },
        };
        Ok((Some(counted.share(alive.len(), effect.victims.len())), look))
    }

    fn alive(effect: &PauseEffect, view: &dyn HostView) -> Result<(), String> {
        match living(effect, view) {
            Ok(left) if left.is_empty() => Err("every paused process is gone".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Stops them, then looks for those that were forked meanwhile until a look finds nobody new: who is stopped forks no more.
fn stop_all(
    matching: &Matching,
    first: Vec<Victim>,
    spared: &mut Vec<Victim>,
    scene: &Scene<'_>,
    levers: &mut Levers<'_>,
) -> Result<Vec<Victim>, FaultError> {
    let mut stopped = levers.stop_processes(first)?;
    for _ in 1..MOST_LOOKS {
        let fresh = running_newcomers(matching, &stopped, spared, scene.view)?;
        if stopped.is_empty() || fresh.is_empty() {
            break;
        }
        let fresh = Matching::without_protected(fresh, scene).map_err(|refusal| FaultError::Other(refusal.to_string()))?;
        spared.extend(fresh.left_alone.into_iter().map(|left| victim(left.process)));
        stopped.extend(levers.stop_processes(fresh.processes.into_iter().map(victim).collect())?);
    }
    Ok(stopped)
}

fn running_newcomers(matching: &Matching, known: &[Victim], spared: &[Victim], view: &dyn HostView) -> Result<Vec<Process>, FaultError> {
    let newcomers = matching.newcomers(known, spared, view);
    let mut newcomers = newcomers.map_err(|refusal| FaultError::Other(refusal.to_string()))?;
    newcomers.retain(|process| !may_be_stopped(process));
    Ok(newcomers)
}

/// How many run that are meant and were not there when the others were stopped.
fn strays(effect: &PauseEffect, view: &dyn HostView) -> Result<usize, FaultError> {
    let Some(matching) = &effect.matching else { return Ok(0) };
    Ok(running_newcomers(matching, &effect.victims, &effect.spared, view)?.len())
}

/// What would be done, decided the same way in preflight and in apply.
struct Choice {
    victims: Vec<Victim>,
    spared: Vec<Victim>,
    freezer: Option<Freezer>,
    left_out: Vec<String>,
    warnings: Vec<String>,
}

impl Choice {
    fn make(params: &PauseParams, scene: &Scene<'_>) -> Result<Self, Refusal> {
        let chosen = params.matching.choose(scene)?;
        let left_alone = chosen.left_out();
        let (stopped, running): (Vec<Process>, Vec<Process>) = chosen.processes.into_iter().partition(may_be_stopped);
        let left_out: Vec<String> = stopped.iter().map(why_left_out).chain(left_alone).collect();
        if running.is_empty() {
            return Err(Refusal::new(
                "no_match",
                "params",
                format!("every process with {} is stopped already, or held by a tracer", params.matching),
            ));
        }
        let whole = params.matching.is_whole_group() && stopped.is_empty();
        let freezer = if whole { freezer_of(&running, scene.view) } else { None };
        if freezer.is_none() {
            signals::refuse_unless_allowed(&running, scene.view)?;
        }
        Ok(Self {
            warnings: Matching::warnings(&running),
            victims: running.into_iter().map(victim).collect(),
            spared: chosen.left_alone.into_iter().map(|left| victim(left.process)).collect(),
            freezer,
            left_out,
        })
    }
}

fn victim(process: Process) -> Victim {
    Victim {
        pid: process.pid,
        start_time: process.start_time,
        name: process.name,
    }
}

/// Not by us: it would be let go on at the end. Whether one that a tracer holds is stopped behind that is not seen.
fn may_be_stopped(process: &Process) -> bool {
    matches!(process.state, ProcessState::Stopped | ProcessState::Traced)
}

fn why_left_out(process: &Process) -> String {
    match process.state {
        ProcessState::Traced => format!("{process} is held by a tracer, which hides whether it is stopped, and is left as it is"),
        _ => format!("{process} is stopped already and is left as it is"),
    }
}

/// The freezer of the one group that holds exactly these processes, if the kernel has one and it is not in use.
fn freezer_of(processes: &[Process], view: &dyn HostView) -> Option<Freezer> {
    let pids: BTreeSet<u32> = processes.iter().map(|p| p.pid).collect();
    let paths: BTreeSet<&String> = processes.iter().flat_map(|p| &p.groups).filter(|path| path.len() > 1).collect();
    let candidates = paths.iter().flat_map(|path| {
        FREEZERS.iter().map(move |(root, knob, frozen, thawed)| {
            let freezer = Freezer {
                folder: format!("{root}{path}"),
                knob: (*knob).to_owned(),
                frozen: (*frozen).to_owned(),
            };
            (freezer, *thawed)
        })
    });
    candidates
        .filter(|(freezer, _)| members(freezer, view).is_some_and(|members| members == pids))
        .find(|(freezer, thawed)| view.knob(&freezer.path()).ok().flatten().as_deref() == Some(*thawed))
        .map(|(freezer, _)| freezer)
}

fn members(freezer: &Freezer, view: &dyn HostView) -> Option<BTreeSet<u32>> {
    let listed = view.knob(&format!("{}/cgroup.procs", freezer.folder)).ok()??;
    listed.split_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// What the kernel says of the group, which is not what was written: it reads frozen only once every process is.
fn is_frozen(freezer: &Freezer, view: &dyn HostView) -> Result<bool, FaultError> {
    if freezer.knob == "cgroup.freeze" {
        let events = view.knob(&format!("{}/cgroup.events", freezer.folder))?.unwrap_or_default();
        return Ok(events.lines().any(|line| line == "frozen 1"));
    }
    Ok(view.knob(&freezer.path())?.as_deref() == Some(freezer.frozen.as_str()))
}

/// Those victims that are still the same processes.
fn living(effect: &PauseEffect, view: &dyn HostView) -> Result<Vec<ProcessStat>, FaultError> {
    let mut living = Vec::new();
    for victim in &effect.victims {
        let process = view.process_stat(victim.pid)?.filter(|p| p.is(victim.pid, victim.start_time));
        living.extend(process.filter(|p| !matches!(p.state, ProcessState::Zombie | ProcessState::Dead)));
    }
    Ok(living)
}

/// How those that are left were found.
struct Counted {
    stopped: usize,
    /// A tracer holds them: that is no evidence of our effect, and none against it.
    traced: usize,
    /// They are meant, have come since, and run.
    strays: usize,
}

impl Counted {
    fn share(&self, alive: usize, victims: usize) -> Observation {
        let Self { stopped, traced, strays } = *self;
        let seen = alive + strays - traced;
        let measured = (alive > traced).then(|| stopped as f64 / seen as f64 * 100.0);
        let state = match measured {
            None => EffectState::Unknown,
            Some(_) if stopped < seen => EffectState::Mismatch,
            Some(_) if traced > 0 => EffectState::Unknown,
            Some(_) => EffectState::Confirmed,
        };
        let mut notes = Vec::new();
        if victims > alive {
            notes.push(format!("{} of {victims} are gone", victims - alive));
        }
        if traced > 0 {
            notes.push(format!(
                "{traced} of {alive} are held by a tracer, which hides whether they are stopped"
            ));
        }
        if alive > stopped + traced {
            notes.push(format!("{} of {alive} were let go on by somebody else", alive - stopped - traced));
        }
        if strays > 0 {
            notes.push(format!("{strays} more that match have started since and run"));
        }
        Observation {
            asked: Some(100.0),
            measured,
            unit: "percent of the processes".to_owned(),
            state,
            note: (!notes.is_empty()).then(|| notes.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: Value) -> Result<PauseParams, Problems> {
        let parsed = crate::params::parse_params::<PauseParams>(&value)?;
        Pause::validate(&parsed).map(|()| parsed)
    }

    #[test]
    fn nothing_is_never_everything() {
        let problem = check(json!({})).unwrap_err().0.remove(0);
        assert!(problem.allowed.unwrap().contains("port"));
        assert_eq!(check(json!({"pick": "oldest"})).unwrap_err().0[0].path, "params");
    }

    #[test]
    fn each_parameter_is_checked_by_name() {
        assert_eq!(check(json!({"port": 70000})).unwrap_err().0[0].path, "params.port");
        assert_eq!(check(json!({"pid": 0})).unwrap_err().0[0].path, "params.pid");
        assert_eq!(check(json!({"pid": 1})).unwrap_err().0[0].path, "params.pid");
        assert_eq!(check(json!({"pattern": "("})).unwrap_err().0[0].path, "params.pattern");
        assert_eq!(check(json!({"group": "/"})).unwrap_err().0[0].path, "params.group");
        assert_eq!(check(json!({"name": ""})).unwrap_err().0[0].path, "params.name");
        assert_eq!(check(json!({"name": "x", "pick": "first"})).unwrap_err().0[0].path, "params.pick");
        assert_eq!(check(json!({"nmae": "x"})).unwrap_err().0[0].path, "params.nmae");
    }

    /// Of `alive` processes, of which none is held by a tracer.
    fn share(stopped: usize, alive: usize, victims: usize, strays: usize) -> Observation {
        let counted = Counted {
            stopped,
            traced: 0,
            strays,
        };
        counted.share(alive, victims)
    }

    #[test]
    fn one_that_a_tracer_holds_is_no_evidence() {
        let traced = |stopped, alive| {
            Counted {
                stopped,
                traced: 1,
                strays: 0,
            }
            .share(alive, alive)
        };
        assert_eq!((traced(0, 1).state, traced(0, 1).measured), (EffectState::Unknown, None));
        assert_eq!(traced(1, 2).state, EffectState::Unknown);
        assert!(traced(1, 2).note.unwrap().starts_with("1 of 2 are held by a tracer"));
        // Another one that runs is evidence all the same.
        assert_eq!(traced(1, 3).state, EffectState::Mismatch);
        assert!(traced(1, 3).note.unwrap().ends_with("1 of 3 were let go on by somebody else"));
    }

    #[test]
    fn all_that_are_left_must_be_stopped() {
        assert_eq!(share(2, 2, 2, 0).state, EffectState::Confirmed);
        assert_eq!(share(1, 1, 2, 0).note.as_deref(), Some("1 of 2 are gone"));
        let resumed = share(1, 2, 2, 0);
        assert_eq!((resumed.state, resumed.measured), (EffectState::Mismatch, Some(50.0)));
        assert_eq!(share(0, 0, 2, 0).state, EffectState::Unknown);
    }

    #[test]
    fn those_that_came_later_and_run_are_counted() {
        let strays = share(3, 3, 3, 1);
        assert_eq!((strays.state, strays.measured), (EffectState::Mismatch, Some(75.0)));
        assert_eq!(strays.note.as_deref(), Some("1 more that match have started since and run"));
    }

    #[test]
    fn what_an_older_version_recorded_is_read() {
        let old = json!({"victims": [], "freezer": null, "left_out": []});
        assert_eq!(serde_json::from_value::<PauseEffect>(old).unwrap().matching, None);
    }
}
