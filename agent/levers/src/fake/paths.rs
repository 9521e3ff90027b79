//! Shaped paths of a fake host as values.

use agent_view::PathCounters;

use crate::path::{PathSpec, Shape};
use crate::traffic::Exemptions;

/// A link, and the filters that lead into it once it is open.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    pub shape: Shape,
    pub open: Option<Open>,
    /// What is left alone, as it was given last.
    pub exemptions: Option<Exemptions>,
    pub counters: PathCounters,
}

#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub spec: PathSpec,
    pub interfaces: Vec<String>,
    pub until_ms: u64,
}
