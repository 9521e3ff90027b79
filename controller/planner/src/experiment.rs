//! What a person wrote, understood but not yet resolved: no host is chosen and no parameter typed here.

use std::collections::BTreeMap;

use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::{Limits, OnFailure, Origin};
use proto_model::probe::ProbeSpec;
use proto_model::problem::Problem;
use proto_model::quantity::{Millis, Pick};
use proto_model::selector::{Selector, Term};
use proto_model::steps::as_written;

/// Longest duration of an injection or a wait; hosts may allow less.
pub const LONGEST: Millis = Millis(12 * 3_600_000);
/// Shortest duration of an injection.
pub const SHORTEST: Millis = Millis(1_000);

#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    pub name: String,
    pub origin: Origin,
    pub service: Option<String>,
    /// `None`: that of the hosts that match.
    pub environment: Option<String>,
    pub hypothesis: Option<WishedHypothesis>,
    pub guards: Vec<WishedProbe>,
    pub limits: Limits,
    pub steps: Vec<WishedStep>,
    /// Instead of the seed that the planner is given.
    pub seed: Option<u64>,
    /// The file's text, or the command as it was understood.
    pub source: String,
    /// The file's variables as they were set; empty for a command.
    pub variables: BTreeMap<String, serde_json::Value>,
    /// Line and column of each path of a file; empty for a command.
    pub places: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WishedHypothesis {
    pub says: String,
    pub before_ms: u64,
    pub after_ms: u64,
    pub probes: Vec<WishedProbe>,
}

/// A probe whose prober may still be a selector; `spec.from` is filled in by the plan.
#[derive(Debug, Clone, PartialEq)]
pub struct WishedProbe {
    pub path: String,
    pub spec: ProbeSpec,
    pub from: WishedProber,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WishedProber {
    Controller,
    Hosts(Selector),
}

#[derive(Debug, Clone, PartialEq)]
pub enum WishedStep {
    Wait {
        path: String,
        ms: u64,
    },
    Fault(WishedFault),
    /// All at the same time.
    Parallel {
        path: String,
        steps: Vec<WishedStep>,
    },
    /// One after the other: a group, or the rounds of what is repeated.
    Sequence {
        path: String,
        steps: Vec<WishedStep>,
    },
}

impl WishedStep {
    pub(crate) fn children(&self) -> &[WishedStep] {
        match self {
            Self::Wait { .. } | Self::Fault(_) => &[],
            Self::Parallel { steps, .. } | Self::Sequence { steps, .. } => steps,
        }
    }

    /// The faults in it, however deep.
    pub(crate) fn faults(&self) -> Vec<&WishedFault> {
        match self {
            Self::Fault(fault) => vec![fault],
            other => other.children().iter().flat_map(Self::faults).collect(),
        }
    }

    /// Faults and waits in it, however deep.
    pub(crate) fn leaves(&self) -> usize {
        match self {
            Self::Wait { .. } | Self::Fault(_) => 1,
            other => other.children().iter().map(Self::leaves).sum(),
        }
    }

    /// The same step where another path begins: `from` gives way to `to` in its own path and in all below it.
    pub(crate) fn moved(&self, from: &str, to: &str) -> Self {
        let moved = |path: &String| format!("{to}{}", path.strip_prefix(from).unwrap_or(path));
        let all = |steps: &[Self]| steps.iter().map(|step| step.moved(from, to)).collect();
        match self {
            Self::Wait { path, ms } => Self::Wait {
                path: moved(path),
                ms: *ms,
            },
            Self::Fault(fault) => Self::Fault(WishedFault {
                path: moved(&fault.path),
                ..fault.clone()
            }),
            Self::Parallel { path, steps } => Self::Parallel {
                path: moved(path),
                steps: all(steps),
            },
            Self::Sequence { path, steps } => Self::Sequence {
                path: moved(path),
                steps: all(steps),
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct WishedFault {
    /// `steps[0]`
    pub path: String,
    /// As typed: only the catalogues know which kinds there are.
    pub fault: String,
    pub params: WishedParams,
    pub on: WishedTarget,
    pub duration: Option<Millis>,
    pub on_failure: OnFailure,
}

#[derive(Debug, Clone, PartialEq)]
pub enum WishedParams {
    /// From a file: typed by YAML, checked by the catalogue.
    Typed(serde_json::Map<String, serde_json::Value>),
    /// From the command line: `key=value` in their order, typed by the catalogue.
    Text(Vec<(String, String)>),
}

/// Hosts that match any of the selectors.
#[derive(Debug, Clone, PartialEq)]
pub struct WishedTarget {
    pub selectors: Vec<Selector>,
    pub pick: Option<WishedPick>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct WishedPick {
    pub count: Pick,
    /// A label over whose values the choice is spread as evenly as it goes.
    pub spread: Option<String>,
    /// Instead of the plan's own seed.
    pub seed: Option<u64>,
}

impl Experiment {
    /// Gives a problem found later the place where its path, or the nearest path above it, was written.
    pub(crate) fn located(&self, problem: Problem) -> Problem {
        let written = as_written(&problem.path);
        let mut path = written.as_str();
        loop {
            if let Some((line, column)) = self.places.get(path) {
                return problem.clone().at(*line, *column);
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return problem,
            }
        }
    }
}

impl WishedTarget {
    pub(crate) fn matches(&self, host: &Host) -> bool {
        let matches = |labels| self.selectors.iter().any(|selector| selector.matches(&host.name, labels));
        if self.selectors.iter().any(Selector::uses_facts) {
            return matches(&host.selectable());
        }
        matches(&host.labels)
    }

    /// Hosts that are meant by their own name and by nothing else.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HostName> {
        self.selectors.iter().flat_map(|selector| match selector {
            Selector::All => Vec::new(),
            Selector::Terms(terms) => terms
                .iter()
                .filter_map(|term| match term {
                    Term::Name(name) => Some(name),
                    _ => None,
                })
                .collect(),
        })
    }

    /// As a person would write it.
    pub(crate) fn text(&self) -> String {
        let texts: Vec<String> = self.selectors.iter().map(Selector::to_string).collect();
        texts.join(" or ")
    }
}
