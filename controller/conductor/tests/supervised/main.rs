//! The supervisor and its drivers against a scripted fleet and a store in memory: starts, stops, halts, restarts, late proofs.

mod clocks;
mod fleet;
mod forgeries;
mod losses;
#[path = "../simulated/plans.rs"]
#[allow(dead_code)]
mod plans;
mod records;
mod starts;
mod stops;
mod summaries;
