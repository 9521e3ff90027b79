//! What a kind of fault is: a description, a check, a way in and a way of looking. There is no way out here: that is rewind.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::net::IpAddr;
use std::path::Path;

use agent_levers::{LeverError, Levers};
use agent_privileges::CapabilitySet;
use agent_view::{Features, HostView, Process, UnifiedGroup, ViewError, Volume};
use proto_model::catalogue::{DurationRule, ExampleDescription, FaultKind, KindDescription};
use proto_model::doctor::Ability;
use proto_model::id::InjectionId;
use proto_model::injection::{Observation, Reversal};
use proto_model::problem::{Problems, Refusal};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::claim::Claim;
use crate::params::parse_params;
use crate::work::WorkControl;

/// A deed that went wrong after it was allowed; what was pulled is undone by the caller.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    #[error(transparent)]
    Lever(#[from] LeverError),
    #[error(transparent)]
    Look(#[from] ViewError),
    #[error("{0}")]
    Other(String),
    #[error("this fault cannot change while it acts")]
    NotAdjustable,
}

/// A set of parameters that works on any ordinary host, with what it shows.
pub struct Example<P> {
    pub says: &'static str,
    pub params: P,
}

/// What a fault may look at while it decides: the host, and what the host's policy protects.
pub struct Scene<'a> {
    pub view: &'a dyn HostView,
    pub protection: &'a dyn Protection,
    pub seed: u64,
    pub duration_ms: u64,
}

/// What must not be touched on this host, and why.
pub trait Protection {
    /// The reason in words, or `None` when the process may be touched.
    fn process(&self, process: &Process) -> Option<String>;
    /// Addresses no network fault may cover, or why they are not all known: then no network fault may start.
    fn networks(&self) -> Result<Vec<proto_model::peer::Network>, String>;
    fn interface(&self, name: &str) -> Option<String>;
    fn port(&self, port: u16) -> Option<String>;
    /// Asked before a volume is harmed by way of a path on it.
    fn path(&self, path: &Path, volume: &Volume) -> Option<String>;
    /// Bytes of memory that stay available.
    fn memory_reserve(&self) -> u64;
    /// Bytes that stay free on a volume.
    fn disk_reserve(&self, volume: &Volume) -> u64;
}

/// A yes, with what a person would like to know before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preflight {
    pub warnings: Vec<String>,
    /// What it would touch, in words.
    pub touches: Vec<String>,
    pub engine: Option<String>,
}

/// One kind of harm. Implementations live one per file and are listed in their family's `KINDS`.
pub trait Fault: Send + Sync + 'static {
    const KIND: &'static str;
    /// One line for lists.
    const SUMMARY: &'static str;
    /// The field's other names for it.
    const ALIASES: &'static [&'static str] = &[];
    const REVERSAL: Reversal = Reversal::Full;
    const DURATION: DurationRule = DurationRule::Required;
    /// How long it is held when no duration is given; read only where `DURATION` lets it be left out.
    const LASTS_MS: u64 = 0;
    const MEASURED_BY: &'static str;
    const UNDONE_BY: &'static str;
    /// How long after applying the first window of measuring may begin.
    const SETTLE_MS: u64 = 1_000;
    type Params: Serialize + DeserializeOwned + JsonSchema + Debug + Send + 'static;
    type Effect: Serialize + DeserializeOwned + Debug;

    fn examples() -> Vec<Example<Self::Params>>;
    fn validate(_params: &Self::Params) -> Result<(), Problems> {
        Ok(())
    }
    fn claims(params: &Self::Params) -> Vec<Claim>;
    /// The same on this host, where names mean addresses.
    fn claims_here(params: &Self::Params, _view: &dyn HostView) -> Vec<Claim> {
        Self::claims(params)
    }
    fn preflight(params: &Self::Params, scene: &Scene<'_>) -> Result<Preflight, Refusal>;
    /// Whether a host has what the kind needs, whatever the parameters: what `doctor` shows. Only features are asked for, so that the doctor can
    /// also ask what the kind would do without one of them.
    fn ability(_host: &dyn Features) -> Ability {
        Ability::yes()
    }
    fn apply(params: &Self::Params, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<Self::Effect, FaultError>;
    /// Measures the fault while it acts, by other means than those that made it. `before` is the last call's second value.
    fn observe(effect: &Self::Effect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError>;
    /// DNS names that it stands on: they are looked up again while it acts, and [`Self::follow`] is told.
    fn names(_params: &Self::Params) -> Vec<String> {
        Vec::new()
    }
    /// Paths of groups (cgroup v2) whose packets it acts on: they are looked at again while it acts, and [`Self::follow`] is told.
    fn groups(_effect: &Self::Effect) -> Vec<String> {
        Vec::new()
    }
    /// Goes after names and groups that mean this now: retargets its levers, and returns the effect as it is now. What is without an
    /// answer stays as it was; after an error everything does.
    fn follow(
        _params: &Self::Params,
        effect: Self::Effect,
        _answers: &Answers,
        _levers: &mut Levers<'_>,
    ) -> Result<Self::Effect, FaultError> {
        Ok(effect)
    }
    /// True while what apply started is still there; false ends the injection early with this reason.
    fn alive(_effect: &Self::Effect, _view: &dyn HostView) -> Result<(), String> {
        Ok(())
    }
    /// When `go_on` is due next, on boot time; `None`: the deed was done once and for all.
    fn due(_effect: &Self::Effect) -> Option<u64> {
        None
    }
    /// What is to be done while it acts, for kinds that act more than once: pulls again, and returns the effect as it is now.
    /// An error ends the injection early with its words.
    fn go_on(
        _params: &Self::Params,
        effect: Self::Effect,
        _scene: &Scene<'_>,
        _levers: &mut Levers<'_>,
    ) -> Result<Self::Effect, FaultError> {
        Ok(effect)
    }
    /// The body of the worker process as `apply` ordered it. Most orders are parameters; a kind whose order is something else reads it here.
    fn work_as_ordered(order: &serde_json::Value, control: &WorkControl) -> Result<(), FaultError> {
        let params: Self::Params = parse_params(order).map_err(|problems| FaultError::Other(problems.to_string()))?;
        Self::validate(&params).map_err(|problems| FaultError::Other(problems.to_string()))?;
        Self::work(&params, control)
    }
    /// What the worker process keeps of root's rights while it works.
    const WORKER_KEEPS: CapabilitySet = CapabilitySet::empty();
    /// A file that the worker's body needs and could not open without root's rights: it is opened before they are given up.
    fn worker_file(_order: &serde_json::Value, _injection: &InjectionId) -> Result<Option<File>, FaultError> {
        Ok(None)
    }
    /// The body of the worker process, for kinds that load the host.
    fn work(_params: &Self::Params, _control: &WorkControl) -> Result<(), FaultError> {
        Err(FaultError::Other(format!("{} has no worker", Self::KIND)))
    }
}

/// What one look saw, kept by the caller for the next: counters to subtract.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    pub boot_ms: u64,
    pub seen: serde_json::Value,
}

/// What was found when what a fault stands on was looked at again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// What each name was looked up to be, or why not.
    pub names: BTreeMap<String, Result<Vec<IpAddr>, String>>,
    /// What is at each group's path, where that is another than before.
    pub groups: BTreeMap<String, GroupSeen>,
}

/// One look at the path of a group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupSeen {
    /// `None` when no group is there.
    pub now: Result<Option<UnifiedGroup>, String>,
    /// Milliseconds since the look before.
    pub since_ms: u64,
}

/// Any kind, with its parameters as JSON: what the warden and the suites hold.
pub trait AnyFault: Send + Sync {
    fn kind(&self) -> FaultKind;
    fn describe(&self) -> KindDescription;
    fn reversal(&self) -> Reversal;
    fn settle_ms(&self) -> u64;
    /// Parses strictly and validates; the answer is the canonical JSON of the parameters.
    fn check(&self, params: &serde_json::Value) -> Result<serde_json::Value, Problems>;
    fn claims(&self, params: &serde_json::Value) -> Result<Vec<Claim>, Problems>;
    fn claims_here(&self, params: &serde_json::Value, view: &dyn HostView) -> Result<Vec<Claim>, Problems>;
    fn preflight(&self, params: &serde_json::Value, scene: &Scene<'_>) -> Result<Preflight, Refusal>;
    fn ability(&self, host: &dyn Features) -> Ability;
    fn apply(&self, params: &serde_json::Value, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<serde_json::Value, FaultError>;
    fn observe(
        &self,
        effect: &serde_json::Value,
        view: &dyn HostView,
        before: Option<&Look>,
    ) -> Result<(Option<Observation>, Look), FaultError>;
    fn names(&self, params: &serde_json::Value) -> Vec<String>;
    fn groups(&self, effect: &serde_json::Value) -> Vec<String>;
    fn follow(
        &self,
        params: &serde_json::Value,
        effect: &serde_json::Value,
        answers: &Answers,
        levers: &mut Levers<'_>,
    ) -> Result<serde_json::Value, FaultError>;
    fn alive(&self, effect: &serde_json::Value, view: &dyn HostView) -> Result<(), String>;
    fn due(&self, effect: &serde_json::Value) -> Option<u64>;
    fn go_on(
        &self,
        params: &serde_json::Value,
        effect: &serde_json::Value,
        scene: &Scene<'_>,
        levers: &mut Levers<'_>,
    ) -> Result<serde_json::Value, FaultError>;
    fn worker_keeps(&self) -> CapabilitySet;
    fn worker_file(&self, order: &serde_json::Value, injection: &InjectionId) -> Result<Option<File>, FaultError>;
    fn work(&self, params: &serde_json::Value, control: &WorkControl) -> Result<(), FaultError>;
}

/// The one implementation of `AnyFault`: a kind's own type, spoken to in JSON.
pub struct Kind<F>(pub std::marker::PhantomData<F>);

impl<F> Kind<F> {
    pub const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<F> Default for Kind<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: Fault> Kind<F> {
    fn parse(params: &serde_json::Value) -> Result<F::Params, Problems> {
        let parsed: F::Params = parse_params(params)?;
        F::validate(&parsed)?;
        Ok(parsed)
    }

    fn parse_stored(params: &serde_json::Value) -> Result<F::Params, FaultError> {
        Self::parse(params).map_err(|problems| FaultError::Other(problems.to_string()))
    }

    fn parse_effect(effect: &serde_json::Value) -> Result<F::Effect, FaultError> {
        serde_json::from_value(effect.clone()).map_err(|e| FaultError::Other(format!("read the recorded effect: {e}")))
    }
}

impl<F: Fault> AnyFault for Kind<F> {
    fn kind(&self) -> FaultKind {
        FaultKind::parse(F::KIND).expect("a kind's own name is well formed: tested for every registered kind")
    }

    fn describe(&self) -> KindDescription {
        KindDescription {
            kind: self.kind(),
            summary: F::SUMMARY.to_owned(),
            aliases: F::ALIASES.iter().map(|a| (*a).to_owned()).collect(),
            reversal: F::REVERSAL,
            duration: F::DURATION,
            lasts_ms: (F::DURATION != DurationRule::Required).then_some(F::LASTS_MS),
            params: crate::params::schema_of::<F::Params>(),
            examples: F::examples()
                .into_iter()
                .map(|e| ExampleDescription {
                    says: e.says.to_owned(),
                    params: serde_json::to_value(e.params).unwrap_or_default(),
                })
                .collect(),
            measured_by: F::MEASURED_BY.to_owned(),
            undone_by: F::UNDONE_BY.to_owned(),
        }
    }

    fn reversal(&self) -> Reversal {
        F::REVERSAL
    }

    fn settle_ms(&self) -> u64 {
        F::SETTLE_MS
    }

    fn check(&self, params: &serde_json::Value) -> Result<serde_json::Value, Problems> {
        let parsed = Self::parse(params)?;
        serde_json::to_value(parsed).map_err(|e| Problems::one(proto_model::problem::Problem::new("params", e.to_string())))
    }

    fn claims(&self, params: &serde_json::Value) -> Result<Vec<Claim>, Problems> {
        Ok(F::claims(&Self::parse(params)?))
    }

    fn claims_here(&self, params: &serde_json::Value, view: &dyn HostView) -> Result<Vec<Claim>, Problems> {
        Ok(F::claims_here(&Self::parse(params)?, view))
    }

    fn preflight(&self, params: &serde_json::Value, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let parsed = Self::parse(params).map_err(refusal_of)?;
        F::preflight(&parsed, scene)
    }

    fn apply(&self, params: &serde_json::Value, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<serde_json::Value, FaultError> {
        let effect = F::apply(&Self::parse_stored(params)?, scene, levers)?;
        serde_json::to_value(effect).map_err(|e| FaultError::Other(format!("record the effect: {e}")))
    }

    fn observe(
        &self,
        effect: &serde_json::Value,
        view: &dyn HostView,
        before: Option<&Look>,
    ) -> Result<(Option<Observation>, Look), FaultError> {
        F::observe(&Self::parse_effect(effect)?, view, before)
    }

    fn names(&self, params: &serde_json::Value) -> Vec<String> {
        Self::parse(params).map(|params| F::names(&params)).unwrap_or_default()
    }

    fn groups(&self, effect: &serde_json::Value) -> Vec<String> {
        Self::parse_effect(effect).map(|effect| F::groups(&effect)).unwrap_or_default()
    }

    fn follow(
        &self,
        params: &serde_json::Value,
        effect: &serde_json::Value,
        answers: &Answers,
        levers: &mut Levers<'_>,
    ) -> Result<serde_json::Value, FaultError> {
        let effect = F::follow(&Self::parse_stored(params)?, Self::parse_effect(effect)?, answers, levers)?;
        serde_json::to_value(effect).map_err(|e| FaultError::Other(format!("record the effect: {e}")))
    }

    fn alive(&self, effect: &serde_json::Value, view: &dyn HostView) -> Result<(), String> {
        F::alive(&Self::parse_effect(effect).map_err(|e| e.to_string())?, view)
    }

    fn ability(&self, host: &dyn Features) -> Ability {
        F::ability(host)
    }

    fn due(&self, effect: &serde_json::Value) -> Option<u64> {
        F::due(&Self::parse_effect(effect).ok()?)
    }

    fn go_on(
        &self,
        params: &serde_json::Value,
        effect: &serde_json::Value,
        scene: &Scene<'_>,
        levers: &mut Levers<'_>,
    ) -> Result<serde_json::Value, FaultError> {
        let effect = F::go_on(&Self::parse_stored(params)?, Self::parse_effect(effect)?, scene, levers)?;
        serde_json::to_value(effect).map_err(|e| FaultError::Other(format!("record the effect: {e}")))
    }

    fn worker_keeps(&self) -> CapabilitySet {
        F::WORKER_KEEPS
    }

    fn worker_file(&self, order: &serde_json::Value, injection: &InjectionId) -> Result<Option<File>, FaultError> {
        F::worker_file(order, injection)
    }

    fn work(&self, params: &serde_json::Value, control: &WorkControl) -> Result<(), FaultError> {
        F::work_as_ordered(params, control)
    }
}

fn refusal_of(problems: Problems) -> Refusal {
    match problems.0.into_iter().next() {
        Some(problem) => problem.into(),
        None => Refusal::new("invalid_params", "params", "the parameters are not valid"),
    }
}
