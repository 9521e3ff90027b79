//! A finished run as levels, lists and pages read it: of the same size however many hosts and events it had, and never a source of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalogue::FaultKind;
use crate::document::RunDocument;
use crate::event::RunPhase;
use crate::host::ENV_LABEL;
use crate::id::HostName;
use crate::injection::EffectState;
use crate::plan::Origin;
use crate::summary::RunSummary;
use crate::time::Timestamp;
use crate::verdict::{Cleanup, Verdict};

/// What is read of a finished run's document. Raise it with every change of `RunWorth`, of `RunSummary` or of how either is read from
/// a document: a store then makes all that it keeps again.
pub const FINISHED_RUN_VERSION: u32 = 1;

/// A finished run in short, with what its evidence is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedRun {
    pub summary: RunSummary,
    pub worth: RunWorth,
}

/// What a summary leaves out and a level asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunWorth {
    /// Whether it ran in production: declared so when it was planned, or by the name alone.
    pub production: bool,
    /// The kinds of its faults.
    pub faults: BTreeSet<FaultKind>,
    /// The kinds that acted and were seen to: an effect that changed nothing, met nothing or was another than asked is none.
    pub acted: BTreeSet<FaultKind>,
    /// What became of the effects of its injections, in words, each once.
    pub effects: BTreeSet<String>,
    /// The first host with an injection that had no label with the run's environment.
    pub unlabelled: Option<HostName>,
}

impl From<&RunDocument> for FinishedRun {
    fn from(run: &RunDocument) -> Self {
        Self {
            summary: RunSummary::from(run),
            worth: RunWorth::from(run),
        }
    }
}

impl From<&RunDocument> for RunWorth {
    fn from(run: &RunDocument) -> Self {
        let injections = || run.injections.iter();
        let confirmed = injections().filter(|i| i.applied_at.is_some() && !i.effect.noop && i.effect.state == EffectState::Confirmed);
        let effects = injections().map(|i| match i.effect.state {
            EffectState::Confirmed if i.effect.noop => "changed nothing".to_owned(),
            state => state.as_str().to_owned(),
        });
        let labels: BTreeMap<&HostName, Option<&str>> = run.hosts.iter().map(|h| (&h.name, h.environment.as_deref())).collect();
        let said = |host: &HostName| labels.get(host).copied().flatten();
        let mut injected = injections().filter(|i| i.ordered_at.is_some()).map(|i| &i.host);
        Self {
            production: run.in_production(),
            faults: injections().map(|i| i.fault.clone()).collect(),
            acted: confirmed.map(|i| i.fault.clone()).collect(),
            effects: effects.collect(),
            unlabelled: injected.find(|host| said(host) != Some(run.environment.as_str())).cloned(),
        }
    }
}

impl FinishedRun {
    /// The service that it speaks for, its verdict and when it ended: only a run of an experiment does, and only once it is finished.
    pub fn speaks(&self) -> Option<(&str, Verdict, Timestamp)> {
        let run = &self.summary;
        let speaks = run.state == RunPhase::Finished && run.origin != Origin::Attack;
        speaks.then_some(())?;
        Some((run.service.as_deref()?, run.verdict?, run.finished_at?))
    }

    /// The hypothesis was put to the test and the answer is known.
    pub fn decided(&self) -> bool {
        let judged = matches!(self.summary.verdict, Some(Verdict::Passed | Verdict::Failed));
        judged && self.summary.cleanup == Cleanup::Proven
    }

    /// Why the run shows nothing good of the service: it did not pass, or no fault was seen to act.
    pub fn is_no_pass(&self) -> Option<String> {
        if self.summary.cleanup != Cleanup::Proven {
            return Some(UNCLEAN.to_owned());
        }
        if self.summary.verdict != Some(Verdict::Passed) {
            return Some(self.ended_as());
        }
        self.is_unconfirmed()
    }

    /// Why a run in production is no evidence of it. A host without a label is treated as production, so that nobody is hurt; whether
    /// it is production nobody has said.
    pub fn shows_no_production(&self) -> Option<String> {
        if !self.decided() {
            return Some(match self.summary.cleanup {
                Cleanup::Proven => self.ended_as(),
                _ => UNCLEAN.to_owned(),
            });
        }
        if let Some(why) = self.is_unconfirmed() {
            return Some(why);
        }
        let host = self.worth.unlabelled.as_ref()?;
        Some(format!("{host} had no label {ENV_LABEL}={}", self.summary.environment))
    }

    /// Why no fault of the run counts as one that acted.
    fn is_unconfirmed(&self) -> Option<String> {
        if !self.worth.acted.is_empty() {
            return None;
        }
        if self.worth.effects.is_empty() {
            return Some("no fault was confirmed to act".to_owned());
        }
        let effects: Vec<&str> = self.worth.effects.iter().map(String::as_str).collect();
        Some(format!("no fault was confirmed to act: {}", effects.join(", ")))
    }

    fn ended_as(&self) -> String {
        format!("it ended as {}", self.summary.verdict.map_or("none yet", Verdict::as_str))
    }
}

const UNCLEAN: &str = "its hosts are not proven clean";
