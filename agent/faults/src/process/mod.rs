//! Harm to processes of the host; it never touches one that the host protects.

mod kill;
mod matching;
mod pause;
mod pick;
mod replacements;
mod restart;
mod signals;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<kill::Kill>::new(), &Kind::<pause::Pause>::new()];
