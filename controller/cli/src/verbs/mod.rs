//! The verbs, one file each; a verb asks the controller and prints, and decides nothing about a run.

pub mod attack;
pub mod audit;
pub mod authority;
pub mod completion;
pub mod contexts;
pub mod faults;
pub mod freezes;
pub mod halt;
pub mod hosts;
pub mod levels;
pub mod manual;
pub mod operators;
pub mod plan;
pub mod publish;
pub mod release;
pub mod run;
pub mod runs;
pub mod schedules;
pub mod schema;
pub mod services;
pub mod status;
pub mod stop;
pub mod tokens;
pub mod top;
