//! `network.loss`: a share of the packets to or from peers vanishes, one by one or in bursts; the kernel ends it by itself.

use agent_levers::work::packets::{GilbertElliott, Harm};
use agent_levers::{Direction, Fate, Levers, Lose};
use agent_privileges::CapabilitySet;
use agent_view::{Feature, Features, HostView};
use proto_model::doctor::{Ability, Can};
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::Percent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{self, Engine};
use super::matching::Matching;
use super::resolved::Resolved;
use super::shaping::{AppliedEngine, ShapingRequest};
use super::{cgroup_scope, netem, observe_loss, observe_partition};
use crate::ability::{limited_without, needs, refuse_without};
use crate::claim::Claim;
use crate::fault::{Answers, Example, Fault, FaultError, Look, Preflight, Scene};
use crate::work::WorkControl;

const LEAST_PERCENT: f64 = 0.01;
const LONGEST_LIKENESS: f64 = 99.0;
/// From here on a program notices little else than that nothing works.
const HOPELESS: f64 = 50.0;

/// Which packets vanish, and how many of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct LossParams {
    #[serde(flatten)]
    matching: Matching,
    /// The share of packets that vanish, in percent, 0.01 to 100. Required, unless `p` and `r` say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 100))]
    percent: Option<Percent>,
    /// How likely a packet shares the fate of the packet before for that reason alone, in percent, 0 to 99: losses come in bursts. Default 0.
    #[serde(default = "none")]
    #[schemars(range(min = 0, max = 99), default = "none")]
    correlation: Percent,
    /// Instead of `percent`, by the model of Gilbert and Elliott: how likely a packet is the first of a bad time, in percent, 0.01 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 100))]
    p: Option<Percent>,
    /// How likely a packet is the first of a good time again, in percent, 0.01 to 100; with `p`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.01, max = 100))]
    r: Option<Percent>,
    /// The share of packets that come through in bad times, in percent, 0 to 100; with `p`. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    h: Option<Percent>,
    /// The share of packets that come through in good times, in percent, 0 to 100; with `p`. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    k: Option<Percent>,
    /// The way of the packets, seen from this host: `out`, `in` or `both`. Default out.
    #[serde(default = "out")]
    #[schemars(default = "out")]
    direction: Direction,
}

fn none() -> Percent {
    Percent(0.0)
}

fn out() -> Direction {
    Direction::Out
}

/// What rules for single losses stand on.
const RULES: &[Feature] = &[Feature::NetAdmin, Feature::PacketRules, Feature::RandomRules];

/// How losses come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    /// Each packet by its own luck: rules alone do it.
    Single(Percent),
    Bursts(GilbertElliott),
}

impl Model {
    /// By what it is done here: none where rules alone do it.
    fn harm(self, view: &dyn HostView) -> Option<Harm> {
        match self {
            Self::Bursts(model) => Some(Harm::Loss(model)),
            Self::Single(_) if needs(view, RULES).can != Can::No || Engine::ability(view).can != Can::Yes => None,
            Self::Single(percent) => Some(Harm::Loss(GilbertElliott::correlated(percent.0 / 100.0, 0.0))),
        }
    }
}

/// What was lost, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LossEffect {
    injection: InjectionId,
    /// None where rules alone do it.
    made: Option<AppliedEngine>,
    asked: observe_loss::RequestedLoss,
    /// Addresses that the peers stand for.
    #[serde(flatten)]
    resolved: Resolved,
}

impl LossParams {
    fn model(&self) -> Model {
        let share = |percent: &Option<Percent>, otherwise: f64| percent.map_or(otherwise, |percent| percent.0 / 100.0);
        match self.percent {
            Some(percent) if self.correlation.0 == 0.0 => Model::Single(percent),
            Some(percent) => Model::Bursts(GilbertElliott::correlated(percent.0 / 100.0, self.correlation.0 / 100.0)),
            None => Model::Bursts(GilbertElliott {
                p: share(&self.p, 0.0),
                r: share(&self.r, 1.0),
                lost_in_bad: 1.0 - share(&self.h, 0.0),
                lost_in_good: 1.0 - share(&self.k, 1.0),
            }),
        }
    }

    fn asked(&self) -> observe_loss::RequestedLoss {
        match self.model() {
            Model::Single(percent) => observe_loss::RequestedLoss {
                percent: percent.0,
                likeness: 0.0,
            },
            Model::Bursts(model) => observe_loss::RequestedLoss {
                percent: model.share_lost() * 100.0,
                likeness: model.likeness(),
            },
        }
    }

    fn request<'a>(&'a self, resolved: &'a Resolved, harm: Harm) -> ShapingRequest<'a> {
        ShapingRequest {
            matching: &self.matching,
            resolved,
            direction: self.direction,
            harm,
        }
    }

    fn check_model(&self, problems: &mut Problems) {
        let bursts = [("p", self.p), ("r", self.r), ("h", self.h), ("k", self.k)];
        if let Some(percent) = self.percent {
            if percent.0 < LEAST_PERCENT {
                problems.push(Problem::new("params.percent", format!("{} is out of range", percent.0)).allowed("0.01..100"));
            }
            for (name, _) in bursts.iter().filter(|(_, given)| given.is_some()) {
                let message = "says the losses another way than percent does";
                problems.push(Problem::new(format!("params.{name}"), message).allowed("either percent, or p and r"));
            }
        } else if self.p.is_none() && self.r.is_none() {
            problems.push(Problem::new("params.percent", "is required").allowed("0.01..100, or p and r instead"));
        } else {
            for (name, given) in &bursts[..2] {
                if given.is_none_or(|percent| percent.0 < LEAST_PERCENT) {
                    problems.push(Problem::new(format!("params.{name}"), "is required, p and r together").allowed("0.01..100"));
                }
            }
            if self.correlation.0 > 0.0 {
                let problem = Problem::new("params.correlation", "p and r say already how losses follow each other");
                problems.push(problem.allowed("0 with p and r"));
            }
        }
        if self.correlation.0 > LONGEST_LIKENESS {
            problems.push(Problem::new("params.correlation", format!("{} is out of range", self.correlation.0)).allowed("0..99"));
        }
    }
}

pub(super) struct Loss;

impl Fault for Loss {
    const KIND: &'static str = "network.loss";
    const SUMMARY: &'static str = "makes a share of the packets between this host and peers vanish";
    const ALIASES: &'static [&'static str] = &["packet loss", "drop packets", "flaky network", "netem loss", "gilbert elliott"];
    const MEASURED_BY: &'static str = "packets that met the fault, and packets of the same peers that came through, counted by the kernel early and late in the same hooks, or before and behind the queue of netem, since the fault began. Confirmed when the missing share is within 1 point of what was asked, or within luck, and the packets are enough to exclude (99 %) a share that is off by half of it or by 15 points; until then unknown, with how many more are needed";
    const UNDONE_BY: &'static str = "removing the injection's rules and sets from our own nftables table, and ending its worker where there is one; or removing the injection's filters from the interfaces, and then its own link (netem). The kernel lets packets through by itself when the lease is not renewed";
    const WORKER_KEEPS: CapabilitySet = engine::WORKER_KEEPS;
    type Params = LossParams;
    type Effect = LossEffect;

    fn examples() -> Vec<Example<LossParams>> {
        let lossy = |to: &[&str], percent: f64| LossParams {
            matching: Matching::of(to),
            percent: Some(Percent(percent)),
            correlation: none(),
            p: None,
            r: None,
            h: None,
            k: None,
            direction: Direction::Out,
        };
        vec![
            Example {
                says: "every fifth packet to 192.0.2.10 is lost, by luck",
                params: lossy(&["192.0.2.10"], 20.0),
            },
            Example {
                says: "losses in both directions, mostly several in a row",
                params: LossParams {
                    correlation: Percent(50.0),
                    direction: Direction::Both,
                    ..lossy(&["192.0.2.0/24"], 30.0)
                },
            },
            Example {
                says: "short times in which most of what an IPv6 network sends is lost",
                params: LossParams {
                    percent: None,
                    p: Some(Percent(20.0)),
                    r: Some(Percent(40.0)),
                    h: Some(Percent(10.0)),
                    direction: Direction::In,
                    ..lossy(&["2001:db8::/32"], 0.0)
                },
            },
        ]
    }

    fn validate(params: &LossParams) -> Result<(), Problems> {
        let mut problems = params.matching.validate();
        params.check_model(&mut problems);
        problems.into_result()
    }

    fn claims(params: &LossParams) -> Vec<Claim> {
        params.matching.claims(params.direction)
    }

    fn claims_here(params: &LossParams, view: &dyn HostView) -> Vec<Claim> {
        params.matching.claims_here(params.direction, view)
    }

    fn ability(host: &dyn Features) -> Ability {
        // Single losses need rules alone; bursts need an engine, which can do single ones as well.
        let of_groups = |ability: Ability| limited_without(ability, host, cgroup_scope::NEEDS);
        let (rules, engine) = (of_groups(needs(host, RULES)), Engine::ability(host));
        match (rules.can, engine.can) {
            (Can::No, Can::Yes) => Ability {
                why: engine.why.clone().or(rules.why.map(|why| format!("not by rules: {why}"))),
                fix: engine.fix.clone().or(rules.fix),
                ..engine
            },
            (Can::No, _) => rules,
            _ => Ability {
                why: rules.why.clone().or_else(|| Some(bursts(&engine))),
                fix: rules.fix.clone().or(engine.fix),
                ..rules.by("nftables")
            },
        }
    }

    fn preflight(params: &LossParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let (resolved, mut warnings) = params.matching.preflight(params.direction, scene)?;
        if params.asked().percent >= HOPELESS && !params.matching.is_without_tcp() {
            warnings.push("with so many losses TCP hardly gets anything through: it waits longer after each, up to minutes".to_owned());
        }
        let engine = match params.model().harm(scene.view) {
            None => {
                refuse_without(scene.view, RULES)?;
                "nftables"
            }
            Some(harm) => {
                let (engine, why) = params.request(&resolved, harm).check(scene.view)?;
                warnings.extend(why);
                engine.name()
            }
        };
        Ok(Preflight {
            warnings,
            touches: vec![params.matching.in_words(params.direction, &resolved)],
            engine: Some(engine.to_owned()),
        })
    }

    fn apply(params: &LossParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<LossEffect, FaultError> {
        let resolved = params.matching.resolve_to_apply(params.direction, scene)?;
        let made = match (params.model().harm(scene.view), params.percent) {
            (Some(harm), _) => Some(params.request(&resolved, harm).begin(scene, levers)?),
            (None, Some(percent)) => {
                lose(params, percent, &resolved, levers)?;
                None
            }
            (None, None) => return Err(FaultError::Other("neither a share nor odds of losses are given".to_owned())),
        };
        Ok(LossEffect {
            injection: levers.context().injection.clone(),
            made,
            asked: params.asked(),
            resolved,
        })
    }

    fn observe(effect: &LossEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let counted = match &effect.made {
            Some(AppliedEngine::Path { .. }) => netem::counted(&effect.injection, view)?,
            Some(AppliedEngine::Queues { .. }) | None => view.traffic(&effect.injection)?,
        };
        Ok(effect
            .resolved
            .noted(view, observe_loss::lost(effect.asked, counted, view.boot_ms(), before)?))
    }

    fn names(params: &LossParams) -> Vec<String> {
        params.matching.names()
    }

    fn groups(effect: &LossEffect) -> Vec<String> {
        effect.resolved.groups()
    }

    fn follow(params: &LossParams, effect: LossEffect, answers: &Answers, levers: &mut Levers<'_>) -> Result<LossEffect, FaultError> {
        let resolved = params.matching.follow(&effect.resolved, answers, params.direction, levers)?;
        Ok(LossEffect { resolved, ..effect })
    }

    fn alive(effect: &LossEffect, view: &dyn HostView) -> Result<(), String> {
        match &effect.made {
            Some(made) => engine::still_there(&effect.injection, made, view),
            None => observe_partition::still_there(&effect.injection, view),
        }
    }

    fn work_as_ordered(order: &Value, control: &WorkControl) -> Result<(), FaultError> {
        engine::work(order, control)
    }
}

/// By what losses in bursts are made, beside the rules for single ones.
fn bursts(engine: &Ability) -> String {
    let why = engine.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match (&engine.engine, engine.can) {
        (_, Can::No) => format!("losses in bursts cannot be made{why}"),
        (Some(name), _) => format!("losses in bursts by {name}{why}"),
        (None, _) => format!("losses in bursts{why}"),
    }
}

fn lose(params: &LossParams, percent: Percent, resolved: &Resolved, levers: &mut Levers<'_>) -> Result<(), FaultError> {
    let per_million = (percent.0 * 10_000.0).round() as u32;
    let taken = levers.queues_taken()?;
    let lose = Lose::choose(&levers.context().injection, per_million, &taken);
    let lose = lose.ok_or_else(|| FaultError::Other("every packet queue of this host is read by somebody".to_owned()))?;
    let gate_ms = levers.context().gate_ms;
    levers.shape_traffic(&params.matching.spec(resolved, params.direction, Fate::Lose(lose), gate_ms))?;
    Ok(())
}
