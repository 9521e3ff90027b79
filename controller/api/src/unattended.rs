//! The front door's side of schedules: an experiment that nobody watches passes every rule of a person's run, and those of its own.

use controller_planner::{Experiment, Fleet, PlanRefusal, parse_experiment, plan};
use controller_policy::{Denial, no_guard, unattended};
use controller_scheduler::{Answer, Starter};
use controller_store::{LastLook, ScheduleRecord};
use proto_model::document::ErrorBody;
use proto_model::id::RunId;
use proto_model::plan::{Origin, PlanView};

use crate::error::{ApiError, ApiResult};
use crate::experiments::refuse_unaccepted;
use crate::service::Api;

/// A seed for plans that are only looked at.
const LOOKED_AT: u64 = 0;

impl Starter for Api {
    fn halted(&self) -> Option<String> {
        let halt = self.0.runs.halt_state();
        halt.engaged.then(|| halt.words())
    }

    fn plan<'a>(&'a self, schedule: &'a ScheduleRecord) -> Answer<'a, PlanView> {
        Box::pin(async move { self.planned_unattended(schedule).await.map_err(|error| error.0) })
    }

    fn start<'a>(&'a self, view: PlanView, by: &'a str, key: String, look: LastLook<ErrorBody>) -> Answer<'a, RunId> {
        Box::pin(async move { Ok(self.0.runs.start_unless(view, by, Some(key), look).await?.run) })
    }
}

impl Api {
    async fn planned_unattended(&self, schedule: &ScheduleRecord) -> ApiResult<PlanView> {
        let experiment = scheduled(&schedule.file_text, &schedule.file_name, &schedule.set)?;
        let view = self.planned(experiment).await?;
        self.confirmed(&view.plan, &schedule.confirm)?;
        unattended(&view.plan, &self.0.policy).map_err(denied)?;
        refuse_unaccepted(&view)?;
        Ok(view)
    }

    /// What speaks against a schedule for good is an error; what may change until it is due is said.
    pub(crate) async fn could_run_unattended(&self, experiment: &Experiment, confirm: &str) -> ApiResult<Vec<String>> {
        if let Some(environment) = &experiment.environment {
            self.opened(environment, confirm)?;
        }
        let fleet: Fleet = self.fleet().await?.at_rest();
        match plan(experiment, &fleet, &self.0.policy, LOOKED_AT) {
            Ok(plan) => {
                self.confirmed(&plan, confirm)?;
                unattended(&plan, &self.0.policy).map_err(denied)?;
                Ok(Vec::new())
            }
            Err(refusal) if matches!(refusal.error.code.as_str(), "policy" | "unattended") => Err(refused(refusal)),
            Err(refusal) => Ok(vec![format!("now it would be refused: {refusal}")]),
        }
    }

    fn opened(&self, environment: &str, confirm: &str) -> ApiResult<()> {
        self.0.policy.open(environment).map_err(denied)?;
        self.confirmed_in(environment, confirm)
    }
}

/// The experiment of a schedule's file; it has a guard, or it is refused.
pub(crate) fn scheduled(text: &str, file_name: &str, set: &std::collections::BTreeMap<String, String>) -> ApiResult<Experiment> {
    let mut experiment = parse_experiment(text, file_name, set).map_err(|problems| refused(PlanRefusal::invalid_file(problems)))?;
    experiment.origin = Origin::Schedule;
    if experiment.guards.is_empty() {
        return Err(denied(no_guard()));
    }
    Ok(experiment)
}

fn refused(refusal: PlanRefusal) -> ApiError {
    ApiError(refusal.error)
}

fn denied(denial: Denial) -> ApiError {
    ApiError(denial.into())
}
