//! What a look at a host found: gathered while levers look one by one, judged at the end. It changes nothing.

use std::collections::BTreeSet;

use agent_view::{HostView, ViewError};
use proto_model::id::InjectionId;
use proto_model::injection::{CleanProof, Cleanliness};

/// A thing of others that an undo names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TouchedResource {
    /// By pid and start time.
    Process(u32, u64),
    /// By path.
    Knob(String),
}

/// What the journal of an undo says besides the undo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded {
    /// The host has not been started anew since.
    pub(crate) same_boot: bool,
    /// It was carried out.
    pub(crate) undone: bool,
}

/// One look at a host.
pub(crate) struct CleanCheck<'a> {
    view: &'a dyn HostView,
    holding: &'a [InjectionId],
    known: Vec<&'a InjectionId>,
    busy: BTreeSet<TouchedResource>,
    owned_left: BTreeSet<String>,
    not_restored: BTreeSet<String>,
    drift: BTreeSet<String>,
    /// What the ended ones did for good; nobody's residue.
    consequences: Vec<String>,
    /// What could not be looked at, or does not show how it is.
    blind: BTreeSet<String>,
}

impl<'a> CleanCheck<'a> {
    /// `holding` may be there now, `known` are all whose journals are at hand, and `busy` is what those that hold have touched.
    pub(crate) fn new(
        view: &'a dyn HostView,
        holding: &'a [InjectionId],
        known: Vec<&'a InjectionId>,
        busy: BTreeSet<TouchedResource>,
    ) -> Self {
        Self {
            view,
            holding,
            known,
            busy,
            owned_left: BTreeSet::new(),
            not_restored: BTreeSet::new(),
            drift: BTreeSet::new(),
            consequences: Vec::new(),
            blind: BTreeSet::new(),
        }
    }

    pub(crate) fn view(&self) -> &'a dyn HostView {
        self.view
    }

    /// Injections whose things may be there.
    pub(crate) fn holding(&self) -> &'a [InjectionId] {
        self.holding
    }

    /// Injections whose journals are at hand.
    pub(crate) fn known(&self) -> &[&'a InjectionId] {
        &self.known
    }

    /// Whether an injection that holds has touched it as well: then it is not for the ended ones to judge.
    pub(crate) fn is_busy(&self, thing: &TouchedResource) -> bool {
        self.busy.contains(thing)
    }

    /// What a look saw; one that failed makes the host unproven.
    pub(crate) fn seen<T>(&mut self, looked: Result<T, ViewError>) -> Option<T> {
        looked
            .map_err(|error| self.blind.insert(format!("could not {error}: {}", error.source)))
            .ok()
    }

    /// A look that did not fail and does not say how a thing is: this makes the host unproven as well.
    pub(crate) fn unknown(&mut self, what: String) {
        self.blind.insert(what);
    }

    /// Something of ours is left.
    pub(crate) fn owned_left(&mut self, what: String) {
        self.owned_left.insert(what);
    }

    /// Something of others does not read as before.
    pub(crate) fn not_restored(&mut self, what: String) {
        self.not_restored.insert(what);
    }

    /// Somebody else has changed something since.
    pub(crate) fn drift(&mut self, what: String) {
        self.drift.insert(what);
    }

    /// Something was done for good.
    pub(crate) fn consequences(&mut self, what: Vec<String>) {
        self.consequences.extend(what);
    }

    /// What could not be looked at so far; what comes later is kept apart from it.
    pub(crate) fn take_blind(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.blind)
    }

    /// `unseen_on_host` is what was taken as the search of the host had ended; what came later is of the undos.
    pub(crate) fn findings(self, unseen_on_host: BTreeSet<String>) -> Findings {
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        Findings {
            seen: CleanProof::of(
                list(self.owned_left),
                list(self.not_restored),
                list(self.drift),
                self.consequences,
                &self.view.boot_id(),
            ),
            unseen_on_host: list(unseen_on_host),
            unseen_of_undos: list(self.blind),
        }
    }
}

/// What a look at a host found, and apart from it what could not be looked at or does not show how it is.
#[derive(Debug, Clone)]
pub struct Findings {
    /// Of what was seen; it proves nothing as long as anything was not.
    pub seen: CleanProof,
    /// Not seen as the host was searched for what carries our name; it need not concern any of the histories.
    pub unseen_on_host: Vec<String>,
    /// Not seen of what the undos of the histories name.
    pub unseen_of_undos: Vec<String>,
}

impl Findings {
    /// Everything that was not seen.
    pub fn unseen(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.unseen_on_host.iter().chain(&self.unseen_of_undos).collect();
        all.into_iter().cloned().collect()
    }

    /// The proof as others get it: dirty when anything is left, else unproven when anything was not seen, which it lists in both cases.
    pub fn proof(&self) -> CleanProof {
        let unseen = self.unseen();
        let is_unproven = self.seen.result == Cleanliness::Clean && !unseen.is_empty();
        let seen = self.seen.clone();
        let not_restored = seen.not_restored.into_iter().chain(unseen).collect();
        let mut proof = CleanProof::of(seen.owned_left, not_restored, seen.drift, seen.consequences, &seen.boot_id);
        if is_unproven {
            proof.result = Cleanliness::Unproven;
        }
        proof
    }
}
