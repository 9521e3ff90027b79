//! Undoing without a warden: what the guardian does for an agent that died, and `rescue` by hand; it starts nothing.

use std::time::{Duration, Instant};

use agent_journal::JournalError;
use agent_levers::{HostOps, Journal, JournalStore, Swept, sweep};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::{EndedBy, InjectionState, UndoFailed};

use crate::causes::chain;
use crate::report_sequence::ReportSequence;
use crate::state::Ended;
use crate::undoing::{Undoing, report_failure};

/// Who undoes, and why.
#[derive(Debug, Clone, Copy)]
pub struct Rescuer {
    pub ended_by: EndedBy,
    /// As told in reports: `guardian`, `rescue`.
    pub name: &'static str,
    /// How long to wait, over all journals, for those that another process holds, and to go on trying undos that fail.
    pub patience: Duration,
}

/// What became of each injection that was open.
#[derive(Debug, Default)]
pub struct Rescued {
    pub undone: Vec<InjectionId>,
    /// Ended, and what they did has no way back.
    pub spent: Vec<InjectionId>,
    /// Not put right, and why.
    pub left: Vec<(InjectionId, String)>,
    /// Not touched: another process holds the journal, and may be undoing it.
    pub held: Vec<InjectionId>,
    /// What carried our name and belonged to none of them.
    pub swept: Swept,
}

impl Rescued {
    pub fn is_clean(&self) -> bool {
        self.held.is_empty() && !self.has_failed()
    }

    /// Something that was tried could not be undone.
    pub fn has_failed(&self) -> bool {
        !self.left.is_empty() || !self.swept.failed.is_empty()
    }
}

/// Why an injection was not undone.
enum NotUndone {
    Held,
    Failed(String),
}

/// Rewinds every open journal under its lock. Reports are recorded, so that the next agent tells the controller.
pub fn rescue(
    journal_store: &JournalStore,
    hands: &mut dyn HostOps,
    view: &dyn HostView,
    rescuer: Rescuer,
) -> Result<Rescued, JournalError> {
    let ids = journal_store.ids()?;
    let mut rescue = Rescue {
        journal_store,
        hands,
        view,
        rescuer,
        all: &ids,
        rescued: Rescued::default(),
    };
    // Each at once before any is waited for: one that fails must not keep the others.
    rescue.undo_together(&ids, Instant::now());
    let failed = std::mem::take(&mut rescue.rescued.left).into_iter().map(|(id, _)| id);
    let again: Vec<InjectionId> = failed.chain(std::mem::take(&mut rescue.rescued.held)).collect();
    let give_up = Instant::now() + rescuer.patience;
    for (place, id) in again.iter().enumerate() {
        // What is left of the patience is shared: a journal that stays as it is takes no other's turn.
        let sharing = u32::try_from(again.len() - place).unwrap_or(u32::MAX);
        let now = Instant::now();
        rescue.undo_together(std::slice::from_ref(id), now + give_up.saturating_duration_since(now) / sharing);
    }
    let Rescue { hands, mut rescued, .. } = rescue;
    rescued.swept = sweep(hands, view, &|| open_journals(journal_store, &ids));
    Ok(rescued)
}

/// One rescue of all journals.
struct Rescue<'a> {
    journal_store: &'a JournalStore,
    hands: &'a mut dyn HostOps,
    view: &'a dyn HostView,
    rescuer: Rescuer,
    all: &'a [InjectionId],
    rescued: Rescued,
}

/// An injection that has its end recorded and its undo begun, under its journal's lock.
struct Begun {
    journal: Journal,
    teller: ReportSequence,
    undoing: Undoing,
}

impl Rescue<'_> {
    /// Begins all of them before any is finished, so that none acts on while another one drains.
    fn undo_together(&mut self, ids: &[InjectionId], give_up: Instant) {
        let mut begun: Vec<Begun> = Vec::new();
        for id in ids {
            match self.begin(id, give_up) {
                Ok(one) => begun.extend(one),
                Err(NotUndone::Held) => self.rescued.held.push(id.clone()),
                Err(NotUndone::Failed(why)) => self.rescued.left.push((id.clone(), why)),
            }
        }
        let (waiting, through): (Vec<Begun>, Vec<Begun>) = begun.into_iter().partition(|one| one.undoing.has_to_wait());
        for one in through.into_iter().chain(waiting) {
            let id = one.journal.injection().clone();
            match self.finish(one, give_up) {
                Ok(InjectionState::Spent) => self.rescued.spent.push(id),
                Ok(_) => self.rescued.undone.push(id),
                Err(why) => self.rescued.left.push((id, why)),
            }
        }
    }

    /// `None` where it is not open.
    fn begin(&mut self, id: &InjectionId, give_up: Instant) -> Result<Option<Begun>, NotUndone> {
        if self.journal_store.read(id).is_ok_and(|history| !history.is_open()) {
            return Ok(None);
        }
        let patience = give_up.saturating_duration_since(Instant::now());
        let mut journal = self.journal_store.lock(id, patience).map_err(|error| match error {
            JournalError::Locked { .. } => NotUndone::Held,
            error @ JournalError::Damaged { .. } => NotUndone::Failed(format!("{}; {}", chain(&error), way_out(self.journal_store, id))),
            error => NotUndone::Failed(chain(&error)),
        })?;
        if !journal.history().is_open() {
            return Ok(None);
        }
        let another_boot = journal.history().opened.boot_id != self.view.boot_id();
        let by = if another_boot { EndedBy::Boot } else { self.rescuer.ended_by };
        let mut teller = ReportSequence::resume(journal.history());
        let (mut undoing, _) = Undoing::begin(by, None, &mut journal, &mut teller, self.view);
        undoing.begin_attempt(&mut journal, self.hands, self.view);
        Ok(Some(Begun { journal, teller, undoing }))
    }

    /// How it ended, when it acts no more; otherwise why it does.
    fn finish(&mut self, begun: Begun, give_up: Instant) -> Result<InjectionState, String> {
        let Begun {
            mut journal,
            mut teller,
            mut undoing,
        } = begun;
        let others: Vec<InjectionId> = self.all.iter().filter(|other| *other != journal.injection()).cloned().collect();
        loop {
            match undoing.attempt(&mut journal, self.hands, self.view, &others) {
                Ok(right) => {
                    if !right.unseen.is_empty() {
                        let why = right.unseen.join("; ");
                        tracing::warn!(injection = %journal.injection(), why, "not all of the host could be looked at: the next agent proves it before it admits anything");
                    }
                    undoing.close(self.rescuer.name, right.drift, &mut journal, &mut teller, self.view);
                    let ended = Ended::of(journal.history());
                    tracing::info!(injection = %journal.injection(), by = self.rescuer.name, state = ended.state.as_str(), "ended, and nothing is left");
                    return Ok(ended.state);
                }
                Err(failure) if Instant::now() >= give_up => {
                    return Err(give_up_on(failure, &mut journal, &mut teller, self.view));
                }
                Err(_) => {
                    let wait = undoing.next_try_ms.saturating_sub(self.view.boot_ms()).max(1);
                    std::thread::sleep(Duration::from_millis(wait).min(give_up.saturating_duration_since(Instant::now())));
                }
            }
        }
    }
}

/// Injections whose journals are open, or cannot be read; those of `earlier` where the journals cannot even be listed.
fn open_journals(journal_store: &JournalStore, earlier: &[InjectionId]) -> Vec<InjectionId> {
    let mut ids = journal_store.ids().unwrap_or_else(|_| earlier.to_vec());
    ids.retain(|id| journal_store.read(id).map_or(true, |history| history.is_open()));
    ids
}

/// What a person does about a journal that cannot be read: no retry helps.
fn way_out(journal_store: &JournalStore, id: &InjectionId) -> String {
    let [disk, copy] = journal_store.files(id);
    format!(
        "what it changed is unknown: look after the host, start the agent, and answer for it on the controller by `fracas hosts accept HOST \
         --reason ...`; without a controller, move {} and {} away",
        disk.display(),
        copy.display()
    )
}

fn give_up_on(failure: UndoFailed, journal: &mut Journal, teller: &mut ReportSequence, view: &dyn HostView) -> String {
    let why = format!("{}: {} (attempt {})", failure.undo, failure.error, failure.attempt);
    tracing::error!(why, "an injection could not be undone");
    report_failure(failure, journal, teller, view);
    why
}
