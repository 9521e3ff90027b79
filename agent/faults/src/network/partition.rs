//! `network.partition`: cuts this host off from peers, in either direction or both; what is spared always passes, and the kernel ends it by itself.

use agent_levers::{Direction, Levers, PacketFate, Protocol, TrafficSpec};
use agent_view::HostView;
use proto_model::id::InjectionId;
use proto_model::injection::Observation;
use proto_model::peer::{Network, Peer};
use proto_model::problem::{Problem, Problems, Refusal};
use proto_model::quantity::PortRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{observe, peers};
use crate::claim::{Claim, Narrowing, TrafficClaim};
use crate::fault::{Example, Fault, FaultError, Look, Preflight, Scene};

/// Peers that one injection may name.
const MAX_PEERS: usize = 1_000;

/// Which packets are cut, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionParams {
    /// The other side: 1 to 1000 of selectors of hosts (`role=cache`), networks (`10.0.0.0/8`, `2001:db8::1`), DNS names, `host:NAME` or `any`
    /// (at most 5 minutes). Required.
    #[schemars(length(min = 1, max = 1000))]
    to: Vec<Peer>,
    /// What becomes of the packets. `drop`: they vanish; a program that sends UDP or a ping from here is told at once that it may not.
    /// `reject`: new TCP connections are refused at once, the rest is answered with an ICMP error; established connections only stall.
    /// `reset`: every TCP connection is reset, the rest vanishes. Default drop.
    #[serde(default)]
    action: PacketFate,
    /// The way of the packets, seen from this host: `out`, `in` or `both`. Default both.
    #[serde(default)]
    direction: Direction,
    /// Only these TCP and UDP ports of the other side, 1 to 65535, single or as ranges such as `8000-8100`. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<PortRange>,
    /// Only these TCP and UDP ports of this host, 1 to 65535, single or as ranges such as `8000-8100`. Default all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    local_ports: Vec<PortRange>,
    /// Only this protocol: `tcp`, `udp` or `icmp` (of both IP versions). Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    /// Only packets that leave or arrive by this interface, such as `eth0`. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    /// Peers that are left alone although `to` covers them, written the same way. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except: Vec<Peer>,
}

/// What was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionEffect {
    injection: InjectionId,
    /// Addresses that the peers stood for when it began.
    peers: Vec<Network>,
    except: Vec<Network>,
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
        let cut = |to: &[&str]| PartitionParams {
            to: to.iter().filter_map(|text| Peer::parse(text).ok()).collect(),
            action: PacketFate::Drop,
            direction: Direction::Both,
            ports: Vec::new(),
            local_ports: Vec::new(),
            protocol: None,
            interface: None,
            except: Vec::new(),
        };
        let port = |port| PortRange { first: port, last: port };
        vec![
            Example {
                says: "nothing to or from 192.0.2.10",
                params: cut(&["192.0.2.10"]),
            },
            Example {
                says: "a database that refuses connections, on its port only",
                params: PartitionParams {
                    action: PacketFate::Reject,
                    ports: vec![port(5432)],
                    protocol: Some(Protocol::Tcp),
                    ..cut(&["192.0.2.0/24"])
                },
            },
            Example {
                says: "open connections of clients to this host's web ports are reset, but not those of one client",
                params: PartitionParams {
                    action: PacketFate::Reset,
                    local_ports: vec![port(80), port(443)],
                    except: Peer::parse("198.51.100.7").into_iter().collect(),
                    ..cut(&["198.51.100.0/24"])
                },
            },
            Example {
                says: "answers of an IPv6 network get lost on their way here",
                params: PartitionParams {
                    direction: Direction::In,
                    ..cut(&["2001:db8::/32"])
                },
            },
        ]
    }

    fn validate(params: &PartitionParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        for (path, peers, least) in [("params.to", &params.to, 1), ("params.except", &params.except, 0)] {
            if !(least..=MAX_PEERS).contains(&peers.len()) {
                let message = format!("names {} peers", peers.len());
                problems.push(Problem::new(path, message).allowed(format!("{least}..{MAX_PEERS} peers")));
            }
        }
        if params.except.contains(&Peer::Any) {
            problems.push(Problem::new("params.except", "excepts every peer, so nothing is left to cut"));
        }
        for (path, ports) in [("params.ports", &params.ports), ("params.local_ports", &params.local_ports)] {
            if params.protocol == Some(Protocol::Icmp) && !ports.is_empty() {
                problems.push(Problem::new(path, "icmp has no ports").allowed("protocol tcp or udp"));
            }
        }
        if params.interface.as_ref().is_some_and(|name| !is_interface_name(name)) {
            let problem = Problem::new("params.interface", "is not the name of an interface");
            problems.push(problem.allowed("1 to 15 characters without spaces and slashes"));
        }
        problems.into_result()
    }

    fn claims(params: &PartitionParams) -> Vec<Claim> {
        let narrowing = Narrowing {
            protocol: params.protocol,
            ports: params.ports.clone(),
            local_ports: params.local_ports.clone(),
            interface: params.interface.clone(),
        };
        TrafficClaim::of(&params.to, params.direction, &narrowing)
    }

    fn preflight(params: &PartitionParams, scene: &Scene<'_>) -> Result<Preflight, Refusal> {
        let (to, except) = resolved(params, scene.view)?;
        check_interface(params, scene)?;
        peers::check_any(&to, scene.duration_ms)?;
        let mut warnings = check_ports(params, scene)?;
        warnings.extend(peers::check_elsewhere(&to, scene)?);
        warnings.extend(peers::check_protected(&to, &except, scene)?);
        warnings.extend(surprises(params));
        Ok(Preflight {
            warnings,
            touches: vec![in_words(params, &to)],
            engine: Some("nftables".to_owned()),
        })
    }

    fn apply(params: &PartitionParams, scene: &Scene<'_>, levers: &mut Levers<'_>) -> Result<PartitionEffect, FaultError> {
        let (peers, except) = resolved(params, scene.view).map_err(|refusal| FaultError::Other(refusal.to_string()))?;
        let spec = TrafficSpec {
            peers: peers.clone(),
            except: except.clone(),
            ports: params.ports.clone(),
            local_ports: params.local_ports.clone(),
            protocol: params.protocol,
            interface: params.interface.clone(),
            direction: params.direction,
            fate: params.action,
            gate_ms: levers.context().gate_ms,
        };
        levers.shape_traffic(&spec)?;
        Ok(PartitionEffect {
            injection: levers.context().injection.clone(),
            peers,
            except,
        })
    }

    fn observe(effect: &PartitionEffect, view: &dyn HostView, before: Option<&Look>) -> Result<(Option<Observation>, Look), FaultError> {
        observe::stopped(&effect.injection, view, before)
    }

    fn alive(effect: &PartitionEffect, view: &dyn HostView) -> Result<(), String> {
        observe::still_there(&effect.injection, view)
    }
}

fn resolved(params: &PartitionParams, view: &dyn HostView) -> Result<(Vec<Network>, Vec<Network>), Refusal> {
    Ok((
        peers::resolve("params.to", &params.to, view)?,
        peers::resolve("params.except", &params.except, view)?,
    ))
}

fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || c == '/')
}

fn check_interface(params: &PartitionParams, scene: &Scene<'_>) -> Result<(), Refusal> {
    let Some(name) = &params.interface else { return Ok(()) };
    if let Some(why) = scene.protection.interface(name) {
        return Err(Refusal::new("protected", "params.interface", format!("{name} is protected: {why}")));
    }
    let known = scene
        .view
        .interfaces()
        .map_err(|error| Refusal::new("unreadable", "params.interface", format!("{error}: {}", error.source)))?;
    if known.contains(name) {
        return Ok(());
    }
    let refusal = Refusal::new("no_match", "params.interface", format!("this host has no interface {name}"));
    Err(refusal.allowed(known.join(", ")))
}

/// A protected port that is named alone is refused; within a range it is spared, and said so.
fn check_ports(params: &PartitionParams, scene: &Scene<'_>) -> Result<Vec<String>, Refusal> {
    let mut warnings = Vec::new();
    for (path, ranges) in [("params.ports", &params.ports), ("params.local_ports", &params.local_ports)] {
        for range in ranges {
            let mut protected = (range.first..=range.last).filter_map(|port| Some((port, scene.protection.port(port)?)));
            let Some((port, why)) = protected.next() else { continue };
            if range.first == range.last {
                return Err(Refusal::new("protected", path, format!("port {port} is protected: {why}")));
            }
            let more = match protected.count() {
                0 => String::new(),
                others => format!(", and {others} more of {range}"),
            };
            warnings.push(format!("port {port} is spared: {why}{more}"));
        }
    }
    Ok(warnings)
}

/// What people did not expect.
fn surprises(params: &PartitionParams) -> Vec<String> {
    let only_without_tcp = matches!(params.protocol, Some(Protocol::Udp | Protocol::Icmp));
    let mut warnings: Vec<&str> = Vec::new();
    match params.action {
        PacketFate::Reset if only_without_tcp => warnings.push("only tcp can be reset: these packets vanish, as with action drop"),
        PacketFate::Reset if params.protocol.is_none() => warnings.push("only tcp is reset; other packets vanish"),
        PacketFate::Reject if !only_without_tcp => warnings.push("new connections are refused; established ones only stall"),
        PacketFate::Drop if only_without_tcp && params.direction.covers_out() => {
            warnings.push("a program that sends from this host is told at once that it may not, instead of waiting in vain");
        }
        _ => {}
    }
    warnings.into_iter().map(str::to_owned).collect()
}

/// Names of peers that a line may hold.
const NAMED: usize = 8;

fn in_words(params: &PartitionParams, to: &[Network]) -> String {
    let way = match params.direction {
        Direction::Out => "to",
        Direction::In => "from",
        Direction::Both => "to and from",
    };
    let list = |ranges: &[PortRange]| ranges.iter().map(PortRange::to_string).collect::<Vec<_>>().join(", ");
    let mut words = vec![format!("packets {way} {}", named(to))];
    if !params.except.is_empty() {
        let except: Vec<String> = params.except.iter().take(NAMED).map(Peer::to_string).collect();
        words.push(format!("except {}", except.join(", ")));
    }
    match params.protocol {
        Some(Protocol::Tcp) => words.push("tcp only".to_owned()),
        Some(Protocol::Udp) => words.push("udp only".to_owned()),
        Some(Protocol::Icmp) => words.push("icmp only".to_owned()),
        None => {}
    }
    if !params.ports.is_empty() {
        words.push(format!("remote ports {}", list(&params.ports)));
    }
    if !params.local_ports.is_empty() {
        words.push(format!("local ports {}", list(&params.local_ports)));
    }
    words.extend(params.interface.iter().map(|name| format!("by {name}")));
    words.join("; ")
}

fn named(networks: &[Network]) -> String {
    let first: Vec<String> = networks.iter().take(NAMED).map(Network::to_string).collect();
    match networks.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
