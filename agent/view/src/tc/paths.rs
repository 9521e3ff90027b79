//! Reads what the kernel holds of ours: links, filters, marks, counters and deadlines; it moves none of them.

use std::io;

use proto_model::id::InjectionId;
use proto_model::peer::Network;

use super::bpf::{Map, Program};
use super::listing::{self, CLSACT_PARENT, Filter, Link, Queue, ROOT};
use super::shaped::{Clsact, PathCounters, PathInterface, PathThing};
use super::socket::{Route, RouteError};
use super::{names, routes};
use crate::clock::boot_ms;
use crate::error::ViewError;

/// The map that holds an injection's deadline, in nanoseconds since boot.
pub const DEADLINE_MAP: &str = "fracas_deadline";
const NS_PER_MS: u64 = 1_000_000;
/// The queues that we give to our links.
const SHAPERS: [&str; 2] = ["netem", "tbf"];

/// Everything of ours in this network namespace.
pub fn our_paths() -> Result<Vec<PathThing>, ViewError> {
    look("what we shape packets with", |kernel| {
        let links = listing::links(kernel)?;
        let ours = links.iter().filter(|link| link.is_ours());
        let mut things: Vec<PathThing> = ours.map(|link| PathThing::Link { name: link.name.clone() }).collect();
        for index in listing::links_with_hooks(kernel)? {
            let Some(link) = links.iter().find(|link| link.index == index) else {
                continue;
            };
            things.extend(things_on(&link.name, &listing::filters(kernel, index)?));
        }
        things.sort();
        things.dedup();
        Ok(things)
    })
}

fn things_on(interface: &str, filters: &[Filter]) -> Vec<PathThing> {
    let mut users: Vec<InjectionId> = filters.iter().filter_map(Filter::injection).collect();
    users.sort();
    users.dedup();
    let of = |injection: &InjectionId| PathThing::Filter {
        injection: injection.clone(),
        interface: interface.to_owned(),
    };
    let mut things: Vec<PathThing> = users.iter().map(of).collect();
    if filters.iter().any(Filter::is_mark) {
        let interface = interface.to_owned();
        things.push(PathThing::Clsact { interface, users });
    }
    things
}

/// What the kernel counted for an injection; `None` when it has neither link nor filter.
pub fn counters(injection: &InjectionId) -> Result<Option<PathCounters>, ViewError> {
    look(&format!("the shaped path of {injection}"), |kernel| {
        let links = listing::links(kernel)?;
        let queues = listing::queues(kernel)?;
        let name = names::link_of(injection);
        let link = links.iter().find(|link| link.is_ours() && link.name == name);
        let filters = filters_of(kernel, injection)?;
        if link.is_none() && filters.is_empty() {
            return Ok(None);
        }
        let queue = link.and_then(|link| queues.iter().find(|q| q.link == link.index && q.parent == ROOT));
        let deadline = deadline(&filters).unwrap_or(None);
        Ok(Some(PathCounters {
            led_packets: filters.iter().map(|f| f.packets).sum(),
            led_bytes: filters.iter().map(|f| f.bytes).sum(),
            passed_packets: queue.map_or(0, |q| q.sent_packets),
            dropped_packets: queue.map_or(0, |q| q.dropped),
            waiting_packets: queue.map_or(0, |q| q.waiting.into()),
            shaped: queue.is_some_and(|q| SHAPERS.contains(&q.kind.as_str())),
            filters: filters.len(),
            gate_open: deadline.is_some_and(|(_, at_ns)| at_ns / NS_PER_MS > boot_ms()),
        }))
    })
}

/// The injection's filters on every link.
pub fn filters_of(kernel: &mut Route, injection: &InjectionId) -> Result<Vec<Filter>, RouteError> {
    let mut found = Vec::new();
    for link in listing::links_with_hooks(kernel)? {
        let filters = listing::filters(kernel, link)?;
        found.extend(filters.into_iter().filter(|f| f.injection().as_ref() == Some(injection)));
    }
    Ok(found)
}

/// The map with the injection's deadline, and what it says now in nanoseconds since boot; `None` without a filter.
pub fn deadline_of(injection: &InjectionId) -> Result<Option<(Map, u64)>, ViewError> {
    let filters = look(&format!("the filters of {injection}"), |kernel| filters_of(kernel, injection))?;
    deadline(&filters).map_err(|error| ViewError::new(format!("the deadline of {injection}"), error))
}

fn deadline(filters: &[Filter]) -> io::Result<Option<(Map, u64)>> {
    let Some(program) = filters.iter().find_map(|filter| filter.program) else {
        return Ok(None);
    };
    let maps = Program::by_id(program)?.maps()?;
    let Some((_, map)) = maps.into_iter().find(|(name, _)| name == DEADLINE_MAP) else {
        return Ok(None);
    };
    let value = map.get(&0_u32.to_ne_bytes())?;
    let at_ns = value.and_then(|bytes| Some(u64::from_ne_bytes(bytes.try_into().ok()?)));
    Ok(at_ns.map(|at_ns| (map, at_ns)))
}

/// The interfaces that packets of these networks pass, or the named one. Loopback and links of ours never are.
pub fn interfaces_to(peers: &[Network], named: Option<&str>) -> Result<Vec<PathInterface>, ViewError> {
    look("the interfaces that lead to the peers", |kernel| {
        let links = listing::links(kernel)?;
        let queues = listing::queues(kernel)?;
        let wanted = match named {
            Some(name) => links.iter().filter(|link| link.name == name).map(|link| link.index).collect(),
            None => routes::links_to(kernel, peers)?,
        };
        let passed = links
            .iter()
            .filter(|link| wanted.contains(&link.index) && !link.loopback && !link.is_ours());
        passed.map(|link| interface(kernel, link, &queues)).collect()
    })
}

fn interface(kernel: &mut Route, link: &Link, queues: &[Queue]) -> Result<PathInterface, RouteError> {
    let hooks = queues.iter().find(|q| q.link == link.index && q.parent == CLSACT_PARENT);
    let filters = match hooks {
        Some(_) => listing::filters(kernel, link.index)?,
        None => Vec::new(),
    };
    let foreign_filters = listing::foreign_filters(&filters);
    let clsact = match hooks.map(|queue| queue.kind.as_str()) {
        None => Clsact::Absent,
        Some("clsact") if filters.iter().any(Filter::is_mark) => Clsact::Ours,
        Some("clsact") => Clsact::Foreign,
        Some(_) => Clsact::Taken,
    };
    let words = |f: &&Filter| format!("a {} filter at preference {} of {:?}", f.kind, f.preference, f.hook).to_lowercase();
    let near = foreign_filters.iter().filter(|f| f.chain == 0);
    Ok(PathInterface {
        index: link.index,
        name: link.name.clone(),
        clsact,
        foreign_filters: near.clone().map(words).collect(),
        taken: near.map(|f| f.preference).collect(),
    })
}

fn look<T>(what: &str, at: impl FnOnce(&mut Route) -> Result<T, RouteError>) -> Result<T, ViewError> {
    let seen = Route::open().and_then(|mut kernel| at(&mut kernel));
    seen.map_err(|error| ViewError::new(what, error.into()))
}
