//! Rules for packets in our own table: cut, lost or handed to a queue, for as long as the kernel is told to hold them.

use std::fmt;
#[cfg(any(test, feature = "fake"))]
use std::io;
use std::net::SocketAddr;

use agent_journal::UndoOutcome;
use agent_view::HostView;
#[cfg(any(test, feature = "fake"))]
use agent_view::TrafficCounters;
use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use super::{AllOps, Lever, Sweep, UndoContext, UndoError};
use crate::clean_check::CleanCheck;
use crate::error::{OpsError, with_causes};
#[cfg(any(test, feature = "fake"))]
use crate::fake::{FakeHost, Traffic, absent};
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;
use crate::netfilter;
use crate::traffic::{Exemptions, PacketAim, TrafficSpec};

/// Remove the rules, sets and elements of our table that carry the injection's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveTraffic {
    pub injection: InjectionId,
}

/// Rules for packets.
pub trait TrafficOps {
    /// Makes our table if it is absent and adds the injection's sets and rules, in one transaction.
    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions) -> Result<(), OpsError>;
    /// Lets the kernel hold it for `gate_ms` from now.
    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError>;
    /// Replaces the peers' addresses (names that resolved to something else).
    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), OpsError>;
    /// Leaves the controller alone at these addresses from now on.
    fn replace_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError>;
    /// Removes everything of the injection; returns false when there was nothing.
    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, OpsError>;
    /// Removes our table when nothing hangs on it and removing it harms nobody; returns whether it is gone.
    fn remove_idle_table(&mut self) -> Result<bool, OpsError>;
}

impl Levers<'_> {
    /// Gives these packets their fate, held by the kernel for at most the context's gate unless renewed.
    pub fn shape_traffic(&mut self, spec: &TrafficSpec) -> Result<(), LeverError> {
        self.intend(RemoveTraffic {
            injection: self.context().injection.clone(),
        })?;
        let (ops, context) = self.ops_with_context();
        ops.add_traffic(&context.injection, spec, &context.exemptions)?;
        Ok(())
    }

    /// Replaces the peers, exceptions and groups of every lever of this injection that acts on packets. What undoes them names none.
    pub fn retarget_packets(&mut self, spec: &TrafficSpec) -> Result<(), LeverError> {
        let exemptions = self.context().exemptions.clone();
        self.retarget(&PacketAim::Peers(Box::new(spec.clone()), exemptions))?;
        let injection = &self.context().injection;
        tracing::info!(%injection, peers = spec.peers.len(), "names or groups moved, and the fault with them");
        Ok(())
    }
}

impl fmt::Display for RemoveTraffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove the network rules of {}", self.injection)
    }
}

impl Lever for RemoveTraffic {
    type Aim = PacketAim;

    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        let found = context.ops.remove_traffic(&self.injection)?;
        Self::tidy(context);
        Ok(if found { UndoOutcome::Restored } else { UndoOutcome::AlreadyGone })
    }

    /// The table may have to wait for the last worker that reads a queue. Empty it harms nobody: that it stays is no failure of any undo.
    fn tidy(context: &mut UndoContext<'_>) {
        clear_idle_table(context.view, context.ops);
    }

    fn renew(&self, ops: &mut dyn AllOps, gate_ms: u64) -> Result<(), OpsError> {
        ops.renew_traffic(&self.injection, gate_ms)
    }

    fn retarget(&self, ops: &mut dyn AllOps, aim: &PacketAim) -> Result<(), OpsError> {
        match aim {
            PacketAim::Peers(packets, _) => ops.replace_peers(&self.injection, packets),
            PacketAim::Controllers(controllers) => ops.replace_controllers(&self.injection, controllers),
        }
    }

    fn residue(check: &mut CleanCheck<'_>) {
        for injection in check.seen(check.view().our_traffic()).unwrap_or_default() {
            if !check.holding().contains(&injection) {
                check.owned_left(format!("network rules of {injection}"));
            }
        }
    }

    fn sweep(sweep: &mut Sweep<'_>) {
        let found = sweep.seen(sweep.view.our_traffic());
        let open = (sweep.open)();
        for injection in found.into_iter().filter(|injection| !open.contains(injection)) {
            let removed = sweep.ops.remove_traffic(&injection);
            sweep.note(format!("network rules of {injection}"), removed);
        }
        clear_idle_table(sweep.view, sweep.ops);
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        levers.shape_traffic(&crate::traffic::example())
    }
}

fn clear_idle_table(view: &dyn HostView, ops: &mut dyn AllOps) {
    match view.our_traffic() {
        Ok(left) if left.is_empty() => {
            if let Err(error) = ops.remove_idle_table() {
                tracing::warn!(error = with_causes(&error), "our idle packet table could not be removed");
            }
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(error = with_causes(&error), "our packet table could not be read"),
    }
}

impl TrafficOps for LinuxOps {
    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions) -> Result<(), OpsError> {
        netfilter::add_traffic(injection, spec, exemptions, &mut self.queue_by)
    }

    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
        netfilter::renew_traffic(injection, gate_ms)
    }

    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), OpsError> {
        netfilter::replace_peers(injection, spec)
    }

    fn replace_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
        netfilter::replace_controllers(injection, controllers)
    }

    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, OpsError> {
        netfilter::remove_traffic(injection)
    }

    fn remove_idle_table(&mut self) -> Result<bool, OpsError> {
        netfilter::remove_idle_table()
    }
}

#[cfg(any(test, feature = "fake"))]
impl TrafficOps for FakeHost {
    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, exemptions: &Exemptions) -> Result<(), OpsError> {
        self.call(&format!("add the network rules of {injection}"), |state| {
            if state.traffic.contains_key(injection) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let traffic = Traffic {
                spec: spec.clone(),
                exemptions: exemptions.clone(),
                gate_until_ms: state.boot_ms + spec.gate_ms,
                counters: TrafficCounters::default(),
            };
            state.traffic.insert(injection.clone(), traffic);
            state.table = true;
            Ok(())
        })
    }

    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
        self.call(&format!("keep the network rules of {injection}"), |state| {
            let now = state.boot_ms;
            let traffic = state.traffic.get_mut(injection).filter(|t| t.gate_until_ms > now);
            traffic.ok_or_else(|| absent("open gate"))?.gate_until_ms = now + gate_ms;
            Ok(())
        })
    }

    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), OpsError> {
        self.call(&format!("replace the peers of {injection}"), |state| {
            let traffic = state.traffic.get_mut(injection).ok_or_else(|| absent("such rules"))?;
            traffic.spec.peers.clone_from(&spec.peers);
            traffic.spec.except.clone_from(&spec.except);
            traffic.spec.groups.clone_from(&spec.groups);
            Ok(())
        })
    }

    fn replace_controllers(&mut self, injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
        self.call(&format!("replace the controller's addresses of {injection}"), |state| {
            let traffic = state.traffic.get_mut(injection).ok_or_else(|| absent("such rules"))?;
            traffic.exemptions.controllers = controllers.to_vec();
            Ok(())
        })
    }

    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, OpsError> {
        self.undo(&format!("remove the network rules of {injection}"), |state| {
            Ok(state.traffic.remove(injection).is_some())
        })
    }

    fn remove_idle_table(&mut self) -> Result<bool, OpsError> {
        self.call("remove our idle packet table", |state| {
            state.table &= !state.traffic.is_empty();
            Ok(!state.table)
        })
    }
}
