//! Harm to memory; what is taken is taken by a worker that the kernel ends before anybody else.

mod hog;
mod target;
mod worker;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<hog::Hog>::new()];
