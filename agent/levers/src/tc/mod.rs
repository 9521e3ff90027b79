//! Worse paths for some packets, made and removed in the calling thread's network namespace; what carries no name of ours is never touched.
//!
//! Only the packets that are meant leave their way. On each interface that leads to the peers, filters of a clsact send them
//! to an ifb of the injection, whose queue delays or loses them; then they go on into the interface's own root queue, or up
//! the stack, as if nothing had been: the kernel does not classify them again. One ifb serves both directions. Root queues
//! are never touched, and other packets meet nothing but the filter.
//!
//! The classifier compares the time with a deadline that lies in a map. When nobody moves it on, the filters match nothing
//! any more: the fault ends although no process of ours is left.

mod assembler;
mod bpf;
mod classifier;
mod clsact;
mod distribution;
mod memlock;
mod order;
mod prefixes;
mod queue;
mod redirect;
mod request;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use agent_view::tc::bpf::{Map, Program};
use agent_view::tc::listing::{self, Filter, Hook, Link, ROOT};
use agent_view::tc::{DEADLINE_MAP, Route, RouteError, deadline_of, filters_of, interfaces_to, names};
use agent_view::{PathInterface, boot_ms};
use netlink_bindings::rt_link::{self, IfinfoFlags, Ifinfomsg};
use netlink_bindings::tc::Request;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use crate::error::OpsError;
use crate::path::{self, Packets, PathOpening, PathSpec, Shape};
use bpf::MapKind;
use classifier::{Family, Maps, endpoint_key};
pub(crate) use clsact::{add as add_clsact, remove as remove_clsact};
use order::order;
use request::{filter_head, refused};

/// Preferences of our filters: the lowest pair that nobody else uses. Those of others at lower ones see packets before us.
const PREFERENCES: std::ops::Range<u16> = 10..1_000;
/// Networks that a map of peers holds at most, exceptions and spared ones included.
const MOST_NETWORKS: u32 = 50_000;
/// The map of the controller's addresses and ports, and how many it holds at most.
const CONTROLLER_MAP: &str = "fracas_control";
const MOST_CONTROLLERS: u32 = 256;
const NS_PER_MS: u64 = 1_000_000;
/// Between two looks at a queue that empties.
const PAUSE: Duration = Duration::from_millis(2);
/// The filter stays in software (TCA_CLS_FLAGS_SKIP_HW).
const IN_SOFTWARE: u32 = 1;
/// The link makes no addresses of its own (IN6_ADDR_GEN_MODE_NONE).
const NO_ADDRESSES: u8 = 1;

/// The first of two preferences, one per family, that are free on all of these interfaces.
pub(crate) fn free_preference(interfaces: &[PathInterface]) -> Option<u16> {
    let taken = |preference: &u16| interfaces.iter().any(|interface| interface.taken.contains(preference));
    PREFERENCES.step_by(2).find(|first| !taken(first) && !taken(&(first + 1)))
}

/// Makes the injection's ifb with its queue, up and ready; nothing is led into it yet.
pub(crate) fn make_path(injection: &InjectionId, shape: &Shape) -> Result<(), OpsError> {
    let name = names::link_of(injection);
    let action = format!("add the link {name}");
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let mut request = rt_link::Request::new().set_create().set_excl().op_newlink_do(&Ifinfomsg::new());
    let link = request.encode().push_ifname_bytes(name.as_bytes());
    link.nested_linkinfo().push_kind(c"ifb").end_nested();
    order(&mut kernel, &request).map_err(|e| refused(&action, e))?;
    let link = our_link(&mut kernel, &names::link_of(injection)).map_err(|e| refused(&action, e))?;
    let link = link.ok_or_else(|| OpsError::new(action, io::ErrorKind::NotFound.into()))?;
    let queue = queue::request(link.index, shape);
    order(&mut kernel, &queue).map_err(|e| refused(&format!("add the queue of {name}"), e))?;
    bring_up(&mut kernel, &link)
}

fn bring_up(kernel: &mut Route, link: &Link) -> Result<(), OpsError> {
    let mut head = Ifinfomsg::new();
    head.ifi_index = link.index.cast_signed();
    let mut quiet = rt_link::Request::new().op_newlink_do(&head);
    let addresses = quiet.encode().nested_af_spec().nested_inet6();
    addresses.push_addr_gen_mode(NO_ADDRESSES).end_nested().end_nested();
    // Before it is up, or it has an address already. A kernel without IPv6 refuses, and makes none anyhow.
    let _ = order(kernel, &quiet);
    head.ifi_flags = IfinfoFlags::Up as u32;
    head.ifi_change = IfinfoFlags::Up as u32;
    let up = rt_link::Request::new().op_newlink_do(&head);
    order(kernel, &up).map_err(|e| refused(&format!("bring the link {} up", link.name), e))
}

/// Leads the packets into the injection's path, for `gate_ms` from now unless renewed.
pub(crate) fn open_path(injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), OpsError> {
    let action = format!("lead packets into the path of {injection}");
    let failed = |e: io::Error| OpsError::new(action.clone(), e);
    path::check(spec).map_err(|why| failed(io::Error::new(io::ErrorKind::InvalidInput, why)))?;
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let link = our_link(&mut kernel, &names::link_of(injection)).map_err(|e| refused(&action, e))?;
    let link = link.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
    let deadline = bpf::create_map(MapKind::Array, DEADLINE_MAP, 4, 8, 1).map_err(failed)?;
    set_deadline(&deadline, opening.gate_ms).map_err(failed)?;
    for family in Family::BOTH {
        let peers = peer_map(family, spec, opening).map_err(failed)?;
        let controllers = controller_map(family, &opening.exemptions.controllers).map_err(failed)?;
        let maps = Maps {
            deadline: deadline.raw_fd(),
            peers: peers.raw_fd(),
            controllers: controllers.raw_fd(),
        };
        for hook in spec.packets.hooks() {
            let code = classifier::program(family, hook, &spec.packets, &opening.exemptions, maps);
            let code = code.map_err(|why| failed(io::Error::other(why)))?;
            let program = bpf::load("fracas_path", &code).map_err(failed)?;
            for interface in &opening.interfaces {
                let request = filter(injection, interface, (family, hook), opening.preference, (&program, &link));
                let on = || format!("{action} on {}", interface.name);
                order(&mut kernel, &request).map_err(|e| refused(&on(), e))?;
            }
        }
    }
    Ok(())
}

fn filter(
    injection: &InjectionId,
    interface: &PathInterface,
    (family, hook): (Family, Hook),
    preference: u16,
    (program, link): (&Program, &Link),
) -> netlink_bindings::tc::OpNewtfilterDo<'static> {
    let preference = match family {
        Family::V4 => preference,
        Family::V6 => preference + 1,
    };
    let mut head = filter_head(interface.index, hook, preference, family.ether_type());
    head.handle = names::handle_of(injection);
    let mut request = Request::new().set_create().set_excl().op_newtfilter_do(&head);
    let options = request.encode().nested_options_bpf();
    let options = options.push_fd(program.raw_fd().cast_unsigned());
    let options = options.push_name_bytes(names::filter_of(injection).as_bytes());
    let options = options.push_flags_gen(IN_SOFTWARE);
    redirect::push(options.array_act(), link.index).end_nested();
    request
}

fn peer_map(family: Family, spec: &PathSpec, opening: &PathOpening) -> io::Result<Map> {
    let key = 4 + family.address_bytes();
    let map = bpf::create_map(MapKind::Prefixes, map_of(family), key, prefixes::VALUE, MOST_NETWORKS)?;
    let except = [spec.packets.except.as_slice(), opening.exemptions.networks.as_slice()];
    for (key, takes) in prefixes::table(family, &spec.packets.peers, &except) {
        bpf::set(&map, &key, &prefixes::value(takes))?;
    }
    Ok(map)
}

fn controller_map(family: Family, controllers: &[SocketAddr]) -> io::Result<Map> {
    let map = bpf::create_map(MapKind::Hash, CONTROLLER_MAP, family.address_bytes() + 4, 1, MOST_CONTROLLERS)?;
    for key in controllers.iter().filter_map(|endpoint| endpoint_key(family, endpoint)) {
        bpf::set(&map, &key, &[1])?;
    }
    Ok(map)
}

/// Leaves the controller alone at these addresses from now on.
pub(crate) fn replace_path_controllers(injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
    let action = format!("replace the controller's addresses of the path of {injection}");
    let failed = |e: io::Error| OpsError::new(action.clone(), e);
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let filters = filters_of(&mut kernel, injection).map_err(|e| refused(&action, e))?;
    for family in Family::BOTH {
        let table = controllers.iter().filter_map(|endpoint| endpoint_key(family, endpoint));
        let table: prefixes::Table = table.map(|key| (key, true)).collect();
        for map in maps_of(&filters, family, CONTROLLER_MAP).map_err(failed)? {
            replace(&map, &table, |_| vec![1]).map_err(failed)?;
        }
    }
    Ok(())
}

/// The maps of this name that the family's filters read.
fn maps_of(filters: &[Filter], family: Family, name: &str) -> io::Result<Vec<Map>> {
    let of_family = filters.iter().find(|f| f.protocol == family.ether_type());
    let Some(program) = of_family.and_then(|f| f.program) else {
        return Ok(Vec::new());
    };
    let maps = Program::by_id(program)?.maps()?;
    Ok(maps.into_iter().filter(|(of, _)| of == name).map(|(_, map)| map).collect())
}

fn map_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "fracas_peers4",
        Family::V6 => "fracas_peers6",
    }
}

fn set_deadline(map: &Map, gate_ms: u64) -> io::Result<()> {
    let at_ns = boot_ms().saturating_add(gate_ms).saturating_mul(NS_PER_MS);
    bpf::set(map, &0_u32.to_ne_bytes(), &at_ns.to_ne_bytes())
}

/// Lets the kernel lead packets into the path for `gate_ms` from now. Fails, and changes nothing, when it has already ended.
pub(crate) fn renew_path(injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
    let action = format!("keep the path of {injection} for another {gate_ms} ms (one that has ended stays ended)");
    let failed = |e: io::Error| OpsError::new(action.clone(), e);
    match deadline_of(injection).map_err(|e| failed(io::Error::other(e)))? {
        Some((map, at_ns)) if at_ns / NS_PER_MS > boot_ms() => set_deadline(&map, gate_ms).map_err(failed),
        _ => Err(failed(io::ErrorKind::NotFound.into())),
    }
}

/// Replaces the peers and exceptions by those of `packets`, which must not be reached through an interface that has no filter.
pub(crate) fn replace_path_peers(injection: &InjectionId, packets: &Packets, exemptions: &[Network]) -> Result<(), OpsError> {
    let action = format!("replace the peers of the path of {injection}");
    let failed = |e: io::Error| OpsError::new(action.clone(), e);
    path::check_packets(packets).map_err(|why| failed(io::Error::new(io::ErrorKind::InvalidInput, why)))?;
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let filters = filters_of(&mut kernel, injection).map_err(|e| refused(&action, e))?;
    let reached = interfaces_to(&packets.peers, packets.interface.as_deref()).map_err(|e| failed(io::Error::other(e)))?;
    if let Some(beside) = reached.iter().find(|i| !filters.iter().any(|f| f.link == i.index)) {
        let why = format!("{} leads to a new peer, and the path does not begin there", beside.name);
        return Err(failed(io::Error::new(io::ErrorKind::Unsupported, why)));
    }
    for family in Family::BOTH {
        let table = prefixes::table(family, &packets.peers, &[&packets.except, exemptions]);
        for map in maps_of(&filters, family, map_of(family)).map_err(failed)? {
            replace(&map, &table, prefixes::value).map_err(failed)?;
        }
    }
    Ok(())
}

/// New ones first, so that none that stays is missing for a moment.
fn replace<V: AsRef<[u8]>>(map: &Map, table: &prefixes::Table, value: impl Fn(bool) -> V) -> io::Result<()> {
    for (key, takes) in table {
        bpf::set(map, key, value(*takes).as_ref())?;
    }
    let old = map.keys()?;
    old.iter()
        .filter(|key| !table.contains_key(*key))
        .try_for_each(|key| bpf::remove(map, key))
}

/// Removes the injection's filters everywhere: nothing is led into the path any more. `false` when there were none.
pub(crate) fn close_path(injection: &InjectionId) -> Result<bool, OpsError> {
    let action = format!("remove the filters of {injection}");
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let filters = filters_of(&mut kernel, injection).map_err(|e| refused(&action, e))?;
    for filter in &filters {
        let mut head = filter_head(filter.link, filter.hook, filter.preference, filter.protocol);
        head.handle = filter.handle;
        let mut request = Request::new().op_deltfilter_do(&head);
        request.encode().push_kind(c"bpf").push_chain(filter.chain);
        match order(&mut kernel, &request) {
            Err(error) if !error.is_gone() && error.errno() != Some(libc::EINVAL) => return Err(refused(&action, error)),
            _ => {}
        }
    }
    Ok(!filters.is_empty())
}

/// Waits until the path is empty, at most `wait_ms`; returns how many packets are still in it.
pub(crate) fn drain_path(injection: &InjectionId, wait_ms: u64) -> Result<u64, OpsError> {
    let action = format!("empty the path of {injection}");
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let Some(link) = our_link(&mut kernel, &names::link_of(injection)).map_err(|e| refused(&action, e))? else {
        return Ok(0);
    };
    loop {
        let queues = listing::queues(&mut kernel).map_err(|e| refused(&action, e))?;
        let queue = queues.iter().find(|q| q.link == link.index && q.parent == ROOT);
        let waiting = queue.map_or(0, |queue| u64::from(queue.waiting));
        if waiting == 0 || Instant::now() >= deadline {
            return Ok(waiting);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Removes an ifb of ours; `false` when there was none.
pub(crate) fn remove_path(link: &str) -> Result<bool, OpsError> {
    let action = format!("remove the link {link}");
    let mut kernel = Route::open().map_err(|e| refused(&action, e))?;
    let Some(link) = our_link(&mut kernel, link).map_err(|e| refused(&action, e))? else {
        return Ok(false);
    };
    let mut head = Ifinfomsg::new();
    head.ifi_index = link.index.cast_signed();
    match order(&mut kernel, &rt_link::Request::new().op_dellink_do(&head)) {
        Err(error) if !error.is_gone() => Err(refused(&action, error)),
        _ => Ok(true),
    }
}

fn our_link(kernel: &mut Route, name: &str) -> Result<Option<Link>, RouteError> {
    let links = listing::links(kernel)?;
    Ok(links.into_iter().find(|link| link.is_ours() && link.name == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_view::Clsact;

    #[test]
    fn preferences_of_others_are_left_to_them() {
        let interface = |taken: &[u16]| PathInterface {
            index: 2,
            name: "eth0".into(),
            clsact: Clsact::Foreign,
            foreign_filters: Vec::new(),
            taken: taken.to_vec(),
        };
        assert_eq!(free_preference(&[interface(&[]), interface(&[1, 49_152])]), Some(10));
        assert_eq!(free_preference(&[interface(&[11]), interface(&[12])]), Some(14));
        assert_eq!(free_preference(&[interface(&(10..1_000).collect::<Vec<u16>>())]), None);
    }
}
