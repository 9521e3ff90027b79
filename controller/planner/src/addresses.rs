//! Peers of network faults: labels and host names become the addresses by which those hosts are reached. Names stay names.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use proto_model::host::Host;
use proto_model::peer::{Network, Peer};
use proto_model::problem::Problem;
use proto_model::schema::{is_peers, property};
use serde_json::{Map, Value};

use crate::experiment::WishedTarget;
use crate::inventory::Inventory;
use crate::reach::{Holders, Reach, Unreachable};
use crate::refusal::PlanRefusal;
use crate::targets::{facts_allowed, no_targets};

/// The parameter whose peers are left out of all the others.
pub(crate) const EXCEPT: &str = "except";

/// Replaces peers in every parameter that the schema marks as such; says in `notes` what they became.
pub(crate) fn resolve(
    step: &str,
    schema: &Value,
    params: &mut Map<String, Value>,
    environment: &str,
    fleet: &Inventory<'_>,
    notes: &mut Vec<String>,
) -> Result<(), PlanRefusal> {
    let is_wanted = |key: &str| property(schema, key).is_some_and(is_peers);
    let mut except = Vec::new();
    if let Some(value) = params.get_mut(EXCEPT).filter(|_| is_wanted(EXCEPT)) {
        let book = Book::new(step, EXCEPT, environment, fleet, &[]);
        *value = book.replaced(value, notes)?;
        except = networks(value);
    }
    for (key, value) in params.iter_mut().filter(|(key, _)| *key != EXCEPT && is_wanted(key)) {
        let book = Book::new(step, key, environment, fleet, &except);
        *value = book.replaced(value, notes)?;
    }
    Ok(())
}

/// The networks among resolved peers.
pub(crate) fn networks(peers: &Value) -> Vec<Network> {
    texts(peers).filter_map(Network::parse).collect()
}

/// One peer, or a list of them.
pub(crate) fn texts(peers: &Value) -> impl Iterator<Item = &str> {
    let list = peers.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(peers));
    list.iter().filter_map(Value::as_str)
}

struct Book<'a> {
    path: String,
    environment: &'a str,
    fleet: &'a Inventory<'a>,
    except: &'a [Network],
    /// Made for the first peer that needs it: it looks at every host.
    holders: OnceCell<Holders<'a>>,
}

impl<'a> Book<'a> {
    fn new(step: &str, key: &str, environment: &'a str, fleet: &'a Inventory<'a>, except: &'a [Network]) -> Self {
        Self {
            path: format!("{step}.params.{key}"),
            environment,
            fleet,
            except,
            holders: OnceCell::new(),
        }
    }

    fn replaced(&self, value: &Value, notes: &mut Vec<String>) -> Result<Value, PlanRefusal> {
        Ok(match value {
            Value::Array(items) => Value::Array(self.all(items, notes)?),
            Value::String(_) => self.only(value, notes)?,
            other => other.clone(),
        })
    }

    /// Every peer of a list, in its order, each address once.
    fn all(&self, items: &[Value], notes: &mut Vec<String>) -> Result<Vec<Value>, PlanRefusal> {
        let mut peers: Vec<Value> = Vec::new();
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            for text in self.one(&format!("{}[{i}]", self.path), item, notes)? {
                if seen.insert(text.clone()) {
                    peers.push(Value::String(text));
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
        let hosts: Vec<&'a Host> = matching
            .filter(|host| self.fleet.environment_of(host) == self.environment)
            .collect();
        if !hosts.is_empty() {
            return Ok(hosts);
        }
        let mut refusal = no_targets(path, on, self.fleet);
        refusal.error.code = "peers".into();
        let message = format!("no host of {} matches the peer {}", self.environment, on.text());
        for problem in &mut refusal.error.problems {
            problem.message.clone_from(&message);
        }
        refusal.error.message = refusal.error.problems.iter().map(Problem::to_string).collect();
        Err(refusal)
    }

    fn addresses(&self, path: &str, text: &str, hosts: &[&'a Host], notes: &mut Vec<String>) -> Result<Vec<String>, PlanRefusal> {
        let holders = self.holders.get_or_init(|| Holders::new(self.fleet.known()));
        let mut all = BTreeSet::new();
        for host in hosts {
            let reach = Reach::of(host, self.except, holders).map_err(|why| unreachable(path, host, why))?;
            notes.push(format!("{path}: {text} is {} ({})", host.name, reach.in_words()));
            all.extend(reach.used);
        }
        if all.is_empty() {
            return Err(refuse(path, format!("{text} is left out entirely by {EXCEPT}")));
        }
        Ok(all.into_iter().map(|address| Network::host(address).to_string()).collect())
    }
}

fn unreachable(path: &str, host: &Host, why: Unreachable) -> PlanRefusal {
    match why {
        Unreachable::NoAddress => refuse(path, format!("host {} has reported no address", host.name)),
        Unreachable::NothingLeft(left_out) => {
            let message = format!("host {} has no address by which it alone is reached: {left_out}", host.name);
            refuse(path, message)
        }
        Unreachable::Clash(address, other) => {
            let refusal = refuse(path, format!("{address} is claimed by two hosts, {} and {other}", host.name));
            [&host.name, &other]
                .iter()
                .fold(refusal, |refusal, name| refusal.host(name, "peers", format!("claims {address}")))
        }
    }
}

fn refuse(path: &str, message: String) -> PlanRefusal {
    PlanRefusal::problem("peers", Problem::new(path, message))
}
