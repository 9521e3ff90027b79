//! Peers as networks: names are resolved on this host, and what would cut the host off from what it needs is told; it changes nothing.

use std::net::IpAddr;

use agent_view::HostView;
use proto_model::peer::{Network, Peer};
use proto_model::problem::Refusal;

use crate::fault::Scene;

/// Where the kernel lists what is mounted.
const MOUNTS: &str = "/proc/thread-self/mountinfo";
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
    network.prefix <= WIDEST_PREFIX
}

const WIDEST_PREFIX: u8 = 3;
/// All networks of one family together count as `any` from this share of its addresses on: an eighth of IPv4, as one /3.
const ANY_V4: u128 = 1 << (32 - WIDEST_PREFIX);
/// An eighth of the public IPv6 internet, which is an eighth of all IPv6 itself: as one /6.
const ANY_V6: u128 = 1 << (128 - 2 * WIDEST_PREFIX);

/// Whether the networks together are so wide that they count as `any`; addresses that several of them hold count once.
fn cover_everything(networks: &[Network]) -> bool {
    let share = |v4: bool| -> u128 {
        let of_family = || networks.iter().filter(|network| network.address.is_ipv4() == v4);
        let within_another = |network: &&Network| of_family().any(|other| other.prefix < network.prefix && is_within(network, other));
        let mut widest: Vec<&Network> = of_family().filter(|network| !within_another(network)).collect();
        widest.sort_unstable();
        widest.dedup();
        let bits = if v4 { 32 } else { 128 };
        let addresses = |network: &Network| 1_u128.checked_shl(bits - u32::from(network.prefix)).unwrap_or(u128::MAX);
        widest.into_iter().map(addresses).fold(0, u128::saturating_add)
    };
    share(true) >= ANY_V4 || share(false) >= ANY_V6
}

fn is_within(inner: &Network, outer: &Network) -> bool {
    outer.contains(inner.address) && outer.prefix <= inner.prefix
}

/// What no network fault may cover, refused where it is not known: a cut of a network mount that was not seen hangs the host.
pub(super) fn protected_networks(scene: &Scene<'_>) -> Result<Vec<Network>, Refusal> {
    scene.protection.networks().map_err(|why| mounts_unreadable(&why))
}

fn mounts_unreadable(why: &str) -> Refusal {
    let message = format!(
        "the mounts of this host cannot be read: {why}; network mounts must stay reachable, so no network fault starts until the agent can read {MOUNTS}"
    );
    Refusal::new("unreadable", "params.to", message)
}

/// Refuses peers that the host may not lose; those under `any`, or excepted, are spared and only told of.
pub(super) fn check_protected(to: &[Network], except: &[Network], scene: &Scene<'_>) -> Result<Vec<String>, Refusal> {
    let mounts = scene.view.network_mount_addresses();
    let mounts = mounts
        .map_err(|error| mounts_unreadable(&format!("{error}: {}", error.source)))?
        .into_iter()
        .map(|address| (Network::host(address), "a network mount of this host is served from there"));
    let protected = protected_networks(scene)?
        .into_iter()
        .map(|network| (network, "it is protected on this host"));
    let mut exemptions: Vec<String> = Vec::new();
    for (network, why) in mounts.chain(protected) {
        if except.iter().any(|excepted| is_within(&network, excepted)) {
            continue;
        }
        for peer in to.iter().filter(|peer| meet(peer, &network)) {
            if !is_any(peer) {
                let message = format!("{peer} covers {network}: {why}; name it in except to leave it out");
                return Err(Refusal::new("protected", "params.to", message));
            }
            exemptions.push(format!("{network} is spared: {why}"));
        }
    }
    exemptions.sort_unstable();
    exemptions.dedup();
    Ok(exemptions)
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
    if duration_ms <= ANY_MAX_MS || !cover_everything(to) {
        return Ok(());
    }
    let message = "a fault on any peer, or on networks that together are as wide as /3 (IPv6: /6), may last at most 5 minutes".to_owned();
    Err(Refusal::new("policy", "duration", message).allowed("1s..5m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[String]) -> Vec<Network> {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    #[test]
    fn networks_that_together_are_everything_are_bounded_as_any_is() {
        let whole: Vec<String> = (0..16).map(|n| format!("{}.0.0.0/4", n * 16)).collect();
        let internet6: Vec<String> = (0..8).map(|n| format!("{:x}::/6", 0x2000 + n * 0x400)).collect();
        let text = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<String>>();
        for (to, bounded) in [
            (whole, true),
            (internet6, true),
            (text(&["0.0.0.0/1"]), true),
            (text(&["0.0.0.0/4", "16.0.0.0/5", "24.0.0.0/5"]), true),
            (text(&["2000::/7", "2200::/7"]), true),
            (text(&["::/0"]), true),
            // What lies in another one adds nothing.
            (text(&["0.0.0.0/4", "1.0.0.0/8", "2.0.0.0/7", "2.0.0.0/7"]), false),
            (text(&["0.0.0.0/4"]), false),
            (text(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"]), false),
        ] {
            let to = networks(&to);
            assert_eq!(check_any(&to, ANY_MAX_MS + 1).is_err(), bounded, "{to:?}");
            assert!(check_any(&to, ANY_MAX_MS).is_ok(), "{to:?}");
        }
    }
}
