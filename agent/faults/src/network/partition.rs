//! `network.partition`: cuts this host off from peers, in either direction or both; what is spared always passes, and the kernel ends it by itself.

use agent_levers::{Direction, Levers, PacketFate, Protocol};
use agent_view::{Features, HostView};
use proto_model::doctor::Ability;
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use proto_model::peer::Peer;
use proto_model::problem::{Problems, Refusal};
use proto_model::quantity::PortRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::matching::{self, Matching};
use super::resolved::Resolved;
use super::{cgroup_scope, observe_partition};
use crate::ability::{limited_without, needs, refuse_without};
use crate::claim::Claim;
use crate::fault::{Answers, Example, Fault, FaultError, Look, Preflight, Scene};

/// Which packets are cut, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct PartitionParams {
    #[serde(flatten)]
    matching: Matching,
    /// What becomes of the packets. `drop`: they vanish; a program that sends UDP or a ping from here is told at once that it may not.
    /// `reject`: new TCP connections are refused at once, the rest is answered with an ICMP error; established connections only stall.
    /// `reset`: every TCP connection is reset, the rest vanishes. Default drop.
    #[serde(default)]
    action: PacketFate,
    /// The way of the packets, seen from this host: `out`, `in` or `both`. Default both.
    #[serde(default)]
    direction: Direction,
}

/// What was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionEffect {
    injection: InjectionId,
    /// Addresses that the peers stood for when it began.
    #[serde(flatten)]
    resolved: Resolved,
}

pub(super) struct Partition;

impl Fault for Partition {
    const KIND: &'static str = "network.partition";
    const SUMMARY: &'static str = "cuts the network between this host and peers: packets vanish, are refused or reset";
    const ALIASES: &'static [&'static str] = &["blackhole", "network loss 100%", "disconnect", "isolate", "firewall", "block"];
    const MEASURED_BY: &'static str = "packets that met the rules, and packets of the same peers that came through all the same, counted late in the same hooks. Confirmed when at most 1 percent came through";
    const UNDONE_BY: &'static str = "removing the injection's rules and sets from our own nftables table; the kernel lets packets through by itself when the lease is not renewed";
    type Params = PartitionParams;
    type Effect = PartitionEffect;

    fn examples() -> Vec<Example<PartitionParams>> {
        let cut = |matching| PartitionParams {
            matching,
            action: PacketFate::Drop,
            direction: Direction::Both,
        };
        let port = |port| PortRange { first: port, last: port };
        vec![
            Example {
                says: "nothing to or from 192.0.2.10",
                params: cut(Matching::of(&["192.0.2.10"])),
            },
            Example {
                says: "a database that refuses connections, on its port only",
                params: PartitionParams {
                    action: PacketFate::Reject,
                    ..cut(Matching {
                        ports: vec![port(5432)],
                        protocol: Some(Protocol::Tcp),
                        ..Matching::of(&["192.0.2.0/24"])
                    })
                },
            },
            Example {
                says: "open connections of clients to this host's web ports are reset, but not those of one client",
                params: PartitionParams {
                    action: PacketFate::Reset,
                    ..cut(Matching {
                        local_ports: vec![port(80), port(443)],
                        except: Peer::parse("198.51.100.7").into_iter().collect(),
                        ..Matching::of(&["198.51.100.0/24"])
                    })
                },
            },
            Example {
                says: "answers of an IPv6 network get lost on their way here",
                params: PartitionParams {
                    direction: Direction::In,
                    ..cut(Matching::of(&["2001:db8::/32"]))
                },
            },
        ]
    }

    fn validate(params: &PartitionParams) -> Result<(), Problems> {
        params.matching.validate().into_result()
    }

    fn claims(params: &PartitionParams) -> Vec<Claim> {
        params.matching.claims(params.direction)
    }

    fn claims_here(params: &PartitionParams, view: &dyn HostView) -> Vec<Claim> {
        params.matching.claims_here(params.direction, view)
    }

    fn ability(host: &dyn Features) -> Ability {
        limited_without(needs(host, matching::NEEDS).by("nftables"), host, cgroup_scope::NEEDS)
    }

    fn preflight(params: &PartitionParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        refuse_without(scene.view, matching::NEEDS)?;
        let (resolved, mut warnings) = params.matching.preflight(params.direction, scene)?;
        warnings.extend(surprises(params));
        Ok(Preflight {
            warnings,
            touches: vec![params.matching.in_words(params.direction, &resolved)],
            engine: Some("nftables".to_owned()),
        })
    }

    fn apply(params: &PartitionParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<PartitionEffect, FaultError> {
        let resolved = params.matching.resolve_to_apply(params.direction, scene)?;
        let gate_ms = levers.context().gate_ms;
        levers.shape_traffic(&params.matching.spec(&resolved, params.direction, params.action.into(), gate_ms))?;
        Ok(PartitionEffect {
            injection: levers.context().injection.clone(),
            resolved,
        })
    }

    fn observe(effect: &PartitionEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        Ok(effect
            .resolved
            .noted(view, observe_partition::stopped(&effect.injection, view, before)?))
    }

    fn names(params: &PartitionParams) -> Vec<String> {
        params.matching.names()
    }

    fn groups(effect: &PartitionEffect) -> Vec<String> {
        effect.resolved.groups()
    }

    fn follow(
        params: &PartitionParams,
        effect: PartitionEffect,
        answers: &Answers,
        levers: &mut Levers<'_>,
    ) -> Result<PartitionEffect, FaultError> {
        let resolved = params.matching.follow(&effect.resolved, answers, params.direction, levers)?;
        Ok(PartitionEffect { resolved, ..effect })
    }

    fn alive(effect: &PartitionEffect, view: &dyn HostView) -> Result<(), String> {
        observe_partition::still_there(&effect.injection, view)
    }
}

/// What people did not expect.
fn surprises(params: &PartitionParams) -> Vec<String> {
    let only_without_tcp = params.matching.is_without_tcp();
    let mut warnings: Vec<&str> = Vec::new();
    match params.action {
        PacketFate::Reset if only_without_tcp => warnings.push("only tcp can be reset: these packets vanish, as with action drop"),
        PacketFate::Reset if params.matching.protocol.is_none() => warnings.push("only tcp is reset; other packets vanish"),
        PacketFate::Reject if !only_without_tcp => warnings.push("new connections are refused; established ones only stall"),
        PacketFate::Drop if only_without_tcp && params.direction.covers_out() => {
            warnings.push("a program that sends from this host is told at once that it may not, instead of waiting in vain");
        }
        _ => {}
    }
    warnings.into_iter().map(str::to_owned).collect()
}
