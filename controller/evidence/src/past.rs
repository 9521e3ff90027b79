//! Which of all runs speak for a service, and for what: only judged ones, only of experiments, only those that are over by now.

use proto_model::document::RunDocument;
use proto_model::evidence::Witness;
use proto_model::injection::EffectState;
use proto_model::plan::Origin;
use proto_model::time::Timestamp;
use proto_model::verdict::{Cleanup, Verdict};

/// A judged run of the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    pub run: &'a RunDocument,
    pub verdict: Verdict,
    pub ended_at: Timestamp,
}

impl Past<'_> {
    /// It passed, and every host was proven clean. Nothing else proves anything good.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Passed && self.run.cleanup == Cleanup::Proven
    }

    /// The hypothesis was put to the test and the answer is known.
    pub fn decided(&self) -> bool {
        let judged = matches!(self.verdict, Verdict::Passed | Verdict::Failed);
        judged && self.run.cleanup == Cleanup::Proven
    }

    /// A fault acted, and was seen to.
    pub fn injected(&self) -> bool {
        let acted = |i: &proto_model::document::InjectionDocument| {
            i.applied_at.is_some() && !i.effect.noop && i.effect.state == EffectState::Confirmed
        };
        self.run.injections.iter().any(acted)
    }

    pub fn witness(&self, now: Timestamp) -> Witness {
        Witness {
            run: self.run.id.clone(),
            name: self.run.name.clone(),
            environment: self.run.environment.clone(),
            verdict: self.verdict,
            at: self.ended_at,
            age_ms: now.since(self.ended_at),
        }
    }
}

/// The service's runs that are over by `now`, the newest first; of the same moment, by id.
pub(crate) fn of_service<'a>(service: &str, runs: &'a [RunDocument], now: Timestamp) -> Vec<Past<'a>> {
    let judged = |run: &'a RunDocument| {
        Some(Past {
            run,
            verdict: run.verdict?,
            ended_at: run.finished_at?,
        })
    };
    let mut past: Vec<Past<'a>> = runs
        .iter()
        .filter(|run| run.service.as_deref() == Some(service) && run.origin != Origin::Attack)
        .filter_map(judged)
        .filter(|past| past.ended_at <= now)
        .collect();
    past.sort_by(|a, b| (b.ended_at, &a.run.id).cmp(&(a.ended_at, &b.run.id)));
    past
}
