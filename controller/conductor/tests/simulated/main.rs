//! Whole runs against simulated hosts in simulated time: a run of minutes, lost hosts and restarts included, in milliseconds.

mod branches;
mod chance;
mod fleet;
mod hosts;
mod laws;
mod many;
mod plans;
mod recovery;
mod runs;
mod trouble;
