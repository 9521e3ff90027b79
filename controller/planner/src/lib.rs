//! From a wish to a plan: every choice made, every rule checked. Pure: no clock, no I/O, no randomness but the seed.

mod addresses;
mod allowance;
mod beside;
mod choice;
mod command;
mod difference;
mod experiment;
mod file;
mod limits;
mod plan;
mod policy;
mod refusal;
mod schema;
mod step;
mod targets;

pub use allowance::{ActiveRun, no_guard, policy_allows, unattended};
pub use command::{AttackWish, attack, params_from_json};
pub use difference::difference;
pub use experiment::{
    Experiment, WishedFault, WishedHypothesis, WishedParams, WishedPick, WishedProbe, WishedProber, WishedStep, WishedTarget,
};
pub use file::parse_experiment;
pub use plan::{Fleet, plan};
pub use policy::{EnvironmentPolicy, InvalidPolicy, Policy};
pub use refusal::PlanRefusal;
