//! Harm to processors; it never touches what other processes may use, only what is left for them.

mod burn;
mod duty;
mod total;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<burn::Burn>::new()];
