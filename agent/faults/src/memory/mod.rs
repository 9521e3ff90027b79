//! Harm to memory; what is taken is taken by a worker that the kernel ends before anybody else.

mod aim;
mod hog;
mod hold;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<hog::Hog>::new()];
