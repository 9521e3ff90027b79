//! Which of all runs speak for a service, and for what: only judged ones, only of experiments, only those that are over by now.

use proto_model::evidence::Witness;
use proto_model::finished::FinishedRun;
use proto_model::required_test::RequiredTest;
use proto_model::summary::RunSummary;
use proto_model::time::Timestamp;
use proto_model::verdict::Verdict;

/// A judged run of the service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past<'a> {
    pub run: &'a RunSummary,
    pub known: &'a FinishedRun,
    pub verdict: Verdict,
    pub ended_at: Timestamp,
}

impl<'a> Past<'a> {
    /// Nothing of a run that speaks for no service.
    pub fn of(known: &'a FinishedRun) -> Option<Self> {
        let (_, verdict, ended_at) = known.speaks()?;
        Some(Self {
            run: &known.summary,
            known,
            verdict,
            ended_at,
        })
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
pub(crate) fn of_service<'a>(service: &str, runs: &'a [FinishedRun], now: Timestamp) -> Vec<Past<'a>> {
    let of_it = runs.iter().filter(|known| known.summary.service.as_deref() == Some(service));
    let mut past: Vec<Past<'a>> = of_it.filter_map(Past::of).filter(|past| past.ended_at <= now).collect();
    past.sort_by(|a, b| (b.ended_at, &b.run.id).cmp(&(a.ended_at, &a.run.id)));
    past
}
