//! `disk.fill`: fills a volume with a ballast file of its own; what the host keeps free stays free, and no other file is touched.

use std::fs::File;
use std::path::{Path, PathBuf};

use agent_levers::{Ballast, Levers, WorkerHandle};
use agent_privileges::CapabilitySet;
use agent_view::{Feature, Features, HostView, Volume};
use proto_model::doctor::Ability;
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::{Amount, Bytes, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::target::{Fullness, Goal};
use super::worker::{self, Growth};
use crate::ability::{limited_without, refuse_without};
use crate::claim::Claim;
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};
use crate::work::WorkControl;
use crate::worker::{NEEDS as WORKER, alive as worker_alive};

const MEBI: u64 = 1 << 20;
/// What may be missing of what was asked.
const TOLERANCE: u64 = MEBI;
/// How late a worker's step may be seen.
const STEPS_WITHIN_MS: u64 = 1_000;
/// The agent allocates so much itself, which takes milliseconds; more is a worker's work.
const MOST_AT_ONCE: u64 = 64 << 30;
const COPY_ON_WRITE: [&str; 4] = ["btrfs", "zfs", "bcachefs", "nilfs2"];
const NETWORK: [&str; 8] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "glusterfs", "fuse.glusterfs"];

/// Where, and how full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FillParams {
    /// A folder on the volume to fill, as an absolute path; the file is made there. Not below /boot, /usr and /etc, unless the agent's unit allows it.
    path: PathBuf,
    /// Fill the volume until this percent of it is used, as `df` counts. One of used, amount and free is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<Percent>,
    /// Take this much: a size such as `5GiB`, or a percent of the volume such as `10%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    amount: Option<Amount>,
    /// Fill the volume until only this much is free: a size such as `2GiB`, or a percent of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    free: Option<Amount>,
    /// Grow by this much per second. Default: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<Bytes>,
    /// Stays free whatever is asked. The host's own policy may ask for more, and does by default; where the volume is memory, it keeps memory free too. Default 0B.
    #[serde(default)]
    #[schemars(default)]
    reserve: Bytes,
    /// Kinds of volume that are refused unless they are named here, because others pay for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<Allowed>,
}

/// `tmpfs` is memory; `thin` shares a pool with other volumes; `cow` may need space to give space back; `network` is somebody else's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Allowed {
    Tmpfs,
    Thin,
    Cow,
    Network,
}

impl FillParams {
    fn goals(&self) -> Vec<Goal> {
        let used = self.used.map(Goal::Used);
        let amount = self.amount.map(Goal::Amount);
        used.into_iter().chain(amount).chain(self.free.map(Goal::Free)).collect()
    }

    fn goal(&self) -> Result<Goal, Refusal> {
        let one = self.goals().into_iter().next();
        one.ok_or_else(|| Refusal::new("invalid_params", "params", "one of used, amount and free is required"))
    }
}

/// What was made, and what to hold the volume against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FillEffect {
    folder: PathBuf,
    goal: Goal,
    /// None when the volume was fuller than asked.
    ballast: Option<Ballast>,
    /// Where the file grows slowly.
    worker: Option<WorkerHandle>,
    bytes: u64,
    rate: Option<u64>,
    before: Fullness,
    began_boot_ms: u64,
    noop: bool,
}

pub(super) struct Fill;

impl Fault for Fill {
    const KIND: &'static str = "disk.fill";
    const SUMMARY: &'static str = "fills a volume, with one file of its own";
    const ALIASES: &'static [&'static str] = &["disk full", "disk space", "disk pressure", "no space left", "ENOSPC", "storage"];
    const MEASURED_BY: &'static str = "space used and free as statfs tells it, and what the file takes of it. Confirmed within 1 MiB of asked \
         (used: also within 0.1 % of the volume)";
    const UNDONE_BY: &'static str = "emptying and removing its file wherever somebody moved it on the volume, and nothing else";
    /// To look at the volume from a folder that only root may enter, and to have the blocks that a file system keeps for root.
    const WORKER_KEEPS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::SYS_RESOURCE);
    type Params = FillParams;
    type Effect = FillEffect;

    fn examples() -> Vec<Example<FillParams>> {
        let of = |amount| FillParams {
            path: PathBuf::from("/var/tmp"),
            used: None,
            amount,
            free: None,
            rate: None,
            reserve: Bytes(0),
            allow: Vec::new(),
        };
        vec![
            Example {
                says: "100 MiB of the volume of /var/tmp",
                params: of(Some(Amount::Size(Bytes(100 * MEBI)))),
            },
            Example {
                says: "the volume of /var/tmp filled to 60 percent",
                params: FillParams {
                    used: Some(Percent(60.0)),
                    ..of(None)
                },
            },
            Example {
                says: "64 MiB, growing by 16 MiB a second",
                params: FillParams {
                    rate: Some(Bytes(16 * MEBI)),
                    ..of(Some(Amount::Size(Bytes(64 * MEBI))))
                },
            },
        ]
    }

    fn validate(params: &FillParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if !params.path.is_absolute() {
            problems.push(Problem::new(
                "params.path",
                format!("{} is not an absolute path", params.path.display()),
            ));
        }
        let goals = params.goals();
        if goals.len() != 1 {
            problems.push(Problem::new("params", format!("{} of used, amount and free are given", goals.len())).allowed("exactly one"));
        }
        if params.rate.is_some_and(|Bytes(rate)| rate < MEBI) {
            problems.push(Problem::new("params.rate", "is too slow to be measured").allowed("1MiB.. (per second)"));
        }
        problems.into_result()
    }

    fn claims(params: &FillParams) -> Vec<Claim> {
        match params.amount {
            // Two amounts on one volume add up.
            Some(_) => Vec::new(),
            None => vec![Claim(format!("how full the volume of {} is", params.path.display()))],
        }
    }

    /// By the volume, which one path names as well as another.
    fn claims_here(params: &FillParams, view: &dyn HostView) -> Vec<Claim> {
        let mut claims = Self::claims(params);
        if let (Some(claim), Ok(Some(volume))) = (claims.first_mut(), view.volume(&params.path)) {
            let (major, minor) = (rustix::fs::major(volume.device), rustix::fs::minor(volume.device));
            *claim = Claim(format!("how full the volume of device {major}:{minor} is"));
        }
        claims
    }

    fn ability(host: &dyn Features) -> Ability {
        let without = [Feature::DacOverride, Feature::DacReadSearch, Feature::SysResource];
        limited_without(limited_without(Ability::yes(), host, &without), host, WORKER)
    }

    fn preflight(params: &FillParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let plan = Plan::make(params, scene)?;
        if plan.is_for_a_worker(params) {
            refuse_without(scene.view, WORKER)?;
        }
        let Plan { volume, bytes, .. } = &plan;
        let (point, kind) = (volume.mount_point.display(), &volume.kind);
        let mut preflight = Preflight {
            touches: vec![format!(
                "{} of {point} ({kind}), in a file in {}",
                show(*bytes),
                volume.path.display()
            )],
            ..Preflight::default()
        };
        if *bytes == 0 {
            preflight
                .warnings
                .push(format!("{point} is {:.1} % full already: nothing is taken", volume.percent_used()));
        }
        if let Some(memory) = &plan.memory {
            preflight.warnings.push(memory.warns(&volume.mount_point));
        } else if !params.allow.is_empty() {
            preflight
                .warnings
                .push(format!("{point} is filled although its space is not its own: allow says so"));
        }
        Ok(preflight)
    }

    fn apply(params: &FillParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<FillEffect, FaultError> {
        let plan = Plan::make(params, scene).map_err(|refusal| FaultError::Other(refusal.to_string()))?;
        let (order, at_once) = (plan.order(params), !plan.is_for_a_worker(params));
        let Plan { goal, volume, bytes, .. } = plan;
        let mut effect = FillEffect {
            goal,
            ballast: None,
            worker: None,
            bytes,
            rate: params.rate.map(|Bytes(rate)| rate),
            before: Fullness {
                used: volume.used,
                available: volume.available,
                ballast: 0,
            },
            began_boot_ms: scene.view.boot_ms(),
            noop: bytes == 0,
            folder: volume.path.clone(),
        };
        if effect.noop {
            return Ok(effect);
        }
        let ballast = levers.make_ballast(&volume.path, &volume)?;
        if !(at_once && levers.grow_ballast(&ballast, bytes)?) {
            effect.worker = Some(levers.start_worker(&order)?);
        }
        effect.ballast = Some(ballast);
        Ok(effect)
    }

    fn observe(effect: &FillEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let now = fullness(effect, view)?;
        let look = Look {
            boot_ms: view.boot_ms(),
            seen: json!(now),
        };
        let Some(before) = before else { return Ok((None, look)) };
        let old: Fullness =
            serde_json::from_value(before.seen.clone()).map_err(|e| FaultError::Other(format!("read the last look: {e}")))?;
        let elapsed_ms = look.boot_ms.saturating_sub(effect.began_boot_ms);
        let due = growth(effect).due(elapsed_ms);
        let writing = effect.rate.is_none() && now.ballast > old.ballast && now.ballast + TOLERANCE < due;
        if writing {
            // A file system that cannot allocate: there is nothing to compare before it is written.
            return Ok((None, look));
        }
        let grew = growth(effect).due(elapsed_ms.saturating_sub(STEPS_WITHIN_MS)) < effect.bytes;
        let step = effect.rate.filter(|_| grew).unwrap_or(0);
        Ok((
            Some(effect.goal.judge(effect.before, now, due, effect.bytes, TOLERANCE + step)),
            look,
        ))
    }

    fn alive(effect: &FillEffect, view: &dyn HostView) -> Result<(), String> {
        if let Some(worker) = &effect.worker {
            worker_alive(worker, view)?;
        }
        let Some(ballast) = &effect.ballast else { return Ok(()) };
        match view.file(&ballast.path) {
            Ok(Some(file)) if Some(file.inode) == ballast.inode && file.device == ballast.device => Ok(()),
            Ok(_) => Err(format!(
                "{} is not there any more: somebody moved or removed it",
                ballast.path.display()
            )),
            // Not to be able to look is not to see that it is gone.
            Err(_) => Ok(()),
        }
    }

    fn worker_file(order: &Value, injection: &InjectionId) -> Result<Option<File>, FaultError> {
        let ballast = Ballast::path_in(&read_order(order)?.folder, injection);
        worker::open(&ballast).map(Some)
    }

    fn work_as_ordered(order: &Value, control: &WorkControl) -> Result<(), FaultError> {
        let order = read_order(order)?;
        worker::grow(&order, &Ballast::path_in(&order.folder, control.injection()), control)
    }
}

fn read_order(order: &Value) -> Result<Growth, FaultError> {
    Growth::deserialize(order).map_err(|e| FaultError::Other(format!("read the order: {e}")))
}

fn growth(effect: &FillEffect) -> Growth {
    Growth {
        folder: effect.folder.clone(),
        bytes: effect.bytes,
        rate: effect.rate,
        reserve: 0,
        memory_reserve: 0,
    }
}

fn fullness(effect: &FillEffect, view: &dyn HostView) -> Result<Fullness, FaultError> {
    let gone = || FaultError::Other(format!("{} is gone", effect.folder.display()));
    view.settle(&effect.folder);
    let volume = view.volume(&effect.folder)?.ok_or_else(gone)?;
    let file = effect
        .ballast
        .as_ref()
        .map(|ballast| view.file(&ballast.path))
        .transpose()?
        .flatten();
    Ok(Fullness {
        used: volume.used,
        available: volume.available,
        ballast: file.map_or(0, |file| file.allocated),
    })
}

/// A wish held against the volume as it is now.
struct Plan {
    goal: Goal,
    volume: Volume,
    bytes: u64,
    reserve: u64,
    /// Where the volume is memory.
    memory: Option<Memory>,
}

/// Memory that a volume takes from everybody.
struct Memory {
    available: u64,
    reserve: u64,
}

impl Memory {
    fn of(volume: &Volume, scene: &Scene<'_>) -> Result<Option<Self>, Refusal> {
        if !volume.is_memory() {
            return Ok(None);
        }
        let failed = |e| Refusal::new("unsupported", "params.path", format!("the host's memory cannot be read: {e}"));
        Ok(Some(Self {
            available: scene.view.memory().map_err(failed)?.available,
            reserve: scene.protection.memory_reserve(),
        }))
    }

    fn room(&self) -> u64 {
        self.available.saturating_sub(self.reserve)
    }

    fn warns(&self, point: &Path) -> String {
        let (point, free, kept) = (point.display(), show(self.available), show(self.reserve));
        format!("{point} is memory: what is taken there is missing to every process ({free} are available, {kept} stay so)")
    }
}

impl Plan {
    fn make(params: &FillParams, scene: &Scene<'_>) -> Result<Self, Refusal> {
        let goal = params.goal()?;
        scene.view.settle(&params.path);
        let volume = volume(&params.path, scene.view)?;
        check_kind(&volume, &params.allow)?;
        if let Some(reason) = scene.protection.path(&volume.path, &volume) {
            let message = format!("{} is protected: {reason}", volume.path.display());
            return Err(Refusal::new("protected", "params.path", message));
        }
        let of_host = scene.protection.disk_reserve(&volume);
        let reserve = of_host.max(params.reserve.0);
        let bytes = goal.needs(&volume);
        let memory = Memory::of(&volume, scene)?;
        let in_memory = memory
            .as_ref()
            .filter(|memory| memory.room() < volume.available.saturating_sub(reserve));
        let (what, free, kept, rule) = match in_memory {
            Some(memory) => (
                "of memory are available",
                memory.available,
                memory.reserve,
                "reserve.memory of this host's agent.toml",
            ),
            None if params.reserve.0 > of_host => ("are free", volume.available, reserve, "the parameter reserve"),
            None => (
                "are free",
                volume.available,
                reserve,
                "reserve.disk and reserve.disk_percent of this host's agent.toml",
            ),
        };
        let room = free.saturating_sub(kept);
        if bytes > room {
            let (needed, over, free, kept) = (show(bytes), show(bytes - room), show(free), show(kept));
            let message = format!(
                "{needed} is {over} too much for {}: {free} {what}, and {kept} must stay free ({rule})",
                volume.path.display()
            );
            return Err(Refusal::new("invalid_params", goal.parameter(), message).allowed(goal.allowed(&volume, room)));
        }
        Ok(Self {
            goal,
            volume,
            bytes,
            reserve,
            memory,
        })
    }

    /// Whether the agent cannot take it at once itself. What memory is taken is a worker's, never the agent's own.
    fn is_for_a_worker(&self, params: &FillParams) -> bool {
        self.bytes > 0 && (params.rate.is_some() || self.bytes > MOST_AT_ONCE || self.volume.is_memory())
    }

    /// What a worker is told.
    fn order(&self, params: &FillParams) -> Growth {
        Growth {
            folder: self.volume.path.clone(),
            bytes: self.bytes,
            rate: params.rate.map(|Bytes(rate)| rate),
            reserve: self.reserve,
            memory_reserve: self.memory.as_ref().map_or(0, |memory| memory.reserve),
        }
    }
}

fn volume(path: &Path, view: &dyn HostView) -> Result<Volume, Refusal> {
    let refuse = |why: String| Refusal::new("invalid_params", "params.path", why);
    let found = view.volume(path).map_err(|e| refuse(format!("{e}: {}", e.source)))?;
    let shown = path.display();
    match found {
        None => Err(refuse(format!("there is no {shown} on this host"))),
        Some(volume) if !volume.is_folder => Err(refuse(format!("{shown} is not a folder"))),
        Some(volume) if volume.read_only => Err(refuse(read_only(&volume, view))),
        Some(volume) if volume.total() == 0 => Err(refuse(format!("{shown} is on no disk ({})", volume.kind))),
        Some(volume) => Ok(volume),
    }
}

/// The units that undo are confined as the agent's is, and could not empty the file.
fn read_only(volume: &Volume, view: &dyn HostView) -> String {
    let (point, path) = (volume.mount_point.display(), volume.path.display());
    if !view.host_may_write(&volume.path) {
        return format!("{point} is mounted read-only");
    }
    format!(
        "{point} is read-only for this agent, not for the host: its unit says so (ProtectSystem=). To allow it: systemctl edit fracas-agent \
         fracas-guard fracas-rescue, in each ReadWritePaths={path} below [Service], then systemctl restart fracas-agent"
    )
}

fn check_kind(volume: &Volume, allow: &[Allowed]) -> Result<(), Refusal> {
    let kind = volume.kind.as_str();
    let found = match kind {
        "tmpfs" | "ramfs" => Some((Allowed::Tmpfs, "tmpfs", "it is memory")),
        _ if NETWORK.contains(&kind) => Some((Allowed::Network, "network", "it is on another machine")),
        _ if COPY_ON_WRITE.contains(&kind) => Some((Allowed::Cow, "cow", "it may need space to give space back")),
        _ if volume.thin => Some((Allowed::Thin, "thin", "it shares a pool with other volumes")),
        _ => None,
    };
    let Some((_, word, why)) = found.filter(|(needed, ..)| !allow.contains(needed)) else {
        return Ok(());
    };
    let point = volume.mount_point.display();
    let message = format!("{point} is {kind}: {why}; allow={word} fills it all the same");
    Err(Refusal::new("protected", "params.path", message))
}

/// In whole mebibytes, rounded down, where there are any.
fn show(bytes: u64) -> Bytes {
    Bytes(if bytes < MEBI { bytes } else { bytes / MEBI * MEBI })
}

#[cfg(test)]
mod tests;
