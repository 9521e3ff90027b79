//! The phases in which one authority gives way to the next, as a value: a step makes the next value or says why not. It writes nothing.

use std::fmt;
use std::sync::Arc;

use proto_model::time::Timestamp;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::error::TransportError;
use crate::identity::fingerprint_of;

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationStep {
    /// A successor is made, and trusted beside the authority in force.
    Prepare,
    /// The successor is in force: it issues everything from then on.
    Switch,
    /// The one before is trusted no more.
    Finish,
    /// The successor is forgotten.
    Cancel,
}

impl RotationStep {
    pub const ALL: [Self; 4] = [Self::Prepare, Self::Switch, Self::Finish, Self::Cancel];

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Switch => "switch",
            Self::Finish => "finish",
            Self::Cancel => "cancel",
        }
    }
}

impl fmt::Display for RotationStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationPhase {
    /// One authority, and nothing else is trusted.
    Settled,
    Prepared,
    Switched,
}

impl RotationPhase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Prepared => "prepared",
            Self::Switched => "switched",
        }
    }
}

/// How the last rotation ended: its step may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LastEnd {
    Finished,
    Cancelled,
}

/// The authority beside the one in force.
pub(crate) enum Beside {
    Empty,
    /// With its key: it will issue.
    Next(Arc<Authority>),
    /// Without its key, which is gone: it is only trusted still.
    Previous(CertificateDer<'static>),
}

/// Which authority is in force, and which is trusted beside it.
pub struct Rotation {
    pub(crate) current: Arc<Authority>,
    pub(crate) beside: Beside,
    pub(crate) since: Timestamp,
    pub(crate) last_end: Option<LastEnd>,
}

#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Not in this phase.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Failed(#[from] TransportError),
}

impl Rotation {
    pub(crate) fn settled(current: Arc<Authority>, since: Timestamp) -> Self {
        Self {
            current,
            beside: Beside::Empty,
            since,
            last_end: None,
        }
    }

    pub fn phase(&self) -> RotationPhase {
        match self.beside {
            Beside::Empty => RotationPhase::Settled,
            Beside::Next(_) => RotationPhase::Prepared,
            Beside::Previous(_) => RotationPhase::Switched,
        }
    }

    /// When this phase began.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The one in force.
    pub fn current(&self) -> &Arc<Authority> {
        &self.current
    }

    /// The other one that is trusted: the next, or the one before.
    pub fn beside(&self) -> Option<&CertificateDer<'static>> {
        match &self.beside {
            Beside::Empty => None,
            Beside::Next(next) => Some(next.certificate()),
            Beside::Previous(previous) => Some(previous),
        }
    }

    /// Everything that is trusted, the one in force first.
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        let beside = self.beside().cloned();
        std::iter::once(self.current.certificate().clone()).chain(beside).collect()
    }

    /// The fingerprints of what is trusted, in the same order.
    pub fn fingerprints(&self) -> Vec<String> {
        self.trusted().iter().map(|authority| fingerprint_of(authority)).collect()
    }

    /// The rotation after a step; `None` where the step is done already.
    pub(crate) fn after(
        &self,
        step: RotationStep,
        now: Timestamp,
        make: impl FnOnce() -> Result<Authority, TransportError>,
    ) -> Result<Option<Self>, RotationError> {
        use RotationStep::{Cancel, Finish, Prepare, Switch};
        let refused = |why: &str| Err(RotationError::Refused(why.to_owned()));
        let next = |current: &Arc<Authority>, beside: Beside, last_end: Option<LastEnd>| {
            let current = current.clone();
            Ok(Some(Self {
                current,
                beside,
                since: now,
                last_end,
            }))
        };
        match (&self.beside, step) {
            (Beside::Empty, Prepare) => next(&self.current, Beside::Next(Arc::new(make()?)), None),
            (Beside::Empty, Finish) if self.last_end == Some(LastEnd::Finished) => Ok(None),
            (Beside::Empty, Cancel) if self.last_end == Some(LastEnd::Cancelled) => Ok(None),
            (Beside::Empty, _) => refused("no rotation is going: begin one with `fracas authority rotate prepare`"),
            (Beside::Next(_), Prepare) => Ok(None),
            (Beside::Next(successor), Switch) => {
                let previous = Beside::Previous(self.current.certificate().clone());
                next(successor, previous, None)
            }
            (Beside::Next(_), Finish) => refused("the next authority is not in force yet: `fracas authority rotate switch` comes first"),
            (Beside::Next(_), Cancel) => next(&self.current, Beside::Empty, Some(LastEnd::Cancelled)),
            (Beside::Previous(_), Switch) => Ok(None),
            (Beside::Previous(_), Finish) => next(&self.current, Beside::Empty, Some(LastEnd::Finished)),
            (Beside::Previous(_), Prepare) => {
                refused("a rotation is going: end it with `fracas authority rotate finish` before the next one is prepared")
            }
            (Beside::Previous(_), Cancel) => refused(
                "the new authority is in force and the old one's key is gone: end the rotation with `fracas authority rotate finish`",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::AUTHORITY_LIFE_MS;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn make() -> Result<Authority, TransportError> {
        Authority::make(AUTHORITY_LIFE_MS, NOW)
    }

    fn word(after: &Result<Option<Rotation>, RotationError>) -> &'static str {
        match after {
            Ok(Some(after)) => after.phase().as_str(),
            Ok(None) => "already",
            Err(_) => "refused",
        }
    }

    #[test]
    fn each_step_in_each_phase_leads_where_it_should() {
        let settled = Rotation::settled(Arc::new(make().unwrap()), NOW);
        let step = |from: &Rotation, step: RotationStep| from.after(step, NOW, make);
        let prepared = step(&settled, RotationStep::Prepare).unwrap().unwrap();
        let switched = step(&prepared, RotationStep::Switch).unwrap().unwrap();
        let finished = step(&switched, RotationStep::Finish).unwrap().unwrap();
        let cancelled = step(&prepared, RotationStep::Cancel).unwrap().unwrap();
        for (from, expected) in [
            (&settled, ["prepared", "refused", "refused", "refused"]),
            (&prepared, ["already", "switched", "refused", "settled"]),
            (&switched, ["refused", "already", "settled", "refused"]),
            (&finished, ["prepared", "refused", "already", "refused"]),
            (&cancelled, ["prepared", "refused", "refused", "already"]),
        ] {
            let words = RotationStep::ALL.map(|asked| word(&step(from, asked)));
            assert_eq!(words, expected, "{}", from.phase().as_str());
        }
        let (old, new) = (settled.fingerprints().remove(0), finished.fingerprints().remove(0));
        assert_eq!(
            prepared.fingerprints(),
            [old.clone(), new.clone()],
            "the old one is in force while the next is prepared"
        );
        assert_eq!(switched.fingerprints(), [new.clone(), old.clone()]);
        assert_eq!((finished.fingerprints(), cancelled.fingerprints()), (vec![new], vec![old]));
    }
}
