//! What a person wrote, understood but not yet resolved: no host is chosen and no parameter typed here.

use std::collections::BTreeMap;

use proto_model::host::Host;
use proto_model::id::HostName;
use proto_model::plan::{Limits, Origin};
use proto_model::probe::ProbeSpec;
use proto_model::problem::Problem;
use proto_model::quantity::{Millis, Pick};
use proto_model::selector::{Selector, Term};

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
    Wait { path: String, ms: u64 },
    Fault(WishedFault),
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
        let mut path = problem.path.as_str();
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
        let labels = host.selectable();
        self.selectors.iter().any(|selector| selector.matches(&host.name, &labels))
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

/// Why a selector may not stand: facts are what a host says of itself, so they narrow but never choose alone.
pub(crate) fn selector_problem(path: &str, selector: &Selector) -> Option<Problem> {
    selector.only_facts().then(|| {
        Problem::new(path, format!("selector {selector} uses only facts, which a host states itself"))
            .allowed("a label or a name, narrowed by facts")
    })
}
