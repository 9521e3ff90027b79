//! Links, filters and clsacts of a fake host; packets run through them only when a test says so.

use std::io;
use std::net::SocketAddr;

use agent_view::{Clsact, PathCounters, PathInterface, PathThing};
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use super::host::{FakeHost, State};
use super::paths::{Open, Path};
use crate::path::{ClsactPlace, ClsactRemoval, Packets, PathOpening, PathSpec, Shape};
use crate::traffic::Exemptions;

impl FakeHost {
    /// Packets that were led into the path, and how many of them it lost.
    pub fn lead_packets(&self, injection: &InjectionId, led: u64, dropped: u64) {
        if let Some(path) = self.state().paths.get_mut(injection) {
            path.counters.led_packets += led;
            path.counters.led_bytes += led * 60;
            path.counters.dropped_packets += dropped;
            path.counters.passed_packets += led - dropped;
        }
    }

    /// Packets that are in the path now, and stay there: who drains it waits for as long as it waits at all.
    pub fn hold_packets(&self, injection: &InjectionId, waiting: u64) {
        if let Some(path) = self.state().paths.get_mut(injection) {
            path.counters.waiting_packets = waiting;
        }
    }

    /// As if somebody else had added one.
    pub fn set_clsact(&self, interface: &str, clsact: Clsact) {
        self.state().clsacts.insert(interface.to_owned(), clsact);
    }

    /// What a path is told to do, and for which packets once it is open.
    pub fn path_spec(&self, injection: &InjectionId) -> Option<(Shape, Option<PathSpec>)> {
        let state = self.state();
        let path = state.paths.get(injection)?;
        Some((path.shape, path.open.as_ref().map(|open| open.spec.clone())))
    }
}

impl State {
    pub(crate) fn path_interfaces(&self, peers: &[Network], named: Option<&str>) -> Vec<PathInterface> {
        let reached = |network: &Network| peers.iter().any(|peer| network.contains(peer.address));
        let meant = |name: &String| match named {
            _ if name == "lo" => false,
            Some(named) => named == name,
            None => self.behind.get(name).is_none_or(reached),
        };
        let numbered = (1..).zip(&self.interfaces).filter(|(_, name)| meant(name));
        let interface = |(index, name): (u32, &String)| PathInterface {
            index,
            name: name.clone(),
            clsact: self.clsacts.get(name).cloned().unwrap_or(Clsact::Absent),
            foreign_filters: Vec::new(),
            taken: Vec::new(),
        };
        numbered.map(interface).collect()
    }

    pub(crate) fn path_counters(&self, injection: &InjectionId) -> Option<PathCounters> {
        let path = self.paths.get(injection)?;
        let gate_open = path.open.as_ref().is_some_and(|open| open.until_ms > self.boot_ms);
        let filters = path
            .open
            .as_ref()
            .map_or(0, |open| open.interfaces.len() * open.spec.packets.filters_per_interface());
        Some(PathCounters {
            shaped: true,
            filters,
            gate_open,
            ..path.counters
        })
    }

    pub(crate) fn path_things(&self) -> Vec<PathThing> {
        let mut things = Vec::new();
        for (injection, path) in &self.paths {
            let name = agent_view::tc::names::link_of(injection);
            things.push(PathThing::Link { name });
            for interface in path.open.iter().flat_map(|open| &open.interfaces) {
                let (injection, interface) = (injection.clone(), interface.clone());
                things.push(PathThing::Filter { injection, interface });
            }
        }
        let ours = self.clsacts.iter().filter(|(_, clsact)| **clsact == Clsact::Ours);
        things.extend(ours.map(|(interface, _)| PathThing::Clsact {
            interface: interface.clone(),
            users: self.users_of(interface),
        }));
        things
    }

    pub(crate) fn add_clsact(&mut self, place: &ClsactPlace) -> io::Result<()> {
        if self.clsacts.contains_key(&place.interface) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.clsacts.insert(place.interface.clone(), Clsact::Ours);
        Ok(())
    }

    pub(crate) fn remove_clsact(&mut self, place: &ClsactPlace) -> ClsactRemoval {
        match self.clsacts.get(&place.interface) {
            None => ClsactRemoval::Gone,
            Some(Clsact::Ours) if !self.users_of(&place.interface).is_empty() => ClsactRemoval::InUse,
            Some(Clsact::Ours) => {
                self.clsacts.remove(&place.interface);
                ClsactRemoval::Removed
            }
            Some(_) => ClsactRemoval::Foreign,
        }
    }

    pub(crate) fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> io::Result<()> {
        if self.paths.contains_key(injection) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let path = Path {
            shape: *shape,
            open: None,
            exemptions: None,
            counters: PathCounters::default(),
        };
        self.paths.insert(injection.clone(), path);
        Ok(())
    }

    pub(crate) fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> io::Result<()> {
        let bare = opening.interfaces.iter().any(|i| !self.clsacts.contains_key(&i.name));
        let until_ms = self.boot_ms + opening.gate_ms;
        let path = self.paths.get_mut(injection).filter(|path| path.open.is_none() && !bare);
        let open = Open {
            spec: spec.clone(),
            interfaces: opening.interfaces.iter().map(|i| i.name.clone()).collect(),
            until_ms,
        };
        let path = path.ok_or(io::ErrorKind::NotFound)?;
        (path.open, path.exemptions) = (Some(open), Some(opening.exemptions.clone()));
        Ok(())
    }

    pub(crate) fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> io::Result<()> {
        let now = self.boot_ms;
        let open = self.paths.get_mut(injection).and_then(|path| path.open.as_mut());
        let open = open.filter(|open| open.until_ms > now);
        open.ok_or(io::ErrorKind::NotFound)?.until_ms = now + gate_ms;
        Ok(())
    }

    pub(crate) fn replace_path_peers(&mut self, injection: &InjectionId, now: &Packets, exemptions: &Exemptions) -> io::Result<()> {
        let reached = self.path_interfaces(&now.peers, now.interface.as_deref());
        let path = self.paths.get_mut(injection).ok_or(io::ErrorKind::NotFound)?;
        let open = path.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if reached.iter().any(|interface| !open.interfaces.contains(&interface.name)) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let packets = &mut open.spec.packets;
        packets.peers.clone_from(&now.peers);
        packets.except.clone_from(&now.except);
        path.exemptions = Some(exemptions.clone());
        Ok(())
    }

    pub(crate) fn replace_path_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> io::Result<()> {
        let exemptions = self.paths.get_mut(injection).and_then(|path| path.exemptions.as_mut());
        exemptions.ok_or(io::ErrorKind::NotFound)?.controllers = controllers.to_vec();
        Ok(())
    }

    pub(crate) fn close_path(&mut self, injection: &InjectionId) -> bool {
        let path = self.paths.get_mut(injection);
        path.is_some_and(|path| path.open.take().is_some())
    }

    pub(crate) fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> u64 {
        let waiting = self.paths.get(injection).map_or(0, |path| path.counters.waiting_packets);
        if waiting > 0 {
            self.boot_ms += wait_ms;
        }
        waiting
    }

    fn users_of(&self, interface: &String) -> Vec<InjectionId> {
        let uses = |path: &Path| path.open.as_ref().is_some_and(|open| open.interfaces.contains(interface));
        let users = self.paths.iter().filter(|(_, path)| uses(path));
        users.map(|(injection, _)| injection.clone()).collect()
    }
}
