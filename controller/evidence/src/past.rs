//! Which of all runs speak for a service, and for what: only judged ones, only of experiments, only those that are over by now.

use std::collections::BTreeSet;

use proto_model::catalogue::FaultKind;
use proto_model::document::{InjectionDocument, RunDocument};
use proto_model::event::RunPhase;
use proto_model::evidence::Witness;
use proto_model::injection::EffectState;
use proto_model::plan::Origin;
use proto_model::required_test::RequiredTest;
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
    /// The hypothesis was put to the test and the answer is known.
    pub fn decided(&self) -> bool {
        let judged = matches!(self.verdict, Verdict::Passed | Verdict::Failed);
        judged && self.run.cleanup == Cleanup::Proven
    }

    /// The kinds of fault that acted and were seen to: an effect that changed nothing, met nothing or was another than asked is none.
    pub fn acted(&self) -> impl Iterator<Item = &FaultKind> {
        let confirmed = |i: &&InjectionDocument| i.applied_at.is_some() && !i.effect.noop && i.effect.state == EffectState::Confirmed;
        self.run.injections.iter().filter(confirmed).map(|i| &i.fault)
    }

    /// Why the run shows nothing good of the service: it did not pass, or no fault was seen to act.
    pub fn is_no_pass(&self) -> Option<String> {
        if self.run.cleanup != Cleanup::Proven {
            return Some("its hosts are not proven clean".to_owned());
        }
        if self.verdict != Verdict::Passed {
            return Some(format!("it ended as {}", self.verdict.as_str()));
        }
        self.is_unconfirmed()
    }

    /// Why no fault of the run counts as one that acted.
    pub fn is_unconfirmed(&self) -> Option<String> {
        if self.acted().next().is_some() {
            return None;
        }
        let effects = self.run.injections.iter().map(|i| match i.effect.state {
            EffectState::Confirmed if i.effect.noop => "changed nothing".to_owned(),
            state => state.as_str().to_owned(),
        });
        let effects: BTreeSet<String> = effects.collect();
        if effects.is_empty() {
            return Some("no fault was confirmed to act".to_owned());
        }
        let effects: Vec<String> = effects.into_iter().collect();
        Some(format!("no fault was confirmed to act: {}", effects.join(", ")))
    }

    /// Why it is no run of this test, although it has its name.
    pub fn differs_from(&self, test: &RequiredTest) -> Option<String> {
        let plan = &self.run.plan;
        test.differs_from(&plan.experiment, &plan.variables)
    }

    pub fn excluded(&self, now: Timestamp, reason: String) -> Witness {
        Witness {
            reason: Some(reason),
            ..self.witness(now)
        }
    }

    pub fn witness(&self, now: Timestamp) -> Witness {
        Witness {
            run: self.run.id.clone(),
            name: self.run.name.clone(),
            environment: self.run.environment.clone(),
            verdict: self.verdict,
            at: self.ended_at,
            age_ms: now.since(self.ended_at),
            reason: None,
        }
    }
}

/// The service's runs that are over by `now`, the newest first; of the same moment, by id.
pub(crate) fn of_service<'a>(service: &str, runs: &'a [RunDocument], now: Timestamp) -> Vec<Past<'a>> {
    let judged = |run: &'a RunDocument| {
        // A run that goes on may still show something else.
        (run.state == RunPhase::Finished).then_some(())?;
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
