//! The pieces of `fracas-agent`, wired together in `run` and used one by one by its other commands; no rule is decided here.

pub mod beat;
pub mod check;
pub mod doctor;
pub mod enrol;
pub mod guardian;
pub mod here;
pub mod keeper;
pub mod local;
pub mod options;
mod own_folder;
pub mod places;
pub mod rescue;
pub mod run;
pub mod talk;
pub mod worker;
