//! What a lever is, and which there are: each is one file of this folder, declared here, and one line of the table below.
//!
//! A lever's file holds the data by which it is undone, what is pulled (methods of `Levers`), how it is renewed, retargeted, undone
//! and verified, and the calls that it makes to a host, for Linux and for the fake host of the suites.

// Not made by the table's macro: rustfmt formats only files whose `mod` it sees.
pub(crate) mod ballast;
pub(crate) mod groups;
pub(crate) mod knobs;
pub(crate) mod path;
pub(crate) mod processes;
pub(crate) mod traffic;

use std::any::Any;
use std::fmt;

use agent_journal::UndoOutcome;
use agent_view::{HostView, ViewError};
use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use crate::clean_check::{CleanCheck, Recorded, TouchedResource};
use crate::error::{OpsError, with_causes};
#[cfg(test)]
use crate::levers::{LeverError, Levers};

/// The undo of one pull, as data that lies in a journal. Idempotent; it touches only what carries our name or what it names, and
/// never flushes.
pub(crate) trait Lever: fmt::Display + Clone {
    /// What may be changed about it while it acts; `()` where everything stays as it was pulled.
    type Aim: Any;

    /// The same undo with all that later records of its journal say about it.
    fn complete(&self, _history: &History) -> Self {
        self.clone()
    }

    /// Its undo waits until something has drained or ended; the undos of other injections do not wait for that.
    const WAITS: bool = false;

    /// Ends the effect at once, before what is under way has drained; for levers that wait, and undo then does the rest. It may be done
    /// again, and undo does all of it where this failed or was never done.
    fn release(&self, _context: &mut UndoContext<'_>) -> Result<(), UndoError> {
        Ok(())
    }

    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError>;

    /// Once, after every undo of an injection that pulled this lever was tried: clears what its injections share.
    fn tidy(_way: &mut UndoContext<'_>) {}

    /// Lets the kernel hold it for `gate_ms` from now.
    fn renew(&self, _ops: &mut dyn AllOps, _gate_ms: u64) -> Result<(), OpsError> {
        Ok(())
    }

    /// Acts as this says from now on; the undo stays what it is.
    fn retarget(&self, _ops: &mut dyn AllOps, _aim: &Self::Aim) -> Result<(), OpsError> {
        Ok(())
    }

    /// Things of others that it changed, by name.
    fn touched(&self) -> Vec<TouchedResource> {
        Vec::new()
    }

    /// Whether what it names is as before.
    fn verify(&self, _check: &mut CleanCheck<'_>, _recorded: Recorded) {}

    /// Everything on the host that carries our name because of such a lever, whoever's.
    fn residue(_check: &mut CleanCheck<'_>) {}

    /// Removes of that what belongs to no open injection.
    fn sweep(_sweep: &mut Sweep<'_>) {}

    /// Pulls it on the fake host, for the suite that crashes at every step.
    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError>;
}

/// Why one undo did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UndoError {
    #[error(transparent)]
    Host(#[from] OpsError),
    #[error(transparent)]
    Look(#[from] ViewError),
    #[error("{0}")]
    NoEffect(String),
}

/// What an undo works with.
pub(crate) struct UndoContext<'a> {
    pub(crate) ops: &'a mut dyn AllOps,
    pub(crate) view: &'a dyn HostView,
    /// Everything had been pulled and nobody has tried to undo it: what reads otherwise was changed by others.
    pub(crate) detect_drift: bool,
    pub(crate) same_boot: bool,
    /// Since when the lever that has its turn is released, on boot time.
    pub(crate) released_ms: Option<u64>,
}

impl UndoContext<'_> {
    /// How long to wait yet: a wait began when the lever was released, so those that end together wait side by side.
    pub(crate) fn left_of(&self, wait_ms: u64) -> u64 {
        let waited = self.released_ms.map_or(0, |since| self.view.boot_ms().saturating_sub(since));
        wait_ms.saturating_sub(waited)
    }
}

/// One look for what belongs to no open injection, and what became of it.
pub(crate) struct Sweep<'a> {
    pub(crate) ops: &'a mut dyn AllOps,
    pub(crate) view: &'a dyn HostView,
    /// Names the injections that may hold something.
    pub(crate) open: &'a dyn Fn() -> Vec<InjectionId>,
    pub(crate) removed: Vec<String>,
    /// Each with its cause.
    pub(crate) failed: Vec<String>,
}

impl Sweep<'_> {
    /// What a look saw; where it failed nothing is removed.
    pub(crate) fn seen<T: Default>(&self, looked: Result<T, ViewError>) -> T {
        looked.unwrap_or_else(|error| {
            tracing::warn!(error = with_causes(&error), "what belongs to no injection could not be looked for");
            T::default()
        })
    }

    /// Notes what became of one thing; `false` is that it was gone already.
    pub(crate) fn note(&mut self, what: String, done: Result<bool, OpsError>) {
        match done {
            Ok(true) => self.removed.push(what),
            Ok(false) => {}
            Err(error) => self.failed.push(format!("{what}: {}", with_causes(&error))),
        }
    }
}

/// Makes the closed vocabulary of undos and the calls to a host out of the levers.
macro_rules! levers {
    ($($file:ident: $ops:ident => $($undo:ident),+;)+) => {
        /// The recorded way back from one pull. Its names and fields are what lies on disk.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "undo", rename_all = "snake_case")]
        pub enum Undo {
            $($($undo($file::$undo),)+)+
        }

        $($(impl From<$file::$undo> for Undo {
            fn from(undo: $file::$undo) -> Self {
                Self::$undo(undo)
            }
        })+)+

        impl fmt::Display for Undo {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $($(Self::$undo(undo) => undo.fmt(f),)+)+ }
            }
        }

        impl Undo {
            pub(crate) fn complete(&self, history: &History) -> Self {
                match self { $($(Self::$undo(undo) => undo.complete(history).into(),)+)+ }
            }

            pub(crate) fn waits(&self) -> bool {
                match self { $($(Self::$undo(_) => <$file::$undo as Lever>::WAITS,)+)+ }
            }

            pub(crate) fn release(&self, context: &mut UndoContext<'_>) -> Result<(), UndoError> {
                match self { $($(Self::$undo(undo) => undo.release(context),)+)+ }
            }

            pub(crate) fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
                match self { $($(Self::$undo(undo) => undo.undo(context),)+)+ }
            }

            pub(crate) fn tidy(&self) -> fn(&mut UndoContext<'_>) {
                match self { $($(Self::$undo(_) => <$file::$undo as Lever>::tidy,)+)+ }
            }

            pub(crate) fn renew(&self, ops: &mut dyn AllOps, gate_ms: u64) -> Result<(), OpsError> {
                match self { $($(Self::$undo(undo) => undo.renew(ops, gate_ms),)+)+ }
            }

            /// Levers that take another sort of aim stay as they are.
            pub(crate) fn retarget(&self, ops: &mut dyn AllOps, aim: &dyn Any) -> Result<(), OpsError> {
                match self {
                    $($(Self::$undo(undo) => match aim.downcast_ref() {
                        Some(aim) => undo.retarget(ops, aim),
                        None => Ok(()),
                    },)+)+
                }
            }

            pub(crate) fn touched(&self) -> Vec<TouchedResource> {
                match self { $($(Self::$undo(undo) => undo.touched(),)+)+ }
            }

            pub(crate) fn verify(&self, check: &mut CleanCheck<'_>, recorded: Recorded) {
                match self { $($(Self::$undo(undo) => undo.verify(check, recorded),)+)+ }
            }
        }

        /// Every call to a host that a lever makes.
        pub trait AllOps: Send $(+ $file::$ops)+ {}

        impl<T: Send $(+ $file::$ops)+> AllOps for T {}

        /// Looks for what carries our name, lever by lever.
        pub(crate) const RESIDUE: &[fn(&mut CleanCheck<'_>)] = &[$($(<$file::$undo as Lever>::residue,)+)+];

        /// Removes what belongs to no injection, lever by lever.
        pub(crate) const SWEEPS: &[fn(&mut Sweep<'_>)] = &[$($(<$file::$undo as Lever>::sweep,)+)+];

        #[cfg(test)]
        pub(crate) const EXAMPLES: &[fn(&mut Levers<'_>) -> Result<(), LeverError>] =
            &[$($(<$file::$undo as Lever>::pull_example,)+)+];

        /// The calls of each lever, for suites that try them one by one on a real kernel.
        #[cfg(feature = "fake")]
        pub mod ops {
            $(pub use super::$file::$ops;)+
        }
    };
}

levers! {
    groups: GroupOps => EmptyGroup, DrainGroup;
    processes: ProcessOps => ResumeProcesses;
    knobs: KnobOps => RestoreKnob;
    ballast: BallastOps => RemoveBallast;
    traffic: TrafficOps => RemoveTraffic;
    path: PathOps => RemovePath;
}

/// A journal whose undos are these.
pub type Journal = agent_journal::Journal<Undo>;
/// One injection as its journal tells it.
pub type History = agent_journal::History<Undo>;
/// All journals of this host.
pub type JournalStore = agent_journal::JournalStore<Undo>;
