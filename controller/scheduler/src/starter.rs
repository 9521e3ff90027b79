//! What the scheduler asks of the rest of the controller: to plan an experiment that nobody watches, and to start such a plan.

use std::future::Future;
use std::pin::Pin;

use controller_store::{LastLook, ScheduleRecord};
use proto_model::document::ErrorBody;
use proto_model::id::RunId;
use proto_model::plan::PlanView;

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ErrorBody>> + Send + 'a>>;

/// Implemented by the front door, so that an unattended run passes every rule that a person's run passes, and those of its own.
pub trait Starter: Send + Sync {
    /// The halt in words, while there is one.
    fn halted(&self) -> Option<String>;
    /// Plans, asks every host, and refuses what may not run unattended. Nothing is started.
    fn plan<'a>(&'a self, schedule: &'a ScheduleRecord) -> Answer<'a, PlanView>;
    /// Starts under this key, unless the look finds what forbids it at the moment at which the run is recorded; a key that was
    /// used before names the run that it started.
    fn start<'a>(&'a self, view: PlanView, by: &'a str, key: String, look: LastLook<ErrorBody>) -> Answer<'a, RunId>;
}
