//! Harm to processes of the host; it never touches one that the host protects.

mod matching;
mod pause;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<pause::Pause>::new()];
