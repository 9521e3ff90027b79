//! Harm to disks; what is written there is a file of ours alone.

mod fill;
mod target;
mod worker;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<fill::Fill>::new()];
