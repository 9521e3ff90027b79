//! The kinds of fault that this agent has, as it is given them.

use agent_faults::AnyFault;
use proto_model::catalogue::{Catalogue, FaultKind};

/// The kinds of fault this agent has.
#[derive(Clone, Copy)]
pub struct Kinds {
    pub find: fn(&FaultKind) -> Option<&'static dyn AnyFault>,
    pub catalogue: fn() -> Catalogue,
}
