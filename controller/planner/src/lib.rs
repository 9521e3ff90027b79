//! From a wish to a plan: every choice made, every rule checked. Pure: no clock, no I/O, no randomness but the seed.

mod addresses;
mod choice;
mod command;
mod coverage;
mod decidable;
mod difference;
mod experiment;
mod file;
mod fleet;
mod inventory;
mod plan;
mod reach;
mod refusal;
mod step;
mod targets;

pub use command::{AttackWish, attack, params_from_json};
pub use difference::difference;
pub use experiment::{
    Experiment, WishedFault, WishedHypothesis, WishedParams, WishedPick, WishedProbe, WishedProber, WishedStep, WishedTarget,
};
pub use file::parse_experiment;
pub use fleet::Fleet;
pub use plan::plan;
pub use refusal::PlanRefusal;
