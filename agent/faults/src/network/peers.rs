//! Peers as networks: names are resolved on this host, and what would cut the host off from what it needs is told; it changes nothing.

use std::net::IpAddr;

use agent_view::HostView;
use proto_model::peer::{Network, Peer};
use proto_model::problem::Refusal;

use crate::fault::Scene;

/// A fault on every peer may last so long.
const ANY_MAX_MS: u64 = 5 * 60 * 1_000;

/// The networks that the peers at `path` stand for, sorted, each once.
pub(super) fn resolve(
    path: &str,
    peers: &[Peer],
    look_up: &mut dyn FnMut(&str) -> Result<Vec<IpAddr>, String>,
) -> Result<Vec<Network>, Refusal> {
    let mut networks = Vec::new();
    for peer in peers {
        match peer {
            Peer::Any => networks.extend(everything()),
            Peer::Network(network) => networks.push(*network),
            Peer::Name(name) => {
                let addresses = look_up(name).map_err(|why| Refusal::new("no_match", path, why))?;
                networks.extend(addresses.into_iter().map(|address| Network::host(address.to_canonical())));
            }
            Peer::Host(_) | Peer::Labels(_) => {
                let message = format!("{peer} was not replaced by addresses: only the controller knows which hosts it means");
                return Err(Refusal::new("invalid_params", path, message).allowed("networks, DNS names or any"));
            }
        }
    }
    networks.sort_unstable();
    networks.dedup();
    Ok(networks)
}

fn everything() -> impl Iterator<Item = Network> {
    ["0.0.0.0/0", "::/0"].into_iter().filter_map(Network::parse)
}

/// The names of one injection may take so long together: whoever looks them up keeps others waiting.
const LOOK_UP_MS: u64 = 2_000;

/// [`look_up`] for several names, which gives up on those that are left when the first took too long.
pub(super) fn patient_look_up(view: &dyn HostView) -> impl Fn(&str) -> Result<Vec<IpAddr>, String> {
    let began = view.boot_ms();
    move |name| {
        if view.boot_ms().saturating_sub(began) >= LOOK_UP_MS {
            return Err(format!(
                "{name} was not looked up: the names before it took {} s",
                LOOK_UP_MS / 1_000
            ));
        }
        look_up(name, view)
    }
}

/// At least one address, or why there is none.
fn look_up(name: &str, view: &dyn HostView) -> Result<Vec<IpAddr>, String> {
    match view.resolve(name) {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(format!("{name} resolves to no address on this host")),
        Err(error) => Err(format!("{name} does not resolve on this host: {}", error.source)),
    }
}

fn meet(a: &Network, b: &Network) -> bool {
    a.contains(b.address) || b.contains(a.address)
}

/// So wide that it counts as `any`: an eighth of all addresses or more (2000::/3 is the whole public IPv6 internet).
fn is_any(network: &Network) -> bool {
    network.prefix <= 3
}

fn is_within(inner: &Network, outer: &Network) -> bool {
    outer.contains(inner.address) && outer.prefix <= inner.prefix
}

/// Refuses peers that the host may not lose; those under `any`, or excepted, are spared and only told of.
pub(super) fn check_protected(to: &[Network], except: &[Network], scene: &Scene<'_>) -> Result<Vec<String>, Refusal> {
    let mounts = scene.view.network_mount_addresses().unwrap_or_default();
    let mounts = mounts
        .into_iter()
        .map(|address| (Network::host(address), "a network mount of this host is served from there"));
    let protected = scene
        .protection
        .networks()
        .into_iter()
        .map(|network| (network, "it is protected on this host"));
    let mut spared: Vec<String> = Vec::new();
    for (network, why) in mounts.chain(protected) {
        if except.iter().any(|excepted| is_within(&network, excepted)) {
            continue;
        }
        for peer in to.iter().filter(|peer| meet(peer, &network)) {
            if !is_any(peer) {
                let message = format!("{peer} covers {network}: {why}; name it in except to leave it out");
                return Err(Refusal::new("protected", "params.to", message));
            }
            spared.push(format!("{network} is spared: {why}"));
        }
    }
    spared.sort_unstable();
    spared.dedup();
    Ok(spared)
}

/// Refuses a fault that could meet no packet, since loopback and the host's own addresses are always spared.
pub(super) fn check_elsewhere(to: &[Network], scene: &Scene<'_>) -> Result<Vec<String>, Refusal> {
    let own: Vec<Network> = scene.view.facts().addresses.into_iter().map(Network::host).collect();
    let loopback = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(Network::parse);
    let here: Vec<Network> = loopback.chain(own).collect();
    let (local, remote): (Vec<&Network>, Vec<&Network>) = to.iter().partition(|peer| here.iter().any(|h| is_within(peer, h)));
    if remote.is_empty() {
        let names: Vec<String> = local.iter().map(|network| network.to_string()).collect();
        let message = format!("{} is this host itself, which no network fault touches", names.join(", "));
        return Err(Refusal::new("no_match", "params.to", message));
    }
    Ok(local
        .iter()
        .map(|network| format!("{network} is this host itself and is spared"))
        .collect())
}

/// Refuses a fault on every peer that would last too long.
pub(super) fn check_any(to: &[Network], duration_ms: u64) -> Result<(), Refusal> {
    if !to.iter().any(is_any) || duration_ms <= ANY_MAX_MS {
        return Ok(());
    }
    let message = "a fault on any peer, or on networks as wide as /3, may last at most 5 minutes".to_owned();
    Err(Refusal::new("policy", "duration", message).allowed("1s..5m"))
}
