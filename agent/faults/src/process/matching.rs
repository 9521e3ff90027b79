//! Which processes a fault means: the matchers all kinds of this family share; it chooses, and touches nothing.

use agent_levers::Victim;
use agent_view::{HostView, KERNEL_NAME, Process, ProcessState};
use proto_model::catalogue::nearest;
use proto_model::problem::{Problem, Problems, Refusal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::pick::Pick;
use crate::claim::Claim;
use crate::fault::Scene;
use crate::unit::{SystemUnits, in_group, real_name};

/// The program file of the command by which operators ask for faults. A process is not known by its name: any user could protect
/// what starts it by calling something else so.
const OPERATORS_COMMAND: &str = "fracas";

/// The interpreter and an option of it, as in `#!/usr/bin/python3 -u`, and the script itself.
const WORDS_BEFORE_A_SCRIPT: usize = 3;

/// Who is meant. Several matchers together mean the processes that fit all of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Matching {
    /// Every process of this systemd unit, such as `nginx.service` (`.service` may be left out).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Every process of this control group and those below it, as a path such as `/system.slice/nginx.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The program file, exactly, such as `/usr/sbin/nginx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The process's name, exactly, such as `redis-server`. One of more than 15 bytes is the file name of the program or script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A regular expression found anywhere in the first 4 KiB of the command line, whose arguments are joined by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The user it runs as, by name or number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The process that listens on this TCP or UDP port, 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// One process by its number, 1 or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pid: Option<u32>,
    /// Which of those that fit: `all`, `oldest`, `newest`, `random` or `random:N` (chosen by the run's seed). Default all.
    #[serde(default)]
    pub pick: Pick,
    /// Their descendants too. Default false.
    #[serde(default)]
    pub children: bool,
}

/// The processes that are meant, and those that may be.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    pub processes: Vec<Process>,
    /// Those that could not be read, and might be meant or protected by what was not read.
    pub left_alone: Vec<LeftAlone>,
}

#[derive(Debug)]
pub(super) struct LeftAlone {
    pub process: Process,
    why: String,
}

impl Chosen {
    fn leaves(&self, process: &Process) -> bool {
        self.left_alone
            .iter()
            .any(|left| process.is(left.process.pid, left.process.start_time))
    }

    /// A line for each that is left alone.
    pub(super) fn left_out(&self) -> Vec<String> {
        let line = |left: &LeftAlone| format!("{} is left alone: {}", left.process, left.why);
        self.left_alone.iter().map(line).collect()
    }
}

/// Whether a process fits; of two answers the smaller one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    No,
    /// What would say so could not be read.
    Unknown,
    Yes,
}

/// The names of the matchers, for messages.
const MATCHERS: &str = "unit, group, exe, name, pattern, user, port, pid";

impl Matching {
    pub(super) fn validate(&self, problems: &mut Problems) {
        if self.written().is_empty() {
            problems.push(Problem::new("params", "says which processes by nothing").allowed(format!("at least one of {MATCHERS}")));
        }
        if let Some(pattern) = &self.pattern
            && let Err(error) = regex_lite::Regex::new(pattern)
        {
            problems.push(Problem::new("params.pattern", format!("is not a regular expression: {error}")));
        }
        if self
            .group
            .as_ref()
            .is_some_and(|group| !group.starts_with('/') || group.trim_matches('/').is_empty())
        {
            problems
                .push(Problem::new("params.group", "is not a group below the root").allowed("a path such as /system.slice/nginx.service"));
        }
        let texts = [
            ("unit", &self.unit),
            ("exe", &self.exe),
            ("name", &self.name),
            ("pattern", &self.pattern),
            ("user", &self.user),
        ];
        for (key, _) in texts.iter().filter(|(_, text)| text.as_ref().is_some_and(String::is_empty)) {
            problems.push(Problem::new(format!("params.{key}"), "is empty"));
        }
    }

    /// Two injections that mean the same processes are in each other's way.
    pub(super) fn claim(&self) -> Claim {
        Claim(format!("the processes with {self}"))
    }

    /// Every living process that fits, before picking.
    fn matched(&self, processes: &[Process], view: &dyn HostView) -> Result<Chosen, Refusal> {
        let pattern = self.pattern.as_deref().map(regex_lite::Regex::new).transpose();
        let pattern = pattern.map_err(|e| Refusal::new("invalid_params", "params.pattern", e.to_string()))?;
        let listeners: Option<BTreeSet<u32>> = match self.port {
            None => None,
            Some(port) => {
                let all = view.listeners().map_err(|e| unreadable("params.port", &e))?;
                Some(all.into_iter().filter(|l| l.port == port).map(|l| l.pid).collect())
            }
        };
        let unit = self.unit.as_deref().map(|unit| real_name(unit, view));
        let units = SystemUnits::of(processes);
        let fits = |p: &&Process| {
            !matches!(p.state, ProcessState::Zombie | ProcessState::Dead)
                && unit.as_deref().is_none_or(|unit| units.holds(unit, p))
                && self.group.as_deref().is_none_or(|group| in_group(p, group))
                && self.exe.as_deref().is_none_or(|exe| runs_file(p, exe))
                && self
                    .user
                    .as_deref()
                    .is_none_or(|user| p.user.as_deref() == Some(user) || p.uid.to_string() == user)
                && listeners.as_ref().is_none_or(|pids| pids.contains(&p.pid))
                && self.pid.is_none_or(|pid| p.pid == pid)
        };
        let mut matched = Chosen::default();
        for process in processes.iter().filter(fits) {
            match self.fits_by_words(process, pattern.as_ref()) {
                Fit::No => {}
                Fit::Yes => matched.processes.push(process.clone()),
                Fit::Unknown => matched.left_alone.push(LeftAlone {
                    process: process.clone(),
                    why: format!(
                        "whether it is meant is not known: {}",
                        process.unread.as_deref().unwrap_or_default()
                    ),
                }),
            }
        }
        Ok(self.without_operators(matched, processes))
    }

    /// By its name and its command line.
    fn fits_by_words(&self, process: &Process, pattern: Option<&regex_lite::Regex>) -> Fit {
        let unread = process.unread.is_some();
        let by_name = |name: &str| match has_name(process, name) {
            true => Fit::Yes,
            false if unread && begins_like(process, name) => Fit::Unknown,
            false => Fit::No,
        };
        let by_pattern = |regex: &regex_lite::Regex| match regex.is_match(&process.command_line.join(" ")) {
            _ if unread => Fit::Unknown,
            true => Fit::Yes,
            false => Fit::No,
        };
        let name = self.name.as_deref().map_or(Fit::Yes, by_name);
        name.min(pattern.map_or(Fit::Yes, by_pattern))
    }

    /// Whoever asks for faults on the host itself is never among those that fit, although the words that are looked for stand in his
    /// command: the command would end or stop itself, or what waits for it. By its number it is refused as protected.
    fn without_operators(&self, matched: Chosen, processes: &[Process]) -> Chosen {
        if self.pid.is_some() {
            return matched;
        }
        let (asking, may_ask) = (operators(processes), possible_operators(processes));
        let Chosen { processes, mut left_alone } = matched;
        left_alone.retain(|left| !asking.contains(&left.process.pid));
        let mut others = Vec::with_capacity(processes.len());
        for process in processes.into_iter().filter(|process| !asking.contains(&process.pid)) {
            match may_ask.get(&process.pid) {
                None => others.push(process),
                Some(why) => left_alone.push(LeftAlone { process, why: why.clone() }),
            }
        }
        Chosen {
            processes: others,
            left_alone,
        }
    }

    /// The processes meant, in the order of their age; refused when there is none, or when one of them is protected.
    pub(super) fn choose(&self, scene: &Scene<'_>) -> Result<Chosen, Refusal> {
        let processes = scene.view.processes().map_err(|e| unreadable("params", &e))?;
        if let Some(pid) = self.pid.filter(|pid| operators(&processes).contains(pid)) {
            let text = format!("pid {pid} is protected: a command that asks for faults descends from it");
            return Err(Refusal::new("protected", "params.pid", text));
        }
        if let Some((pid, why)) = self.pid.and_then(|pid| Some((pid, possible_operators(&processes).remove(&pid)?))) {
            return Err(Refusal::new("protected", "params.pid", format!("pid {pid} is left alone: {why}")));
        }
        let mut matched = self.matched(&processes, scene.view)?;
        let mut chosen = self.pick.of(std::mem::take(&mut matched.processes), scene.seed);
        if chosen.is_empty() {
            return Err(self.nobody(&processes, &matched));
        }
        if self.children {
            chosen = with_descendants(chosen, &processes);
        }
        chosen.retain(|process| !matched.leaves(process));
        chosen.sort_by_key(|p| (p.start_time, p.pid));
        let mut spared = Self::without_protected(chosen, scene)?;
        if spared.processes.is_empty() {
            return Err(Refusal::new("protected", "params", spared.left_out().join("; ")));
        }
        spared.left_alone.append(&mut matched.left_alone);
        Ok(spared)
    }

    /// With what may have been meant.
    fn nobody(&self, processes: &[Process], matched: &Chosen) -> Refusal {
        let related = |unit| SystemUnits::of(processes).related(processes, unit);
        let units = self.unit.as_deref().map(related).unwrap_or_default();
        let others = |name: &&str| processes.iter().all(|p| p.name != **name);
        let name = self.name.as_deref().filter(others);
        let near = name.and_then(|name| nearest(name, processes.iter().map(|p| p.name.as_str())));
        let hint = match (units.is_empty(), near) {
            (false, _) => format!("; running: {}", units.join(", ")),
            (true, Some(near)) => format!("; did you mean {near}?"),
            (true, None) => String::new(),
        };
        let left_out: String = matched.left_out().iter().map(|line| format!("; {line}")).collect();
        Refusal::new("no_match", "params", format!("no process on this host has {self}{hint}{left_out}"))
    }

    /// Those that are meant as well although they were not there at the first look: where all are picked whoever fits, and the
    /// descendants of `known`. Whoever was picked stays picked, and whoever is `spared` stays so.
    pub(super) fn newcomers(&self, known: &[Victim], spared: &[Victim], view: &dyn HostView) -> Result<Vec<Process>, Refusal> {
        let processes = view.processes().map_err(|e| unreadable("params", &e))?;
        let is_of = |p: &Process, of: &[Victim]| of.iter().any(|victim| p.is(victim.pid, victim.start_time));
        let is_known = |p: &Process| is_of(p, known);
        let mut matched = match self.pick {
            Pick::All => self.matched(&processes, view)?,
            _ => Chosen::default(),
        };
        let mut meant = std::mem::take(&mut matched.processes);
        if self.children {
            meant.extend(processes.iter().filter(|p| is_known(p)).cloned());
            meant = with_descendants(meant, &processes);
        }
        meant.retain(|p| !is_known(p) && !is_of(p, spared) && !matched.leaves(p));
        meant.sort_by_key(|p| (p.start_time, p.pid));
        Ok(meant)
    }

    /// Refused when one of them is protected; one that could not be read, and is or may be, is left alone.
    pub(super) fn without_protected(chosen: Vec<Process>, scene: &Scene<'_>) -> Result<Chosen, Refusal> {
        let mut unprotected = Chosen::default();
        for process in chosen {
            match scene.protection.process(&process) {
                None => unprotected.processes.push(process),
                Some(why) if process.unread.is_some() => unprotected.left_alone.push(LeftAlone { process, why }),
                Some(why) => return Err(Refusal::new("protected", "params", format!("{process} is protected: {why}"))),
            }
        }
        Ok(unprotected)
    }

    /// Commands that are not installed are known by no more than their name, and are chosen as any other process is.
    pub(super) fn warnings(chosen: &[Process]) -> Vec<String> {
        let may_be_asking = |process: &&Process| process.name == OPERATORS_COMMAND && !process.runs_installed(OPERATORS_COMMAND);
        let warn = |process: &Process| {
            let hit = "if it requests this fault, the fault hits it too";
            format!(
                "{process} is no installed {OPERATORS_COMMAND}: {hit} (fix: request it by one that is installed, such as /usr/bin/fracas)"
            )
        };
        chosen.iter().filter(may_be_asking).map(warn).collect()
    }

    /// True when the match is one whole unit or group and nothing narrower, so that its freezer means the same processes.
    pub(super) fn is_whole_group(&self) -> bool {
        let narrower = self.exe.is_some() || self.name.is_some() || self.pattern.is_some() || self.user.is_some();
        let one = self.unit.is_some() != self.group.is_some();
        one && !narrower && self.port.is_none() && self.pid.is_none() && self.pick == Pick::All
    }

    fn written(&self) -> Vec<String> {
        let text = |key: &str, value: &Option<String>| value.as_ref().map(|v| format!("{key} {v}"));
        let parts = [
            text("unit", &self.unit),
            text("group", &self.group),
            text("exe", &self.exe),
            text("name", &self.name),
            text("pattern", &self.pattern),
            text("user", &self.user),
            self.port.map(|p| format!("port {p}")),
            self.pid.map(|p| format!("pid {p}")),
        ];
        parts.into_iter().flatten().collect()
    }
}

impl fmt::Display for Matching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written().join(" and "))
    }
}

fn unreadable(path: &str, error: &agent_view::ViewError) -> Refusal {
    Refusal::new(
        "unsupported",
        path,
        format!("the host's processes cannot be read: {error}: {}", error.source),
    )
}

fn runs_file(process: &Process, exe: &str) -> bool {
    process
        .exe
        .as_deref()
        .is_some_and(|file| file.strip_suffix(" (deleted)").unwrap_or(file) == exe)
}

/// The kernel cuts names, also in the middle of a letter; a longer one is compared by its beginning and by the file name of the
/// program, or of the script that it runs.
fn has_name(process: &Process, name: &str) -> bool {
    if name.len() <= KERNEL_NAME {
        return process.name == name;
    }
    let file = |path: &str| {
        path.rsplit('/')
            .next()
            .is_some_and(|file| file.strip_suffix(" (deleted)").unwrap_or(file) == name)
    };
    let mut words = process.command_line.iter().take(WORDS_BEFORE_A_SCRIPT).map(String::as_str);
    begins_like(process, name) && (process.exe.as_deref().is_some_and(file) || words.any(file))
}

/// All that the kernel knows of a name that it has to cut.
fn begins_like(process: &Process, name: &str) -> bool {
    name.len() > KERNEL_NAME && name.starts_with(process.name.trim_end_matches(char::REPLACEMENT_CHARACTER))
}

/// The operators' commands that run here, and what each descends from, but for the init process.
fn operators(processes: &[Process]) -> BTreeSet<u32> {
    let commands = processes.iter().filter(|p| p.runs_installed(OPERATORS_COMMAND));
    with_ancestors(commands, processes)
}

/// The same of those of which that could not be read, with the reason.
fn possible_operators(processes: &[Process]) -> BTreeMap<u32, String> {
    let mut found = BTreeMap::new();
    for command in processes.iter().filter(|p| p.may_run_installed(OPERATORS_COMMAND)) {
        let unread = command.unread.as_deref().unwrap_or_default();
        let why = format!("{command} may be a command that asks for faults, which would hit it: {unread}");
        let pids = with_ancestors(std::iter::once(command), processes);
        found.extend(pids.into_iter().map(|pid| (pid, why.clone())));
    }
    found
}

fn with_ancestors<'a>(commands: impl Iterator<Item = &'a Process>, processes: &[Process]) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> = processes.iter().map(|p| (p.pid, p.parent)).collect();
    let mut found = BTreeSet::new();
    for command in commands {
        let mut pid = command.pid;
        while pid > 1 && found.insert(pid) {
            pid = parents.get(&pid).copied().unwrap_or(0);
        }
    }
    found
}

fn with_descendants(chosen: Vec<Process>, all: &[Process]) -> Vec<Process> {
    let mut found: BTreeMap<u32, Process> = chosen.into_iter().map(|p| (p.pid, p)).collect();
    loop {
        let living = |p: &&Process| !matches!(p.state, ProcessState::Zombie | ProcessState::Dead);
        let more: Vec<&Process> = all
            .iter()
            .filter(living)
            .filter(|p| found.contains_key(&p.parent) && !found.contains_key(&p.pid))
            .collect();
        if more.is_empty() {
            return found.into_values().collect();
        }
        found.extend(more.into_iter().map(|p| (p.pid, p.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, name: &str) -> Process {
        Process {
            pid,
            start_time: u64::from(pid) * 10,
            parent: 1,
            name: name.to_owned(),
            exe: Some(format!("/usr/bin/{name}")),
            command_line: vec![name.to_owned(), "--port".to_owned(), pid.to_string()],
            uid: 1000,
            real_uid: 1000,
            saved_uid: 1000,
            user: Some("app".to_owned()),
            state: ProcessState::Sleeping,
            our_program: false,
            installed_program: false,
            kernel_thread: false,
            groups: vec![format!("/system.slice/{name}.service/inner"), "/".to_owned()],
            unified: None,
            unread: None,
        }
    }

    #[test]
    fn names_are_exact_also_beyond_what_the_kernel_keeps() {
        assert!(has_name(&process(5, "redis-server"), "redis-server"));
        assert!(!has_name(&process(5, "redis-server"), "redis"));
        let mut long = process(5, "a-very-long-program-name");
        long.name.truncate(KERNEL_NAME);
        assert!(has_name(&long, "a-very-long-program-name"));
        assert!(!has_name(&long, "a-very-long-program-game"));
    }

    #[test]
    fn a_script_and_a_name_that_is_cut_in_a_letter_are_found() {
        let mut script = process(5, "order-processin");
        script.exe = Some("/usr/bin/python3.11".into());
        script.command_line = ["/usr/bin/python3", "-u", "/srv/order-processing.py", "order-processing-x"]
            .map(str::to_owned)
            .to_vec();
        assert!(has_name(&script, "order-processing.py"));
        assert!(!has_name(&script, "order-processing-x") && !has_name(&script, "order-processing"));
        let mut cut = process(5, "x");
        // What is read of 15 bytes that end in the middle of a letter.
        cut.name = String::from_utf8_lossy(&"bestellungenx-äpfel".as_bytes()[..15]).into_owned();
        cut.exe = Some("/usr/bin/bestellungenx-äpfel".into());
        assert!(cut.name.ends_with(char::REPLACEMENT_CHARACTER), "{}", cut.name);
        assert!(has_name(&cut, "bestellungenx-äpfel") && !has_name(&cut, "bestellungenx-öpfel"));
    }

    #[test]
    fn descendants_are_found_to_any_depth() {
        let mut tree: Vec<Process> = (2..=5).map(|pid| process(pid, "x")).collect();
        (tree[1].parent, tree[2].parent) = (2, 3);
        let found = with_descendants(vec![tree[0].clone()], &tree);
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), vec![2, 3, 4]);
    }
}
