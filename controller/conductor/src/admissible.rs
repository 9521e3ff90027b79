//! Which reports of hosts count: what may follow in an injection's life, and how much room its reports may take.

use controller_report::InjectionStatus;
use proto_model::injection::{AgentFact, CleanProof, InjectionState};

/// Reports of one injection that are not its end: some to begin with, and one for each second that it holds.
const REPORTS: u64 = 64;
const REPORTS_PER_SECOND: u64 = 1;
/// No injection has more of them than this, however long it holds.
const MOST_REPORTS: u64 = 20_000;
/// Bytes of such a report on average, as JSON.
const BYTES_PER_REPORT: u64 = 1_024;
/// Lines that one fact may list, and bytes of each.
const LINES: usize = 200;
const LINE_BYTES: usize = 1_024;

/// Whether a fact may follow on what is known of its injection. An end is final: nothing that comes after it changes it.
pub(crate) fn may_follow(status: &InjectionStatus, fact: &AgentFact) -> bool {
    // What the controller gave up as never having arrived may have arrived all the same.
    let open = status.ordered_at.is_some() && (!status.state.is_terminal() || status.state == InjectionState::Withdrawn);
    match fact {
        AgentFact::Refused(_) => open && status.applied_at.is_none(),
        AgentFact::Applied(_) => open && status.applied_at.is_none(),
        AgentFact::Observed(_) | AgentFact::Ending(_) | AgentFact::UndoFailed(_) | AgentFact::Undone(_) | AgentFact::Spent(_) => open,
    }
}

/// What one injection's reports have taken of their room, and what was left out because there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReportQuota {
    reports: u64,
    bytes: u64,
    pub dropped: u64,
    pub dropped_bytes: u64,
}

impl ReportQuota {
    /// Takes room for a report that is not an end; false when there is none, and then it is counted.
    pub fn take(&mut self, duration_ms: u64, bytes: u64) -> bool {
        let most = (REPORTS + REPORTS_PER_SECOND * duration_ms / 1_000).min(MOST_REPORTS);
        if self.reports >= most || self.bytes + bytes > most * BYTES_PER_REPORT {
            self.dropped += 1;
            self.dropped_bytes += bytes;
            return false;
        }
        self.reports += 1;
        self.bytes += bytes;
        true
    }
}

/// The size of a fact as it would be stored.
pub(crate) fn size(fact: &AgentFact) -> u64 {
    serde_json::to_vec(fact).map_or(u64::MAX, |json| json.len() as u64)
}

/// An end counts whatever its size; its lists and texts are cut to a bound, and say so.
pub(crate) fn bounded(fact: AgentFact) -> AgentFact {
    match fact {
        AgentFact::Refused(mut refusal) => {
            cut(&mut refusal.message);
            AgentFact::Refused(refusal)
        }
        AgentFact::Undone(mut undone) => {
            cut(&mut undone.undone_by);
            cut_lines(&mut undone.drift);
            AgentFact::Undone(undone)
        }
        AgentFact::Spent(mut spent) => {
            cut_lines(&mut spent.consequences);
            AgentFact::Spent(spent)
        }
        // These have a quota.
        AgentFact::Applied(_) | AgentFact::Observed(_) | AgentFact::Ending(_) | AgentFact::UndoFailed(_) => fact,
    }
}

pub(crate) fn bounded_proof(mut proof: CleanProof) -> CleanProof {
    for lines in [
        &mut proof.owned_left,
        &mut proof.not_restored,
        &mut proof.drift,
        &mut proof.consequences,
    ] {
        cut_lines(lines);
    }
    proof
}

fn cut_lines(lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    lines.iter_mut().for_each(cut);
    if more > 0 {
        lines.push(format!("{more} more are left out"));
    }
}

fn cut(text: &mut String) {
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
        text.push_str(" (cut)");
    }
}

#[cfg(test)]
mod tests {
    use proto_model::injection::{EndedBy, UndoAnswer, Undone};

    use super::*;

    #[test]
    fn what_is_over_the_quota_is_counted() {
        let mut quota = ReportQuota::default();
        let taken = (0..1_000).filter(|_| quota.take(10_000, 100)).count();
        assert_eq!((taken, quota.dropped, quota.dropped_bytes), (74, 926, 92_600));
        let mut large = ReportQuota::default();
        assert!(!large.take(10_000, 80_000) && large.take(10_000, 70_000) && !large.take(10_000, 10_000));
        let mut long = ReportQuota::default();
        assert_eq!((0..100_000).filter(|_| long.take(u64::MAX / 2_000, 1)).count() as u64, MOST_REPORTS);
    }

    #[test]
    fn an_end_is_cut_to_a_bound_and_says_so() {
        let undone = AgentFact::Undone(Undone {
            ended_by: EndedBy::Stop,
            undone_by: "agent".into(),
            undo_ms: 1,
            answer: UndoAnswer::UndoneNow,
            drift: vec!["é".repeat(5_000); 5_000],
        });
        let cut = bounded(undone);
        assert!(size(&cut) < 250_000, "{}", size(&cut));
        let AgentFact::Undone(undone) = cut else { panic!("another fact") };
        assert_eq!(undone.drift.last().unwrap(), "4800 more are left out");
        assert!(undone.drift[0].ends_with("(cut)"));
    }
}
