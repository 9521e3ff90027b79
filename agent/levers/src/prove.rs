//! Looks whether a host is clean: what carries our name must be gone, what was touched must read as before. It changes nothing.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use agent_journal::{Ballast, History, Undo, UndoOutcome};
use agent_view::{GroupId, HostView, ProcessState, ViewError};
use proto_model::id::InjectionId;
use proto_model::injection::{CleanProof, Cleanliness};

use crate::ballast::{BallastState, as_known, hidden};
use crate::rewind::{KnobState, is_of_this_boot, same_process};

/// The proof over these histories and over everything on the host that carries our name.
///
/// `holding` are the injections that may be there now: their things are nobody's residue, and what their histories
/// touch (when given) is not judged by the histories of others. A thing that cannot be looked at makes the host unproven.
pub fn prove<H: Borrow<History>>(histories: &[H], holding: &[InjectionId], view: &dyn HostView) -> CleanProof {
    let held = |history: &History| holding.contains(&history.opened.injection);
    let (holders, ended): (Vec<&History>, Vec<&History>) = histories.iter().map(Borrow::borrow).partition(|history| held(history));
    let busy = holders.iter().flat_map(|history| touched(history)).collect();
    let mut look = Look {
        view,
        holding,
        busy,
        owned_left: BTreeSet::new(),
        not_restored: BTreeSet::new(),
        drift: BTreeSet::new(),
        consequences: Vec::new(),
        blind: BTreeSet::new(),
    };
    look.groups();
    look.workers();
    look.traffic();
    look.paths(histories);
    for history in ended {
        look.history(history);
    }
    look.proof()
}

/// A thing that an undo names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Thing<'a> {
    Process(u32, u64),
    Knob(&'a str),
}

fn touched(history: &History) -> Vec<Thing<'_>> {
    let mut things = Vec::new();
    for (_, undo) in &history.intents {
        match undo {
            Undo::ResumeProcesses { victims } => things.extend(victims.iter().map(|v| Thing::Process(v.pid, v.start_time))),
            Undo::RestoreKnob { path, .. } => things.push(Thing::Knob(path)),
            Undo::EmptyGroup { .. }
            | Undo::DrainGroup { .. }
            | Undo::RemoveTraffic { .. }
            | Undo::RemovePath { .. }
            | Undo::RemoveBallast { .. } => {}
        }
    }
    things
}

struct Look<'a> {
    view: &'a dyn HostView,
    holding: &'a [InjectionId],
    busy: BTreeSet<Thing<'a>>,
    owned_left: BTreeSet<String>,
    not_restored: BTreeSet<String>,
    drift: BTreeSet<String>,
    /// What the ended ones did for good; nobody's residue.
    consequences: Vec<String>,
    /// What could not be looked at.
    blind: BTreeSet<String>,
}

impl Look<'_> {
    fn may_be_there(&self, group: &str) -> bool {
        self.holding.iter().any(|id| GroupId::of(id).0 == group)
    }

    fn seen<T>(&mut self, looked: Result<T, ViewError>) -> Option<T> {
        looked
            .map_err(|error| self.blind.insert(format!("could not {error}: {}", error.source)))
            .ok()
    }

    fn groups(&mut self) {
        for group in self.seen(self.view.our_groups()).unwrap_or_default() {
            if !self.may_be_there(&group.0) {
                let members = self.seen(self.view.group_members(&group)).unwrap_or_default();
                self.owned_left
                    .insert(format!("group {} with {} processes", group.0, members.len()));
            }
        }
    }

    /// Workers begin their command line with their group's name, so that one outside of its group is found as well.
    fn workers(&mut self) {
        for process in self.seen(self.view.processes()).unwrap_or_default() {
            let name = process.command_line.first().map(String::as_str).unwrap_or_default();
            let id = name.strip_prefix(GroupId::PREFIX).and_then(|id| InjectionId::parse(id).ok());
            let dead = matches!(process.state, ProcessState::Zombie | ProcessState::Dead);
            // Any user can give a process, also one of a setuid program, any name: ours run our program and were started by root.
            let ours = id.is_some() && process.our_program && process.real_uid == 0;
            if ours && !dead && !self.may_be_there(name) {
                self.owned_left.insert(format!("worker {name} (pid {})", process.pid));
            }
        }
    }

    fn traffic(&mut self) {
        for injection in self.seen(self.view.our_traffic()).unwrap_or_default() {
            if !self.holding.contains(&injection) {
                self.owned_left.insert(format!("network rules of {injection}"));
            }
        }
    }

    /// A link's name holds a part of an id only; the histories know the rest.
    fn paths<H: Borrow<History>>(&mut self, histories: &[H]) {
        for thing in self.seen(self.view.our_paths()).unwrap_or_default() {
            if self.holding.iter().any(|id| thing.is_of(id)) {
                continue;
            }
            let owner = histories.iter().map(|h| &h.borrow().opened.injection).find(|id| thing.is_of(id));
            self.owned_left.insert(match owner {
                Some(id) => format!("{thing}, because of {id}"),
                None => thing.to_string(),
            });
        }
    }

    fn history(&mut self, history: &History) {
        self.consequences.extend(history.told_consequences());
        let same_boot = is_of_this_boot(history, self.view);
        for (seq, undo) in &history.intents {
            if let Some(UndoOutcome::Drift { what }) = history.undone.get(seq) {
                self.drift.extend(what.iter().cloned());
            }
            match undo {
                Undo::ResumeProcesses { victims } if same_boot => victims.iter().for_each(|victim| self.victim(victim)),
                Undo::ResumeProcesses { .. } => {}
                Undo::RestoreKnob { path, ours, before } => self.knob(path, ours, before),
                Undo::RemoveBallast { ballast } => self.ballast(as_known(ballast, history), same_boot, history.undone.contains_key(seq)),
                Undo::EmptyGroup { .. } | Undo::DrainGroup { .. } | Undo::RemoveTraffic { .. } | Undo::RemovePath { .. } => {}
            }
        }
        if history.is_open() {
            let injection = &history.opened.injection;
            self.not_restored
                .extend(history.strange.iter().map(|why| format!("journal of {injection}: {why}")));
        }
    }

    fn victim(&mut self, victim: &agent_journal::Victim) {
        if self.busy.contains(&Thing::Process(victim.pid, victim.start_time)) {
            return;
        }
        let process = self.seen(same_process(self.view, victim)).flatten();
        if process.is_some_and(|p| p.state == ProcessState::Stopped) {
            self.not_restored
                .insert(format!("{} (pid {}) is still stopped", victim.name, victim.pid));
        }
    }

    fn ballast(&mut self, ballast: &Ballast, same_boot: bool, undone: bool) {
        match self.seen(BallastState::of(ballast, same_boot, self.view)) {
            Some(BallastState::Ours) => drop(self.owned_left.insert(format!("file {}", ballast.path.display()))),
            Some(BallastState::Moved(moved)) if moved.is_residue() => drop(self.owned_left.insert(moved.says(ballast))),
            Some(BallastState::Hidden) if !undone => drop(self.not_restored.insert(hidden(ballast))),
            _ => {}
        }
    }

    fn knob(&mut self, path: &str, ours: &str, before: &str) {
        if self.busy.contains(&Thing::Knob(path)) {
            return;
        }
        let Some(now) = self.seen(self.view.knob(path)) else { return };
        match KnobState::of(now.as_deref(), ours, before) {
            KnobState::Gone | KnobState::Before => {}
            KnobState::Ours => {
                self.not_restored
                    .insert(format!("{path} still reads {ours:?}, before it was {before:?}"));
            }
            KnobState::Foreign(value) => {
                let words = format!("{path} reads {value:?}: neither ours ({ours:?}) nor the value from before ({before:?})");
                self.drift.insert(words);
            }
        }
    }

    fn proof(self) -> CleanProof {
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        let clean = self.owned_left.is_empty() && self.not_restored.is_empty();
        let blind = !self.blind.is_empty();
        let not_restored = self.not_restored.into_iter().chain(self.blind).collect();
        let mut proof = CleanProof::of(
            list(self.owned_left),
            list(not_restored),
            list(self.drift),
            self.consequences,
            &self.view.boot_id(),
        );
        if clean && blind {
            proof.result = Cleanliness::Unproven;
        }
        proof
    }
}
