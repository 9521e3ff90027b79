//! One scripted injection: it is applied at once, observed in windows, and ends when its time, its lease or an order says so.

use std::time::Duration;

use proto_model::id::InjectionId;
use proto_model::injection::{AgentFact, AgentReport, Applied, EffectState, EndedBy, Ending, Observation, Observed, UndoAnswer, Undone};
use tokio::time::Instant;

use crate::wire::Start;

/// Between two observed windows: as an agent's longest window.
const WINDOW: Duration = Duration::from_secs(5);
/// Within a short injection: as an agent's shortest window.
const SHORT_WINDOW: Duration = Duration::from_secs(1);

/// Who reports, and since when it is up.
pub(crate) struct Boot {
    pub id: String,
    pub at: Instant,
}

impl Boot {
    pub fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.at).as_millis()).unwrap_or(u64::MAX)
    }
}

pub(crate) struct Injection {
    pub id: InjectionId,
    pub run: String,
    /// Kept until the controller has settled the end.
    reports: Vec<AgentReport>,
    /// How many of them this session has sent.
    sent: usize,
    pub finished: bool,
    deadline: Instant,
    lease_until: Instant,
    window: Duration,
    next_window: Instant,
    windows: u64,
}

impl Injection {
    pub fn start(start: Start, boot: &Boot, now: Instant) -> Self {
        let duration = Duration::from_millis(start.duration_ms);
        let window = if duration > 3 * WINDOW { WINDOW } else { SHORT_WINDOW };
        let mut injection = Self {
            id: start.injection,
            run: start.run,
            reports: Vec::new(),
            sent: 0,
            finished: false,
            deadline: now + duration,
            lease_until: now + Duration::from_millis(start.lease_ms),
            window,
            next_window: now + window,
            windows: 0,
        };
        let applied = AgentFact::Applied(Applied {
            effect: serde_json::Value::Null,
            engine: None,
            apply_ms: 1,
            deadline_boot_ms: boot.ms(injection.deadline),
            noop: false,
        });
        injection.tell(applied, boot, now);
        injection
    }

    /// When it next does something by itself.
    pub fn next_event(&self) -> Option<Instant> {
        (!self.finished).then(|| self.deadline.min(self.lease_until).min(self.next_window))
    }

    pub fn renew(&mut self, lease_ms: u64, now: Instant) {
        self.lease_until = now + Duration::from_millis(lease_ms);
    }

    /// Does what is due; true when that ended it.
    pub fn advance(&mut self, boot: &Boot, now: Instant) -> bool {
        if self.finished {
            return false;
        }
        while self.next_window <= now && self.next_window < self.deadline.min(self.lease_until) {
            self.observe(boot);
        }
        let (ended_by, at) = match self.deadline <= self.lease_until {
            true => (EndedBy::DurationElapsed, self.deadline),
            false => (EndedBy::LeaseLost, self.lease_until),
        };
        at <= now && self.end(ended_by, boot, at)
    }

    fn observe(&mut self, boot: &Boot) {
        self.windows += 1;
        let observed = AgentFact::Observed(Observed {
            window: self.windows,
            window_ms: u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
            observation: Observation {
                asked: Some(50.0),
                measured: Some(50.2),
                unit: "percent".to_owned(),
                state: EffectState::Confirmed,
                note: None,
            },
        });
        let at = self.next_window;
        self.tell(observed, boot, at);
        self.next_window += self.window;
    }

    /// True when it was not over yet.
    pub fn end(&mut self, ended_by: EndedBy, boot: &Boot, at: Instant) -> bool {
        if self.finished {
            return false;
        }
        self.tell(AgentFact::Ending(Ending { ended_by, reason: None }), boot, at);
        let undone = AgentFact::Undone(Undone {
            ended_by,
            undone_by: "agent".to_owned(),
            undo_ms: 1,
            answer: UndoAnswer::UndoneNow,
            drift: Vec::new(),
        });
        self.tell(undone, boot, at);
        self.finished = true;
        true
    }

    fn tell(&mut self, fact: AgentFact, boot: &Boot, at: Instant) {
        self.reports.push(AgentReport {
            injection: self.id.clone(),
            run: self.run.clone(),
            agent_seq: 1 + self.reports.len() as u64,
            boot_id: boot.id.clone(),
            boot_ms: boot.ms(at),
            fact,
        });
    }

    /// What this session has not sent yet.
    pub fn unsent(&mut self) -> &[AgentReport] {
        let from = std::mem::replace(&mut self.sent, self.reports.len());
        &self.reports[from..]
    }

    /// A new session tells everything again.
    pub fn begin_session(&mut self) {
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(duration_ms: u64, lease_ms: u64) -> (Injection, Boot, Instant) {
        let now = Instant::now();
        let boot = Boot {
            id: "boot".to_owned(),
            at: now,
        };
        let start = Start {
            injection: InjectionId::generate(),
            run: "run".to_owned(),
            duration_ms,
            lease_ms,
        };
        (Injection::start(start, &boot, now), boot, now)
    }

    fn kinds(injection: &mut Injection) -> Vec<String> {
        let kind = |report: &AgentReport| serde_json::to_value(&report.fact).unwrap()["type"].as_str().unwrap().to_owned();
        injection.unsent().iter().map(kind).collect()
    }

    #[tokio::test]
    async fn it_ends_by_its_deadline_and_tells_it_again_in_a_new_session() {
        let (mut injection, boot, now) = started(3_500, 10_000);
        assert_eq!(kinds(&mut injection), ["applied"]);
        assert!(!injection.advance(&boot, now + Duration::from_millis(2_100)));
        assert_eq!(kinds(&mut injection), ["observed", "observed"]);
        assert!(injection.advance(&boot, now + Duration::from_secs(60)));
        assert_eq!(kinds(&mut injection), ["observed", "ending", "undone"]);
        assert!(!injection.end(EndedBy::Stop, &boot, now));
        injection.begin_session();
        let seqs: Vec<u64> = injection.unsent().iter().map(|report| report.agent_seq).collect();
        assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    }

    #[tokio::test]
    async fn without_renewals_its_lease_ends_it_when_it_ran_out() {
        let (mut injection, boot, now) = started(60_000, 2_000);
        injection.renew(3_000, now + Duration::from_secs(1));
        assert!(injection.advance(&boot, now + Duration::from_secs(30)));
        let last = injection.unsent().last().unwrap().clone();
        assert_eq!(last.boot_ms, 4_000);
        assert!(matches!(last.fact, AgentFact::Undone(undone) if undone.ended_by == EndedBy::LeaseLost));
    }
}
