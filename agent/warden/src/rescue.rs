//! Undoing without a warden: what the guardian does for an agent that died, and `rescue` by hand; it starts nothing.

use std::time::{Duration, Instant};

use agent_journal::JournalError;
use agent_levers::{HostOps, JournalStore, Swept, sweep};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, EndedBy, InjectionState, UndoFailed};

use crate::causes::chain;
use crate::report_sequence::ReportSequence;
use crate::state::Ended;
use crate::undoing::{Undoing, kept};

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
    let mut rescued = Rescued::default();
    let ids = journal_store.ids()?;
    let mut one = |rescuer, id: &InjectionId, rescued: &mut Rescued| match rescue_one(journal_store, hands, view, rescuer, id, &ids) {
        Ok(Some(InjectionState::Spent)) => rescued.spent.push(id.clone()),
        Ok(Some(_)) => rescued.undone.push(id.clone()),
        Ok(None) => {}
        Err(NotUndone::Held) => rescued.held.push(id.clone()),
        Err(NotUndone::Failed(why)) => rescued.left.push((id.clone(), why)),
    };
    // Each at once before any is waited for: one that fails must not keep the others.
    let at_once = Rescuer {
        patience: Duration::ZERO,
        ..rescuer
    };
    ids.iter().for_each(|id| one(at_once, id, &mut rescued));
    let failed = std::mem::take(&mut rescued.left).into_iter().map(|(id, _)| id);
    let again: Vec<InjectionId> = failed.chain(std::mem::take(&mut rescued.held)).collect();
    let give_up = Instant::now() + rescuer.patience;
    for (place, id) in again.iter().enumerate() {
        // What is left of the patience is shared: a journal that stays as it is takes no other's turn.
        let sharing = u32::try_from(again.len() - place).unwrap_or(u32::MAX);
        let patience = give_up.saturating_duration_since(Instant::now()) / sharing;
        one(Rescuer { patience, ..rescuer }, id, &mut rescued);
    }
    rescued.swept = sweep(hands, view, &|| open_journals(journal_store, &ids));
    Ok(rescued)
}

/// Injections whose journals are open, or cannot be read; those of `earlier` where the journals cannot even be listed.
fn open_journals(journal_store: &JournalStore, earlier: &[InjectionId]) -> Vec<InjectionId> {
    let mut ids = journal_store.ids().unwrap_or_else(|_| earlier.to_vec());
    ids.retain(|id| journal_store.read(id).map_or(true, |history| history.is_open()));
    ids
}

/// How it ended, when it was open and acts no more.
fn rescue_one(
    journal_store: &JournalStore,
    hands: &mut dyn HostOps,
    view: &dyn HostView,
    rescuer: Rescuer,
    id: &InjectionId,
    all: &[InjectionId],
) -> Result<Option<InjectionState>, NotUndone> {
    if journal_store.read(id).is_ok_and(|history| !history.is_open()) {
        return Ok(None);
    }
    let give_up = Instant::now() + rescuer.patience;
    let mut journal = journal_store.lock(id, rescuer.patience).map_err(|error| match error {
        JournalError::Locked { .. } => NotUndone::Held,
        error => NotUndone::Failed(chain(&error)),
    })?;
    if !journal.history().is_open() {
        return Ok(None);
    }
    let another_boot = journal.history().opened.boot_id != view.boot_id();
    let by = if another_boot { EndedBy::Boot } else { rescuer.ended_by };
    let mut teller = ReportSequence::resume(journal.history());
    let (mut undoing, _) = Undoing::begin(by, None, &mut journal, &mut teller, view);
    let others: Vec<InjectionId> = all.iter().filter(|other| *other != id).cloned().collect();
    loop {
        match undoing.attempt(&mut journal, hands, view, &others) {
            Ok(drift) => {
                undoing.close(rescuer.name, drift, &mut journal, &mut teller, view);
                let ended = Ended::of(journal.history());
                tracing::info!(injection = %id, by = rescuer.name, state = ended.state.as_str(), "ended, and nothing is left");
                return Ok(Some(ended.state));
            }
            Err(failure) if Instant::now() >= give_up => {
                return Err(NotUndone::Failed(give_up_on(failure, &mut journal, &mut teller, view)));
            }
            Err(_) => {
                let wait = undoing.next_try_ms.saturating_sub(view.boot_ms()).max(1);
                std::thread::sleep(Duration::from_millis(wait).min(give_up.saturating_duration_since(Instant::now())));
            }
        }
    }
}

fn give_up_on(failure: UndoFailed, journal: &mut agent_levers::Journal, teller: &mut ReportSequence, view: &dyn HostView) -> String {
    let why = format!("{}: {} (attempt {})", failure.undo, failure.error, failure.attempt);
    tracing::error!(why, "an injection could not be undone");
    let report = teller.tell(view, AgentFact::UndoFailed(failure));
    kept(journal.report(&report), "failure");
    why
}
