//! Those who were sent a signal, until they are gone and replaced; looking at them changes nothing.
use agent_levers::Victim;
use agent_view::{HostView, Process, ProcessState, ViewError};
use serde::{Deserialize, Serialize};

/// How often the whole host is looked at while somebody is watched.
const LOOK_EVERY_MS: u64 = 1_000;
/// How long one that got no grace may take to end before it counts as still there.
const ENDS_WITHIN_MS: u64 = 3_000;
/// How long after its KILL one may be seen ending.
const DIES_WITHIN_MS: u64 = 1_000;
/// A process's start time is counted in hundredths of a second.
const TICK_MS: u64 = 10;

/// One that was sent a signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Killed {
    pid: u32,
    start_time: u64,
    name: String,
    exe: Option<String>,
    uid: u32,
    groups: Vec<String>,
    signalled_ms: u64,
    /// When KILL follows.
    kill_at_ms: Option<u64>,
    killed_ms: Option<u64>,
    gone: bool,
}

impl Killed {
    pub(super) fn new(process: Process, signalled_ms: u64, kill_at_ms: Option<u64>) -> Self {
        Self {
            pid: process.pid,
            start_time: process.start_time,
            name: process.name,
            exe: process.exe,
            uid: process.uid,
            groups: process.groups,
            signalled_ms,
            kill_at_ms,
            killed_ms: None,
            gone: false,
        }
    }

    fn is(&self, process: &Process) -> bool {
        process.is(self.pid, self.start_time)
    }

    /// True while it would be no surprise to see it.
    pub(super) fn may_be_ending(&self, now_ms: u64) -> bool {
        match (self.kill_at_ms, self.killed_ms) {
            (Some(_), None) => true,
            (_, Some(killed)) => now_ms < killed + DIES_WITHIN_MS,
            (None, None) => now_ms < self.signalled_ms + ENDS_WITHIN_MS,
        }
    }

    /// Who stands in its place: the same program of the same user in the same group, started since.
    fn is_replaced_by(&self, process: &Process) -> bool {
        let same = process.name == self.name && process.exe == self.exe && process.uid == self.uid && process.groups == self.groups;
        same && lives(process.state) && process.start_time > self.start_time && started_ms(process) + TICK_MS > self.signalled_ms
    }
}

/// Everybody who is watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Watch {
    killed: Vec<Killed>,
    next_look_ms: u64,
    /// Processes told as replacements already.
    taken: Vec<(u32, u64)>,
}

impl Watch {
    pub(super) fn add(&mut self, killed: Killed) {
        self.next_look_ms = killed.signalled_ms + LOOK_EVERY_MS;
        self.killed.push(killed);
    }

    pub(super) fn knows(&self, process: &Process) -> bool {
        self.killed.iter().any(|killed| killed.is(process))
    }

    /// When somebody has to be looked at or killed; `None` when all are gone and replaced.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let kills = self.killed.iter().filter(|killed| !killed.gone && killed.killed_ms.is_none());
        let kill = kills.filter_map(|killed| killed.kill_at_ms).min();
        let look = (!self.killed.is_empty()).then_some(self.next_look_ms);
        look.into_iter().chain(kill).min()
    }

    /// Notes who is gone and who came in their place; the replacements in words, each told once.
    pub(super) fn look(&mut self, processes: &[Process], now_ms: u64) -> Vec<String> {
        self.next_look_ms = now_ms + LOOK_EVERY_MS;
        let mut told = Vec::new();
        let mut left = Vec::with_capacity(self.killed.len());
        for mut killed in std::mem::take(&mut self.killed) {
            killed.gone = !processes.iter().any(|p| killed.is(p) && lives(p.state));
            match killed.gone.then(|| self.replacement(&killed, processes)).flatten() {
                None => left.push(killed),
                Some(new) => {
                    self.taken.push((new.pid, new.start_time));
                    let last_signal = killed.killed_ms.unwrap_or(killed.signalled_ms);
                    let after = started_ms(new).saturating_sub(last_signal);
                    told.push(format!(
                        "{} (pid {}) was replaced by pid {} after {after} ms",
                        killed.name, killed.pid, new.pid
                    ));
                }
            }
        }
        self.killed = left;
        told
    }

    /// The oldest that nobody else was replaced by.
    fn replacement<'a>(&self, killed: &Killed, processes: &'a [Process]) -> Option<&'a Process> {
        let free = |p: &&Process| !self.taken.contains(&(p.pid, p.start_time));
        let candidates = processes.iter().filter(|p| killed.is_replaced_by(p)).filter(free);
        candidates.min_by_key(|p| (p.start_time, p.pid))
    }

    /// Those whose grace is over; each is named once.
    pub(super) fn overdue(&mut self, now_ms: u64) -> Vec<Victim> {
        let over = |killed: &&mut Killed| !killed.gone && killed.killed_ms.is_none() && killed.kill_at_ms.is_some_and(|at| at <= now_ms);
        let name = |killed: &mut Killed| {
            killed.killed_ms = Some(now_ms);
            Victim {
                pid: killed.pid,
                start_time: killed.start_time,
                name: killed.name.clone(),
            }
        };
        self.killed.iter_mut().filter(over).map(name).collect()
    }

    /// Those who are there now, asked one by one of the kernel.
    pub(super) fn living(&self, view: &dyn HostView) -> Result<Vec<&Killed>, ViewError> {
        let mut living = Vec::new();
        for killed in &self.killed {
            let process = view.process_stat(killed.pid)?;
            living.extend(
                process
                    .filter(|p| p.is(killed.pid, killed.start_time) && lives(p.state))
                    .map(|_| killed),
            );
        }
        Ok(living)
    }
}

/// A zombie has ended: only its parent has not looked yet.
fn lives(state: ProcessState) -> bool {
    !matches!(state, ProcessState::Zombie | ProcessState::Dead)
}

fn started_ms(process: &Process) -> u64 {
    process.start_time * TICK_MS
}
