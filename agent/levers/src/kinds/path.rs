//! Worse paths for some packets: filters lead them to a link of the injection's own, and back; all of it is taken apart in the end.

use std::fmt;
use std::net::SocketAddr;

use agent_journal::UndoOutcome;
use agent_view::tc::names;
use agent_view::{Clsact, PathInterface, PathThing};
use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use super::{AllOps, Lever, Sweep, UndoContext, UndoError};
use crate::clean_check::CleanCheck;
use crate::error::OpsError;
#[cfg(any(test, feature = "fake"))]
use crate::fake::FakeHost;
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;
use crate::path::{self, ClsactPlace, ClsactRemoval, DRAIN_AT_MOST_MS, Packets, PathOpening, PathSpec, Shape};
use crate::tc::{self, free_preference};
use crate::traffic::{Exemptions, PacketAim};

/// Remove the injection's filters, wait for its link to be empty, then remove the link, and at last the clsact of these
/// interfaces where it is ours and nothing hangs on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovePath {
    pub injection: InjectionId,
    pub link: String,
    /// The preference of the filters for IPv4; those for IPv6 have the next.
    pub preference: u16,
    pub drain_ms: u64,
    #[serde(rename = "scaffolds")]
    pub clsacts: Vec<ClsactPlace>,
}

/// A path that packets take now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathHandle {
    pub link: String,
    pub interfaces: Vec<String>,
    /// How many filters lead packets into it.
    pub filters: usize,
    /// How many packets it holds before it drops more.
    pub room_packets: u32,
}

/// Links, filters and clsacts.
pub trait PathOps {
    /// Adds a clsact of ours to an interface that has none.
    fn add_clsact(&mut self, place: &ClsactPlace) -> Result<(), OpsError>;
    /// Removes it where it is ours and nothing hangs on it.
    fn remove_clsact(&mut self, place: &ClsactPlace) -> Result<ClsactRemoval, OpsError>;
    /// Makes the injection's link with the queue that worsens packets; none is led into it yet.
    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), OpsError>;
    /// Leads the packets into it.
    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), OpsError>;
    /// Lets the kernel hold it for `gate_ms` from now; one that has ended by itself stays ended, which is an error.
    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError>;
    /// Replaces the peers' and exceptions' addresses; what is spared must be told again.
    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, exemptions: &Exemptions) -> Result<(), OpsError>;
    /// Leaves the controller alone at these addresses from now on.
    fn replace_path_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError>;
    /// Leads nothing into it any more; returns false when nothing was led into it.
    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, OpsError>;
    /// Waits until it is empty, at most `wait_ms`; returns how many packets are still in it.
    fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> Result<u64, OpsError>;
    /// Removes a link of ours; returns false when there was none.
    fn remove_path(&mut self, link: &str) -> Result<bool, OpsError>;
}

impl Levers<'_> {
    /// Makes a worse path for these packets, held by the kernel for at most the context's gate unless renewed.
    pub fn shape_path(&mut self, spec: &PathSpec) -> Result<PathHandle, LeverError> {
        path::check(spec).map_err(LeverError::Other)?;
        let interfaces = self.begins_at(spec)?;
        let preference = free_preference(&interfaces).ok_or_else(|| LeverError::Other("others hold every preference of filters".into()))?;
        let injection = self.context().injection.clone();
        let clsacts = places(&interfaces);
        self.intend(RemovePath {
            injection: injection.clone(),
            link: names::link_of(&injection),
            preference,
            drain_ms: spec.shape.drain_ms(),
            clsacts: clsacts.clone(),
        })?;
        for place in clsacts.iter().filter(|place| place.was_absent) {
            self.ops().add_clsact(place)?;
        }
        self.ops().make_path(&injection, &spec.shape)?;
        let handle = PathHandle {
            link: names::link_of(&injection),
            interfaces: interfaces.iter().map(|i| i.name.clone()).collect(),
            filters: interfaces.len() * spec.packets.filters_per_interface(),
            room_packets: spec.shape.room_packets(),
        };
        let opening = PathOpening {
            interfaces,
            preference,
            exemptions: self.context().exemptions.clone(),
            gate_ms: self.context().gate_ms,
        };
        self.ops().open_path(&injection, spec, &opening)?;
        Ok(handle)
    }

    fn begins_at(&self, spec: &PathSpec) -> Result<Vec<PathInterface>, LeverError> {
        let packets = &spec.packets;
        let interfaces = self.view().path_interfaces(&packets.peers, packets.interface.as_deref())?;
        if interfaces.is_empty() {
            return Err(LeverError::Other("no interface leads to the peers".into()));
        }
        let taken = interfaces
            .iter()
            .find(|i| i.clsact == Clsact::Taken && packets.direction.covers_out());
        match taken {
            Some(interface) => Err(LeverError::Other(format!(
                "{} has an ingress queue of somebody else in the place of a clsact",
                interface.name
            ))),
            None => Ok(interfaces),
        }
    }
}

/// Where a clsact of ours is or will be.
fn places(interfaces: &[PathInterface]) -> Vec<ClsactPlace> {
    let ours = interfaces.iter().filter(|i| matches!(i.clsact, Clsact::Absent | Clsact::Ours));
    let place = |interface: &PathInterface| ClsactPlace {
        interface: interface.name.clone(),
        index: interface.index,
        was_absent: interface.clsact == Clsact::Absent,
    };
    ours.map(place).collect()
}

impl fmt::Display for RemovePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove the path of {} through {}", self.injection, self.link)
    }
}

impl Lever for RemovePath {
    type Aim = PacketAim;
    const WAITS: bool = true;

    fn release(&self, context: &mut UndoContext<'_>) -> Result<(), UndoError> {
        self.check_link()?;
        context.ops.close_path(&self.injection)?;
        Ok(())
    }

    /// A link that went while packets are led into it would swallow them, and those in it are lost with it: so this order.
    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        self.check_link()?;
        let Self { injection, link, .. } = self;
        let closed = context.ops.close_path(injection)?;
        let wait_ms = context.left_of(self.drain_ms.min(DRAIN_AT_MOST_MS));
        let packets = context.ops.drain_path(injection, wait_ms)?;
        let removed = context.ops.remove_path(link)?;
        // Interfaces are numbered anew at every boot, and a clsact does not outlive one.
        let clsacts = if context.same_boot { self.clsacts.as_slice() } else { &[] };
        let (cleared, by_others) = remove_clsacts(clsacts, context)?;
        if packets > 0 {
            tracing::warn!(injection = %injection, packets, "packets that were still under way were dropped with their path");
        }
        let found = closed || removed || cleared;
        Ok(match packets {
            _ if !by_others.is_empty() => UndoOutcome::Drift { what: by_others },
            0 if found => UndoOutcome::Restored,
            0 => UndoOutcome::AlreadyGone,
            packets => UndoOutcome::Dropped { packets },
        })
    }

    fn renew(&self, ops: &mut dyn AllOps, gate_ms: u64) -> Result<(), OpsError> {
        ops.renew_path(&self.injection, gate_ms)
    }

    fn retarget(&self, ops: &mut dyn AllOps, aim: &PacketAim) -> Result<(), OpsError> {
        match aim {
            PacketAim::Peers(packets, exemptions) => ops.replace_path_peers(&self.injection, &Packets::from(packets.as_ref()), exemptions),
            PacketAim::Controllers(controllers) => ops.replace_path_controllers(&self.injection, controllers),
        }
    }

    /// A link's name holds a part of an id only; those whose journals are at hand are known in full.
    fn residue(check: &mut CleanCheck<'_>) {
        for thing in check.seen(check.view().our_paths()).unwrap_or_default() {
            if check.holding().iter().any(|id| thing.is_of(id)) {
                continue;
            }
            let owner = check.known().iter().find(|id| thing.is_of(id));
            let left = match owner {
                Some(id) => format!("{thing}, because of {id}"),
                None => thing.to_string(),
            };
            check.owned_left(left);
        }
    }

    /// Filters before the links that they lead to, and clsacts last.
    fn sweep(sweep: &mut Sweep<'_>) {
        let mut things = sweep.seen(sweep.view.our_paths());
        let open = (sweep.open)();
        things.retain(|thing| !open.iter().any(|id| thing.is_of(id)));
        things.sort_by_key(|thing| match thing {
            PathThing::Filter { .. } => 0,
            PathThing::Link { .. } => 1,
            PathThing::Clsact { .. } => 2,
        });
        for thing in things {
            let removed = match &thing {
                PathThing::Filter { injection, .. } => sweep.ops.close_path(injection),
                PathThing::Link { name } => sweep.ops.remove_path(name),
                // Who is being started may have made it, and has no filter on it yet.
                PathThing::Clsact { .. } if !open.is_empty() => Ok(false),
                PathThing::Clsact { interface, .. } => remove_stray_clsact(interface, sweep),
            };
            sweep.note(thing.to_string(), removed);
        }
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        levers.shape_path(&path::example()).map(|_| ())
    }
}

impl RemovePath {
    fn check_link(&self) -> Result<(), UndoError> {
        let Self { injection, link, .. } = self;
        if *link != names::link_of(injection) {
            return Err(UndoError::NoEffect(format!("link {link:?} is not that of {injection}")));
        }
        Ok(())
    }
}

fn remove_stray_clsact(interface: &str, sweep: &mut Sweep<'_>) -> Result<bool, OpsError> {
    for place in places(&sweep.seen(sweep.view.path_interfaces(&[], Some(interface)))) {
        let removed = sweep.ops.remove_clsact(&place)?;
        if matches!(removed, ClsactRemoval::Removed | ClsactRemoval::HandedOver { .. }) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether one was removed, and what others made of them. Each is tried whatever becomes of the others.
fn remove_clsacts(places: &[ClsactPlace], context: &mut UndoContext<'_>) -> Result<(bool, Vec<String>), UndoError> {
    let (mut removed, mut by_others, mut failure) = (false, Vec::new(), None);
    for place in places {
        match context.ops.remove_clsact(place) {
            Ok(ClsactRemoval::Removed) => removed = true,
            Ok(ClsactRemoval::Gone | ClsactRemoval::InUse | ClsactRemoval::Foreign) => {}
            Ok(ClsactRemoval::HandedOver { foreign_filters }) => by_others.push(format!(
                "the clsact of {} stays: {foreign_filters} filters of somebody else hang on it",
                place.interface
            )),
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok((removed, by_others)), |error| Err(error.into()))
}

impl PathOps for LinuxOps {
    fn add_clsact(&mut self, place: &ClsactPlace) -> Result<(), OpsError> {
        tc::add_clsact(place)
    }

    fn remove_clsact(&mut self, place: &ClsactPlace) -> Result<ClsactRemoval, OpsError> {
        tc::remove_clsact(place)
    }

    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), OpsError> {
        tc::make_path(injection, shape)
    }

    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), OpsError> {
        tc::open_path(injection, spec, opening)
    }

    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
        tc::renew_path(injection, gate_ms)
    }

    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, exemptions: &Exemptions) -> Result<(), OpsError> {
        tc::replace_path_peers(injection, packets, &exemptions.networks)
    }

    fn replace_path_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
        tc::replace_path_controllers(injection, controllers)
    }

    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, OpsError> {
        tc::close_path(injection)
    }

    fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> Result<u64, OpsError> {
        tc::drain_path(injection, wait_ms)
    }

    fn remove_path(&mut self, link: &str) -> Result<bool, OpsError> {
        tc::remove_path(link)
    }
}

#[cfg(any(test, feature = "fake"))]
impl PathOps for FakeHost {
    fn add_clsact(&mut self, place: &ClsactPlace) -> Result<(), OpsError> {
        self.call(&format!("add a clsact to {}", place.interface), |state| state.add_clsact(place))
    }

    fn remove_clsact(&mut self, place: &ClsactPlace) -> Result<ClsactRemoval, OpsError> {
        let action = format!("remove the clsact of {}", place.interface);
        self.undo(&action, |state| Ok(state.remove_clsact(place)))
    }

    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), OpsError> {
        self.call(&format!("make the path of {injection}"), |state| state.make_path(injection, shape))
    }

    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), OpsError> {
        let action = format!("lead packets into the path of {injection}");
        self.call(&action, |state| state.open_path(injection, spec, opening))
    }

    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
        self.call(&format!("keep the path of {injection}"), |state| {
            state.renew_path(injection, gate_ms)
        })
    }

    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, exemptions: &Exemptions) -> Result<(), OpsError> {
        let action = format!("replace the peers of the path of {injection}");
        self.call(&action, |state| state.replace_path_peers(injection, packets, exemptions))
    }

    fn replace_path_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
        let action = format!("replace the controller's addresses of the path of {injection}");
        self.call(&action, |state| state.replace_path_controllers(injection, controllers))
    }

    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, OpsError> {
        self.undo(&format!("close the path of {injection}"), |state| Ok(state.close_path(injection)))
    }

    fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> Result<u64, OpsError> {
        self.undo(&format!("empty the path of {injection}"), |state| {
            Ok(state.drain_path(injection, wait_ms))
        })
    }

    fn remove_path(&mut self, link: &str) -> Result<bool, OpsError> {
        self.undo(&format!("remove the link {link}"), |state| {
            let before = state.paths.len();
            state.paths.retain(|injection, _| names::link_of(injection) != link);
            Ok(state.paths.len() < before)
        })
    }
}
