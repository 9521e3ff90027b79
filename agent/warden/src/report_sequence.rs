//! Puts facts about one injection into reports, numbered so that repeats are harmless; it sends nothing.
use agent_levers::History;
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport};

/// Observations are not recorded, so after a crash their numbers are skipped: at most one was given per second.
const OBSERVED_AT_MOST_EVERY_MS: u64 = 1_000;

pub(crate) struct ReportSequence {
    injection: InjectionId,
    run: String,
    next_seq: u64,
}

impl ReportSequence {
    pub(crate) fn new(injection: InjectionId, run: String) -> Self {
        Self {
            injection,
            run,
            next_seq: 1,
        }
    }

    /// Goes on where a process that is no more has stopped, past every number it may have used.
    pub(crate) fn resume(history: &History) -> Self {
        let last = history.reports.iter().map(|report| report.agent_seq).max().unwrap_or(0);
        let held_ms = history.opened.deadline_boot_ms.saturating_sub(history.opened.opened_boot_ms);
        let observed = if history.applied.is_some() {
            held_ms / OBSERVED_AT_MOST_EVERY_MS + 1
        } else {
            0
        };
        Self {
            injection: history.opened.injection.clone(),
            run: history.opened.run.clone(),
            next_seq: last + observed + 1,
        }
    }

    pub(crate) fn tell(&mut self, view: &dyn HostView, fact: AgentFact) -> AgentReport {
        let agent_seq = self.next_seq;
        self.next_seq += 1;
        AgentReport {
            injection: self.injection.clone(),
            run: self.run.clone(),
            agent_seq,
            boot_id: view.boot_id(),
            boot_ms: view.boot_ms(),
            fact,
        }
    }
}
