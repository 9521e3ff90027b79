//! Whether the hypothesis looks where the fault acts: probes from an attacked host to addresses that the fault does not cover.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proto_model::id::HostName;
use proto_model::peer::{Network, Peer};
use proto_model::plan::{FaultStep, Hypothesis};
use proto_model::probe::{ProbeCheck, ProbeSpec, Prober};
use proto_model::schema::{is_peers, property};
use serde_json::Value;

use crate::addresses::{EXCEPT, networks, texts};
use crate::inventory::Inventory;

/// One note per probe and step; nothing where the probe asks by a name, which only the host can resolve.
pub(crate) fn notes(path: &str, step: &FaultStep, hypothesis: &Hypothesis, fleet: &Inventory<'_>) -> Vec<String> {
    let Some(cover) = Cover::of(step, fleet) else { return Vec::new() };
    let targets: BTreeSet<&HostName> = step.injections.iter().map(|injection| &injection.host).collect();
    let uncovered = |probe: &ProbeSpec| {
        let Prober::Hosts(probers) = &probe.from else { return None };
        let address = address_of(&probe.check)?;
        let own = |name: &HostName| fleet.named(name).is_some_and(|host| host.facts.addresses.contains(&address));
        let prober = probers.iter().find(|name| targets.contains(name) && !own(name))?;
        if address.is_loopback() || cover.holds(address) {
            return None;
        }
        Some(format!(
            "{path}: probe {} goes from {prober} to {address}, which {} does not cover: its answers show nothing of this fault",
            probe.name, step.fault
        ))
    };
    hypothesis.probes.iter().filter_map(uncovered).collect()
}

struct Cover {
    peers: Vec<Network>,
    any: bool,
    except: Vec<Network>,
}

impl Cover {
    /// None for a fault without peers, and for one with names among them: what those are only the host knows.
    fn of(step: &FaultStep, fleet: &Inventory<'_>) -> Option<Self> {
        let host = fleet.named(&step.injections.first()?.host)?;
        let schema = &fleet.catalogue(host)?.find(&step.fault)?.params;
        let params = step.params.as_object()?;
        let wanted = |key: &str| key != EXCEPT && property(schema, key).is_some_and(is_peers);
        let peers: Vec<&Value> = params.iter().filter(|(key, _)| wanted(key)).map(|(_, value)| value).collect();
        let named = |text: &str| matches!(Peer::parse(text), Ok(Peer::Name(_)));
        if peers.is_empty() || peers.iter().any(|value| texts(value).any(named)) {
            return None;
        }
        Some(Self {
            any: peers.iter().any(|value| texts(value).any(|text| text == "any")),
            peers: peers.iter().flat_map(|value| networks(value)).collect(),
            except: params.get(EXCEPT).map(networks).unwrap_or_default(),
        })
    }

    fn holds(&self, address: IpAddr) -> bool {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        (self.any || within(&self.peers)) && !within(&self.except)
    }
}

/// Where the probe connects to, when it says so by an address.
fn address_of(check: &ProbeCheck) -> Option<IpAddr> {
    let authority = proto_probes::find(&check.kind)?.authority(&check.params)?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => authority.rsplit_once(':').map_or(authority.as_str(), |(host, _)| host),
    };
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}
