//! Whole runs against simulated hosts in simulated time: a run of minutes, lost hosts and restarts included, in milliseconds.

mod chance;
mod fleet;
mod plans;
mod runs;
mod trouble;
