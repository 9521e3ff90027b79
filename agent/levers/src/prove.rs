//! Looks whether a host is clean: what carries our name must be gone, what was touched must read as before. It changes nothing.

use std::borrow::Borrow;

use agent_journal::UndoOutcome;
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::CleanProof;

use crate::clean_check::{CleanCheck, Findings, Recorded};
use crate::kinds::{History, RESIDUE};
use crate::rewind::is_of_this_boot;

/// The proof over these histories and over everything on the host that carries our name.
///
/// `holding` are the injections that may be there now: their things are nobody's residue, and what their histories
/// touch (when given) is not judged by the histories of others. A thing that cannot be looked at makes the host unproven.
pub fn prove<H: Borrow<History>>(histories: &[H], holding: &[InjectionId], view: &dyn HostView) -> CleanProof {
    inspect(histories, holding, view).proof()
}

/// The same, with what could not be looked at kept apart from what was found.
pub fn inspect<H: Borrow<History>>(histories: &[H], holding: &[InjectionId], view: &dyn HostView) -> Findings {
    let held = |history: &History| holding.contains(&history.opened.injection);
    let (holders, ended): (Vec<&History>, Vec<&History>) = histories.iter().map(Borrow::borrow).partition(|history| held(history));
    let undos = holders.iter().flat_map(|history| &history.intents);
    let busy = undos.flat_map(|(_, undo)| undo.touched()).collect();
    let known = histories.iter().map(|history| &history.borrow().opened.injection).collect();
    let mut check = CleanCheck::new(view, holding, known, busy);
    RESIDUE.iter().for_each(|look| look(&mut check));
    let unseen_on_host = check.take_blind();
    for history in ended {
        look_at(history, &mut check);
    }
    check.findings(unseen_on_host)
}

fn look_at(history: &History, check: &mut CleanCheck<'_>) {
    check.consequences(history.told_consequences());
    let same_boot = is_of_this_boot(history, check.view());
    for (seq, undo) in &history.intents {
        if let Some(UndoOutcome::Drift { what }) = history.undone.get(seq) {
            what.iter().for_each(|what| check.drift(what.clone()));
        }
        let recorded = Recorded {
            same_boot,
            undone: history.undone.contains_key(seq),
        };
        undo.complete(history).verify(check, recorded);
    }
    if history.is_open() {
        let injection = &history.opened.injection;
        for why in &history.strange {
            check.not_restored(format!("journal of {injection}: {why}"));
        }
    }
}
