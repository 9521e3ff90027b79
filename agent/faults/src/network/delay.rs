//! `network.delay`: packets to or from peers take longer; none is lost by it, and the kernel ends it by itself.

use agent_levers::work::packets::{Delay as Hold, Distribution, Harm};
use agent_levers::{Direction, Levers};
use agent_privileges::CapabilitySet;
use agent_view::{Features, HostView};
use proto_model::doctor::Ability;
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::{Millis, Percent, PortRange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{self, Engine};
use super::matching::Matching;
use super::resolved::Resolved;
use super::shaping::{AppliedEngine, ShapingRequest};
use super::{cgroup_scope, netem, observe_delay};
use crate::ability::limited_without;
use crate::claim::Claim;
use crate::fault::{Answers, Example, Fault, FaultError, Look, Preflight, Scene};
use crate::work::WorkControl;

const LONGEST_MS: u64 = 60_000;

/// Which packets take longer, and by how much.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct DelayParams {
    #[serde(flatten)]
    matching: Matching,
    /// How much longer each packet takes, 1ms to 60s. Required.
    delay: Millis,
    /// How much the delay differs from packet to packet, 0s to the delay itself. Default 0s.
    #[serde(default)]
    jitter: Millis,
    /// How delays spread: `uniform` up to the jitter to either side, `normal` with the jitter as deviation, `pareto` with few that are very late.
    /// Default uniform.
    #[serde(default)]
    distribution: Distribution,
    /// How alike a packet's delay is to that of the packet before, in percent, 0 to 100. Default 0.
    #[serde(default = "none")]
    #[schemars(range(min = 0, max = 100), default = "none")]
    correlation: Percent,
    /// The way of the packets, seen from this host: `out`, `in` or `both`; both adds the delay twice to a round trip. Default out.
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

/// What was delayed, and by whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DelayEffect {
    injection: InjectionId,
    made: AppliedEngine,
    hold: Hold,
    direction: Direction,
    /// Addresses that the peers stand for.
    #[serde(flatten)]
    resolved: Resolved,
}

impl DelayParams {
    fn hold(&self) -> Hold {
        Hold {
            delay_us: self.delay.0 * 1_000,
            jitter_us: self.jitter.0 * 1_000,
            distribution: self.distribution,
            correlation: self.correlation.0 / 100.0,
        }
    }

    fn request<'a>(&'a self, resolved: &'a Resolved) -> ShapingRequest<'a> {
        ShapingRequest {
            matching: &self.matching,
            resolved,
            direction: self.direction,
            harm: Harm::Delay(self.hold()),
        }
    }
}

pub(super) struct Delay;

impl Fault for Delay {
    const KIND: &'static str = "network.delay";
    const SUMMARY: &'static str = "makes packets between this host and peers take longer";
    const ALIASES: &'static [&'static str] = &["latency", "lag", "slow network", "jitter", "netem delay"];
    const MEASURED_BY: &'static str = "round trips to one of the peers (echoes, or connections to a named port), timed by their own clock and compared with those from before. Confirmed when their median is within 2 ms and 5 percent of what was asked, and packets other than these met the fault; unknown when no peer can be timed";
    const UNDONE_BY: &'static str = "removing the injection's filters from the interfaces, waiting until its own link has let its last packet go, and removing that link (netem); or removing the injection's rules and sets from our own nftables table, after which its worker lets go of every packet that it holds and ends (packets). The interfaces' own queues are never touched, and the kernel lets packets through by itself when the lease is not renewed";
    const WORKER_KEEPS: CapabilitySet = engine::WORKER_KEEPS;
    type Params = DelayParams;
    type Effect = DelayEffect;

    fn examples() -> Vec<Example<DelayParams>> {
        let slow = |to: &[&str], ms| DelayParams {
            matching: Matching::of(to),
            delay: Millis(ms),
            jitter: Millis(0),
            distribution: Distribution::Uniform,
            correlation: none(),
            direction: Direction::Out,
        };
        vec![
            Example {
                says: "everything to 192.0.2.10 takes 100 ms longer",
                params: slow(&["192.0.2.10"], 100),
            },
            Example {
                says: "a database far away, over a line that is not steady",
                params: DelayParams {
                    matching: Matching {
                        ports: vec![PortRange { first: 5432, last: 5432 }],
                        ..Matching::of(&["192.0.2.10"])
                    },
                    jitter: Millis(20),
                    distribution: Distribution::Normal,
                    correlation: Percent(25.0),
                    ..slow(&[], 80)
                },
            },
            Example {
                says: "what comes from an IPv6 host arrives 50 ms late",
                params: DelayParams {
                    direction: Direction::In,
                    ..slow(&["2001:db8::20"], 50)
                },
            },
        ]
    }

    fn validate(params: &DelayParams) -> Result<(), Problems> {
        let mut problems = params.matching.validate();
        if !(1..=LONGEST_MS).contains(&params.delay.0) {
            problems.push(Problem::new("params.delay", format!("{} is out of range", params.delay)).allowed("1ms..60s"));
        }
        if params.jitter > params.delay {
            let problem = Problem::new("params.jitter", format!("{} is more than the delay", params.jitter));
            problems.push(problem.allowed(format!("0s..{}", params.delay)));
        }
        problems.into_result()
    }

    fn claims(params: &DelayParams) -> Vec<Claim> {
        params.matching.claims(params.direction)
    }

    fn claims_here(params: &DelayParams, view: &dyn HostView) -> Vec<Claim> {
        params.matching.claims_here(params.direction, view)
    }

    fn ability(host: &dyn Features) -> Ability {
        limited_without(Engine::ability(host), host, cgroup_scope::NEEDS)
    }

    fn preflight(params: &DelayParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let (resolved, mut warnings) = params.matching.preflight(params.direction, scene)?;
        let request = params.request(&resolved);
        let (engine, why) = request.check(scene.view)?;
        warnings.extend(why);
        if engine == Engine::Netem {
            warnings.extend(netem::untimed_warning(&request, scene));
        }
        warnings.extend(surprises(params, engine));
        Ok(Preflight {
            warnings,
            touches: vec![params.matching.in_words(params.direction, &resolved)],
            engine: Some(engine.name().to_owned()),
        })
    }

    fn apply(params: &DelayParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<DelayEffect, FaultError> {
        let resolved = params.matching.resolve_to_apply(params.direction, scene)?;
        let made = params.request(&resolved).begin(scene, levers)?;
        Ok(DelayEffect {
            injection: levers.context().injection.clone(),
            made,
            hold: params.hold(),
            direction: params.direction,
            resolved,
        })
    }

    fn observe(effect: &DelayEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        let asked = observe_delay::RequestedDelay {
            hold: effect.hold,
            direction: effect.direction,
        };
        let observed = match &effect.made {
            AppliedEngine::Path { timer, untimed, .. } => {
                netem::delayed(&effect.injection, timer.as_ref(), untimed.as_ref(), asked, view, before)
            }
            AppliedEngine::Queues { worker } => observe_delay::delayed(&effect.injection, worker, asked, view, before),
        };
        Ok(effect.resolved.noted(view, observed?))
    }

    fn names(params: &DelayParams) -> Vec<String> {
        params.matching.names()
    }

    fn groups(effect: &DelayEffect) -> Vec<String> {
        effect.resolved.groups()
    }

    fn follow(params: &DelayParams, effect: DelayEffect, answers: &Answers, levers: &mut Levers<'_>) -> Result<DelayEffect, FaultError> {
        let resolved = params.matching.follow(&effect.resolved, answers, params.direction, levers)?;
        Ok(DelayEffect { resolved, ..effect })
    }

    fn alive(effect: &DelayEffect, view: &dyn HostView) -> Result<(), String> {
        engine::still_there(&effect.injection, &effect.made, view)
    }

    fn work_as_ordered(order: &Value, control: &WorkControl) -> Result<(), FaultError> {
        engine::work(order, control)
    }
}

/// What people did not expect.
fn surprises(params: &DelayParams, engine: Engine) -> Vec<String> {
    let mut warnings = Vec::new();
    if !params.matching.is_without_tcp() {
        let times = if params.direction == Direction::Both { "six" } else { "three" };
        warnings.push(format!(
            "the delay is per packet: a new HTTPS connection and its first answer take {times} times {} longer",
            params.delay
        ));
    }
    if params.direction.covers_in() && engine == Engine::Packets {
        warnings
            .push("ping does not show a delay of what comes in: the kernel notes its time before; use a program's own clock".to_owned());
    }
    if params.jitter.0 > 0 && !params.matching.is_without_tcp() {
        warnings.push("packets overtake each other when their delays differ: TCP takes that for loss and slows down".to_owned());
    }
    warnings
}
