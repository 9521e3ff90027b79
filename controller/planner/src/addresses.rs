//! Peers of network faults: labels and host names become the addresses that those hosts reported. Names stay names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proto_model::host::{Connection, Host};
use proto_model::peer::{Network, Peer};
use proto_model::problem::Problem;
use serde_json::{Map, Value};

use crate::experiment::WishedTarget;
use crate::inventory::Inventory;
use crate::refusal::PlanRefusal;
use crate::schema::{is_peers, property};
use crate::targets::{facts_allowed, no_targets};

/// Replaces peers in every parameter that the schema marks as such; says in `notes` what they became.
pub(crate) fn resolve(
    step: &str,
    schema: &Value,
    params: &mut Map<String, Value>,
    environment: &str,
    fleet: &Inventory<'_>,
    notes: &mut Vec<String>,
) -> Result<(), PlanRefusal> {
    for (key, value) in params {
        if !property(schema, key).is_some_and(is_peers) {
            continue;
        }
        let book = Book {
            path: format!("{step}.params.{key}"),
            environment,
            fleet,
        };
        *value = match &*value {
            Value::Array(items) => Value::Array(book.all(items, notes)?),
            Value::String(_) => book.only(value, notes)?,
            other => other.clone(),
        };
    }
    Ok(())
}

struct Book<'a> {
    path: String,
    environment: &'a str,
    fleet: &'a Inventory<'a>,
}

impl<'a> Book<'a> {
    /// Every peer of a list, in its order, each address once.
    fn all(&self, items: &[Value], notes: &mut Vec<String>) -> Result<Vec<Value>, PlanRefusal> {
        let mut peers: Vec<Value> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            for text in self.one(&format!("{}[{i}]", self.path), item, notes)? {
                let text = Value::String(text);
                if !peers.contains(&text) {
                    peers.push(text);
                }
            }
        }
        Ok(peers)
    }

    fn only(&self, item: &Value, notes: &mut Vec<String>) -> Result<Value, PlanRefusal> {
        let mut texts = self.one(&self.path, item, notes)?;
        if texts.len() == 1 {
            return Ok(Value::String(texts.remove(0)));
        }
        let problem = Problem::new(&self.path, format!("{item} stands for {} addresses", texts.len())).allowed("one address");
        Err(PlanRefusal::problem("peers", problem))
    }

    fn one(&self, path: &str, item: &Value, notes: &mut Vec<String>) -> Result<Vec<String>, PlanRefusal> {
        let text = item.as_str().unwrap_or_default();
        let peer = Peer::parse(text).map_err(|why| PlanRefusal::problem("invalid_params", Problem::new(path, why)))?;
        let hosts = match &peer {
            Peer::Any | Peer::Network(_) | Peer::Name(_) => return Ok(vec![peer.to_string()]),
            Peer::Host(name) => self.named(path, name)?,
            Peer::Labels(selector) => {
                facts_allowed(path, selector, self.environment, self.fleet)?;
                let on = WishedTarget {
                    selectors: vec![selector.clone()],
                    pick: None,
                };
                self.matching(path, &on)?
            }
        };
        self.addresses(path, text, &hosts, notes)
    }

    fn named(&self, path: &str, name: &proto_model::id::HostName) -> Result<Vec<&'a Host>, PlanRefusal> {
        match self.fleet.named(name) {
            Some(host) if self.fleet.environment_of(host) == self.environment => Ok(vec![host]),
            Some(host) => {
                let message = format!(
                    "{name} is of {}, the plan is of {}",
                    self.fleet.environment_of(host),
                    self.environment
                );
                Err(PlanRefusal::problem("environment", Problem::new(path, message)))
            }
            None => Err(refuse(path, format!("there is no host named {name}"))),
        }
    }

    fn matching(&self, path: &str, on: &WishedTarget) -> Result<Vec<&'a Host>, PlanRefusal> {
        let matching = self.fleet.known().filter(|host| on.matches(host));
        let mut hosts: Vec<&'a Host> = matching
            .filter(|host| self.fleet.environment_of(host) == self.environment)
            .collect();
        if hosts.is_empty() {
            let mut refusal = no_targets(path, on, self.fleet);
            refusal.error.code = "peers".into();
            let message = format!("no host of {} matches the peer {}", self.environment, on.text());
            for problem in &mut refusal.error.problems {
                problem.message.clone_from(&message);
            }
            refusal.error.message = refusal.error.problems.iter().map(Problem::to_string).collect();
            return Err(refusal);
        }
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(hosts)
    }

    fn addresses(&self, path: &str, text: &str, hosts: &[&Host], notes: &mut Vec<String>) -> Result<Vec<String>, PlanRefusal> {
        let mut all: BTreeMap<IpAddr, ()> = BTreeMap::new();
        for host in hosts {
            if host.facts.addresses.is_empty() {
                return Err(refuse(path, format!("host {} has reported no address", host.name)));
            }
            for address in &host.facts.addresses {
                self.nobody_else_claims(path, host, *address)?;
                all.insert(*address, ());
            }
            let lost = if host.connection == Connection::Lost {
                ", not connected: as it last reported"
            } else {
                ""
            };
            let session = host
                .source_address
                .as_ref()
                .map(|a| format!(", session from {a}"))
                .unwrap_or_default();
            notes.push(format!(
                "{path}: {text} is {} ({}{session}{lost})",
                host.name,
                in_words(&host.facts.addresses)
            ));
        }
        Ok(all.into_keys().map(|address| Network::host(address).to_string()).collect())
    }

    /// An address that two hosts report means neither: a fault toward one would hit the other.
    fn nobody_else_claims(&self, path: &str, host: &Host, address: IpAddr) -> Result<(), PlanRefusal> {
        let mut others: Vec<&Host> = self
            .fleet
            .known()
            .filter(|other| other.name != host.name && other.facts.addresses.contains(&address))
            .collect();
        others.sort_by(|a, b| a.name.cmp(&b.name));
        let Some(other) = others.first() else { return Ok(()) };
        let message = format!("{address} is claimed by two hosts, {} and {}", host.name, other.name);
        let refusal = refuse(path, message);
        Err([host, other]
            .iter()
            .fold(refusal, |refusal, h| refusal.host(&h.name, "peers", format!("claims {address}"))))
    }
}

fn in_words(addresses: &[IpAddr]) -> String {
    let mut sorted = addresses.to_vec();
    sorted.sort_unstable();
    let words: Vec<String> = sorted.iter().map(IpAddr::to_string).collect();
    words.join(", ")
}

fn refuse(path: &str, message: String) -> PlanRefusal {
    PlanRefusal::problem("peers", Problem::new(path, message))
}
