//! What `fracas top` knows at one moment: the last answers, how old they are, and what a person is doing. It asks nobody.

use proto_model::document::{ActiveInjection, StatusDocument};
use proto_model::host::{Connection, Host};
use proto_model::injection::Cleanliness;
use proto_model::summary::RunSummary;

/// The controller's answers of one round.
#[derive(Debug, Clone)]
pub struct Answers {
    pub status: StatusDocument,
    pub runs: Vec<RunSummary>,
    pub hosts: Vec<Host>,
}

/// The tables, in the order in which they are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panel {
    Injections,
    Runs,
    Hosts,
}

#[derive(Debug, Clone)]
pub struct View {
    /// Such as `local (/run/fracas/controller.sock)`.
    pub place: String,
    pub answers: Answers,
    /// Since the answers came.
    pub age_ms: u64,
    /// Why the newest question has no answer.
    pub trouble: Option<String>,
    pub panel: Panel,
    /// The first row of the panel that is shown.
    pub scroll: usize,
    /// What is typed to confirm a halt; `None` while nobody is asked.
    pub typed: Option<String>,
    /// What became of the last deed.
    pub told: Option<String>,
}

impl View {
    pub fn new(place: String, answers: Answers) -> Self {
        Self {
            place,
            answers,
            age_ms: 0,
            trouble: None,
            panel: Panel::Injections,
            scroll: 0,
            typed: None,
            told: None,
        }
    }

    /// The ones that end first on top; those that are not applied yet come last.
    pub fn injections(&self) -> Vec<&ActiveInjection> {
        let mut injections: Vec<&ActiveInjection> = self.answers.status.injections.iter().collect();
        injections.sort_by_key(|injection| (injection.left_ms.is_none(), injection.left_ms, injection.host.clone()));
        injections
    }

    /// Hosts that a person should look at.
    pub fn troubled(&self) -> Vec<&Host> {
        let troubled = |host: &&Host| {
            let unclean = matches!(host.cleanliness, Cleanliness::Dirty | Cleanliness::Unproven);
            host.connection == Connection::Lost || unclean
        };
        self.answers.hosts.iter().filter(troubled).collect()
    }

    /// Time went on since the controller said so.
    pub fn left_ms(&self, injection: &ActiveInjection) -> Option<i64> {
        let aged = i64::try_from(self.age_ms).unwrap_or(i64::MAX);
        injection.left_ms.map(|left| left.saturating_sub(aged))
    }

    pub fn lease_age_ms(&self, injection: &ActiveInjection) -> Option<u64> {
        injection.lease_age_ms.map(|age| age.saturating_add(self.age_ms))
    }

    pub fn rows(&self) -> usize {
        match self.panel {
            Panel::Injections => self.answers.status.injections.len(),
            Panel::Runs => self.answers.runs.len(),
            Panel::Hosts => self.troubled().len(),
        }
    }
}
