//! The unit or group that a network fault is narrowed to, found on this host and followed when it is made anew; it acts on nothing.

use std::collections::BTreeSet;

use agent_levers::{Direction, Protocol, SocketGroups};
use agent_view::{Feature, HostView, Process, ProcessState, UnifiedGroup, ViewError};
use proto_model::problem::{Problem, Problems, Refusal};
use serde::{Deserialize, Serialize};

use crate::ability::refuse_at_without;
use crate::fault::{GroupSeen, Scene};
use crate::unit::{SystemUnits, full_name, is_group_path, is_within, real_name};

/// What telling packets apart by group stands on.
pub(super) const NEEDS: &[Feature] = &[Feature::SocketGroups];
/// Earlier groups at the same path that are still meant: a socket may outlive the group that it was made in.
const MOST_IDS: usize = 16;
/// The init process, which holds the sockets of units that it starts when somebody connects.
const INIT: u32 = 1;

/// One group (cgroup v2), at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CgroupScope {
    /// As people know it.
    name: String,
    path: String,
    level: u32,
    /// The kernel's numbers for it, the newest last.
    ids: Vec<u64>,
    /// How often it was made anew since the fault began.
    restarts: u32,
    /// How long a group that was made anew may have gone without its fault, at most.
    unnoticed_ms: u64,
    is_there: bool,
    /// Why it could not be looked at the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// The unit or group that the parameters name.
#[derive(Clone, Copy)]
pub(super) enum CgroupSelector<'a> {
    Unit(&'a str),
    Group(&'a str),
}

impl<'a> CgroupSelector<'a> {
    /// `None` when neither is named.
    pub fn of(unit: Option<&'a str>, group: Option<&'a str>) -> Option<Self> {
        unit.map(Self::Unit).or(group.map(Self::Group))
    }

    fn path(self) -> &'static str {
        match self {
            Self::Unit(_) => "params.unit",
            Self::Group(_) => "params.group",
        }
    }

    fn name(self) -> String {
        match self {
            Self::Unit(unit) => full_name(unit).into_owned(),
            Self::Group(group) => group.trim_end_matches('/').to_owned(),
        }
    }

    /// The unit behind a name that may be an alias.
    fn real_unit(self, view: &dyn HostView) -> Option<String> {
        match self {
            Self::Unit(unit) => Some(real_name(unit, view)),
            Self::Group(_) => None,
        }
    }

    /// The same, with its unit's real name.
    fn of_real(self, unit: Option<&'a str>) -> Self {
        unit.map_or(self, Self::Unit)
    }

    fn no_match(self, message: String) -> Refusal {
        Refusal::new("no_match", self.path(), message)
    }

    fn unreadable(self, error: &ViewError) -> Refusal {
        Refusal::new("unreadable", self.path(), format!("{error}: {}", error.source))
    }

    /// Where it is in the unified hierarchy, by the processes that are in it.
    fn find(self, processes: &[Process]) -> Result<String, Refusal> {
        let name = self.name();
        let unit = match self {
            Self::Group(_) if processes.iter().any(|process| is_in(process, &name)) => return Ok(name),
            Self::Group(_) => return Err(self.no_match(format!("no process on this host is in the group {name} of cgroup v2"))),
            Self::Unit(unit) => unit,
        };
        let units = SystemUnits::of(processes);
        let of_unit: Vec<&Process> = processes.iter().filter(|process| units.holds(unit, process)).collect();
        if of_unit.is_empty() {
            let related = units.related(processes, unit);
            let hint = match related.is_empty() {
                true => format!("(fix: systemctl start {name})"),
                false => format!("(running: {})", related.join(", ")),
            };
            return Err(self.no_match(format!("{name} does not run on this host: no process is in it {hint}")));
        }
        let paths = of_unit
            .iter()
            .filter_map(|process| units.group_of(unit, process.unified.as_deref()?));
        let paths: Vec<&str> = paths.collect::<BTreeSet<&str>>().into_iter().collect();
        match paths.as_slice() {
            [path] => Ok((*path).to_owned()),
            [] => Err(Refusal::new(
                "unsupported",
                self.path(),
                format!(
                    "{name} has no group in the unified hierarchy (cgroup v2), the only one that the kernel tells packets apart by (fix: boot with systemd.unified_cgroup_hierarchy=1)"
                ),
            )),
            _ => Err(self
                .no_match(format!("{name} is the name of several units; name one by its params.group"))
                .allowed(paths.join(", "))),
        }
    }
}

fn is_in(process: &Process, group: &str) -> bool {
    process.unified.as_deref().is_some_and(|path| is_within(path, group))
}

fn living(view: &dyn HostView) -> Result<Vec<Process>, ViewError> {
    let is_dead = |process: &Process| matches!(process.state, ProcessState::Zombie | ProcessState::Dead);
    let mut processes = view.processes()?;
    processes.retain(|process| !is_dead(process));
    Ok(processes)
}

pub(super) fn validate(unit: Option<&str>, group: Option<&str>, problems: &mut Problems) {
    if unit.is_some() && group.is_some() {
        problems.push(Problem::new("params.group", "is given beside a unit").allowed("one of unit and group, or neither"));
    }
    if unit.is_some_and(|unit| unit.is_empty() || unit.contains('/')) {
        problems.push(Problem::new("params.unit", "is not the name of a unit").allowed("a name such as nginx.service"));
    }
    if group.is_some_and(|group| !is_group_path(group)) {
        let problem = Problem::new("params.group", "is not a group below the root");
        problems.push(problem.allowed("a path such as /system.slice/nginx.service"));
    }
}

/// The path of the group that is meant, where that is known: none is also what is in doubt.
pub(super) fn path_here(selector: CgroupSelector<'_>, view: &dyn HostView) -> Option<String> {
    let unit = selector.real_unit(view);
    selector.of_real(unit.as_deref()).find(&living(view).ok()?).ok()
}

pub(super) fn find(selector: CgroupSelector<'_>, view: &dyn HostView) -> Result<CgroupScope, Refusal> {
    refuse_at_without(selector.path(), view, NEEDS)?;
    let unit = selector.real_unit(view);
    let selector = selector.of_real(unit.as_deref());
    let processes = living(view).map_err(|error| selector.unreadable(&error))?;
    let path = selector.find(&processes)?;
    let seen = view.unified_group(&path).map_err(|error| selector.unreadable(&error))?;
    let seen = seen.ok_or_else(|| selector.no_match(format!("{path} is not there in the unified hierarchy (cgroup v2) of this host")))?;
    Ok(CgroupScope {
        name: selector.name(),
        path,
        level: seen.level,
        ids: vec![seen.id],
        restarts: 0,
        unnoticed_ms: 0,
        is_there: true,
        problem: None,
    })
}

/// Refuses a group with a protected process in it, and tells of packets that are its own only in the eyes of people.
pub(super) fn check(
    selector: CgroupSelector<'_>,
    scope: &CgroupScope,
    protocol: Option<Protocol>,
    direction: Direction,
    scene: &Scene<'_>,
) -> Result<Vec<String>, Refusal> {
    let mut members = living(scene.view).map_err(|error| selector.unreadable(&error))?;
    members.retain(|process| is_in(process, &scope.path));
    for process in &members {
        if let Some(why) = scene.protection.process(process) {
            let message = format!("{process} of {} is protected: {why}", scope.name);
            return Err(Refusal::new("protected", selector.path(), message));
        }
    }
    let mut warnings = handed_over(scope, &members, scene.view);
    warnings.extend(without_socket(protocol, direction).map(str::to_owned));
    Ok(warnings)
}

/// What the kernel knows no whole socket of.
fn without_socket(protocol: Option<Protocol>, direction: Direction) -> impl Iterator<Item = &'static str> {
    let icmp = direction.covers_in() && matches!(protocol, None | Some(Protocol::Icmp));
    let icmp = icmp.then_some("icmp that comes in carries no sign of whose it is: answers to pings of a unit or group come through");
    let opening = direction == Direction::Out && matches!(protocol, None | Some(Protocol::Tcp));
    let opening = opening.then_some(
        "the kernel's first answer to a connection from outside (SYN-ACK) is nobody's yet and comes through: such connections open, and only then meet the fault",
    );
    icmp.into_iter().chain(opening)
}

/// Listening sockets belong to who made them, and so do connections that they accept.
fn handed_over(scope: &CgroupScope, members: &[Process], view: &dyn HostView) -> Vec<String> {
    let listeners = view.listeners().unwrap_or_default();
    let held_by = |pid: u32| listeners.iter().filter(move |listener| listener.pid == pid);
    let of_init: BTreeSet<u16> = held_by(INIT).map(|listener| listener.port).collect();
    let ports: BTreeSet<u16> = members
        .iter()
        .flat_map(|member| held_by(member.pid))
        .map(|held| held.port)
        .collect();
    let told = |port: &u16| {
        format!(
            "port {port} of {} was opened by the init process (socket activation): connections to it are not the unit's for the kernel, and are left alone",
            scope.name
        )
    };
    ports.intersection(&of_init).map(told).collect()
}

impl CgroupScope {
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn in_words(&self) -> String {
        if self.name == self.path {
            format!("of the group {}", self.path)
        } else {
            format!("of {} ({})", self.name, self.path)
        }
    }

    /// What the levers are given.
    pub fn groups(&self) -> SocketGroups {
        SocketGroups {
            level: self.level,
            ids: self.ids.clone(),
        }
    }

    /// The same after a new look.
    pub fn follow(&mut self, seen: &GroupSeen) {
        let now: Option<UnifiedGroup> = match &seen.now {
            Ok(now) => *now,
            Err(why) => {
                self.problem = Some(why.clone());
                return;
            }
        };
        self.problem = None;
        self.is_there = now.is_some();
        let Some(anew) = now.filter(|now| self.ids.last() != Some(&now.id)) else {
            return;
        };
        self.restarts += 1;
        self.unnoticed_ms = self.unnoticed_ms.max(seen.since_ms);
        self.ids.push(anew.id);
        let oldest = self.ids.len().saturating_sub(MOST_IDS);
        self.ids.drain(..oldest);
    }

    /// What a person should know of one that did not stay as it was.
    pub fn gaps(&self) -> impl Iterator<Item = String> {
        let anew = (self.restarts > 0).then(|| {
            format!(
                "{} was made anew {} times, and its packets came through for up to {} ms until that was noticed",
                self.name, self.restarts, self.unnoticed_ms
            )
        });
        let gone = (!self.is_there).then(|| format!("{} does not run now", self.name));
        let unseen = self.problem.as_ref().map(|why| format!("{why}; its group from before is kept"));
        [anew, gone, unseen].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(now: Result<Option<u64>, String>, since_ms: u64) -> GroupSeen {
        let now = now.map(|id| id.map(|id| UnifiedGroup { id, level: 2 }));
        GroupSeen { now, since_ms }
    }

    fn nginx() -> CgroupScope {
        CgroupScope {
            name: "nginx.service".to_owned(),
            path: "/system.slice/nginx.service".to_owned(),
            level: 2,
            ids: vec![7],
            restarts: 0,
            unnoticed_ms: 0,
            is_there: true,
            problem: None,
        }
    }

    fn gaps(scope: &CgroupScope) -> String {
        scope.gaps().collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_group_made_anew_is_meant_beside_those_before_it_and_the_longest_gap_is_named() {
        let mut scope = nginx();
        scope.follow(&seen(Ok(Some(7)), 250));
        assert_eq!((scope.ids.as_slice(), gaps(&scope).as_str()), ([7].as_slice(), ""));
        scope.follow(&seen(Ok(None), 250));
        assert_eq!(
            (scope.ids.as_slice(), gaps(&scope).as_str()),
            ([7].as_slice(), "nginx.service does not run now")
        );
        scope.follow(&seen(Ok(Some(8)), 240));
        scope.follow(&seen(Ok(Some(9)), 100));
        assert_eq!(scope.ids, [7, 8, 9]);
        assert!(gaps(&scope).contains("anew 2 times") && gaps(&scope).ends_with("for up to 240 ms until that was noticed"));
        (10..100).for_each(|id| scope.follow(&seen(Ok(Some(id)), 1)));
        assert_eq!(
            (scope.ids.len(), scope.ids.last()),
            (MOST_IDS, Some(&99)),
            "a unit that starts again and again"
        );
    }

    #[test]
    fn a_look_that_fails_changes_nothing_and_is_named_until_one_succeeds() {
        let mut scope = nginx();
        scope.follow(&seen(Err("could not read it".to_owned()), 250));
        assert_eq!(scope.ids, [7]);
        assert_eq!(gaps(&scope), "could not read it; its group from before is kept");
        scope.follow(&seen(Ok(Some(7)), 250));
        assert_eq!(gaps(&scope), "");
    }
}
