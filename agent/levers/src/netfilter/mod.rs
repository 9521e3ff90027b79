//! Packet rules of injections, made and removed in the calling thread's network namespace; what carries no id of ours is never touched.
//!
//! One table `inet fracas` holds five lasting base chains that accept by default, so the host's own firewall sees every packet
//! that we let pass. An injection adds to it, in one transaction, a rule per base chain and family that jumps to the injection's
//! own chains when the remote address is one of its peers; those chains first return whatever is spared, then act while the
//! gate is open. The late chains count what came through all the same. Where connections are tracked, packets are also a peer's by the
//! addresses that their connection has before or after this host's own translation (DNAT), and both hooks count the same packets.
//!
//! The gate is a set with one element per address family and a timeout. When nobody renews it the kernel drops its elements
//! and the rules no longer match: the fault ends although no process of ours is left. A gate that has closed stays closed:
//! renewing it is an error, since somebody may already rely on its end. Who wants the fault again removes it and adds it anew.

mod batch;
mod commit;
mod entry;
pub(crate) mod expressions;
mod field;
mod interval;
mod plan;

use std::io;
use std::net::SocketAddr;

use agent_view::net::listing::{self, Listing};
use agent_view::net::{Netfilter, NetfilterError, names, with_netfilter};
use proto_model::id::InjectionId;

use crate::error::OpsError;
use crate::traffic::{Exemptions, Fate, TrafficSpec};
use batch::{Batch, BatchError};
pub(crate) use expressions::QueueBy;

/// How often a removal is tried anew because somebody else, anybody, changed rules between the look and the deed.
const TRIES: u32 = 50;
/// Where the kernel lists who listens on NFQUEUEs of this thread's namespace.
const QUEUE_LISTENERS: &str = "/proc/thread-self/net/netfilter/nfnetlink_queue";
/// How many connections the kernel tracks in this thread's namespace.
const TRACKED_CONNECTIONS: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// Makes our table if it is absent, and everything of the injection, in one transaction: all of it acts, or nothing was changed.
///
/// The gate is open for `spec.gate_ms`. Fails when the injection already has rules. `queue_by` is what this kernel knew last.
pub(crate) fn add_traffic(
    injection: &InjectionId,
    spec: &TrafficSpec,
    exemptions: &Exemptions,
    queue_by: &mut QueueBy,
) -> Result<(), OpsError> {
    let action = || format!("add the network rules of {injection}");
    plan::check(spec).map_err(|why| OpsError::new(action(), io::Error::new(io::ErrorKind::InvalidInput, why)))?;
    let tracked = tracks_connections();
    let add = |queue_by| {
        transact(&action(), |kernel| {
            let mut batch = Batch::begin(kernel, None);
            batch.queue_by(queue_by);
            plan::add(&mut batch, injection, spec, exemptions, tracked);
            batch.commit(kernel)
        })
    };
    let queues = matches!(spec.fate, Fate::Lose(_) | Fate::Queue(_));
    match add(*queue_by) {
        // Nothing was added: the kernel does not know this one. Taking back a batch costs it far more time than adding one.
        Err(refusal) if queues && refusal.source.kind() == io::ErrorKind::NotFound => {
            let other = queue_by.other();
            add(other).inspect(|()| *queue_by = other)
        }
        added => added,
    }
}

/// Keeps the gate open for `gate_ms` from now, without an instant in which a packet could pass.
///
/// Fails, and changes nothing, when the gate has already closed by itself or the rules are gone.
pub(crate) fn renew_traffic(injection: &InjectionId, gate_ms: u64) -> Result<(), OpsError> {
    let action = format!("keep the network rules of {injection} for another {gate_ms} ms (a gate that has closed stays closed)");
    transact(&action, |kernel| {
        let mut batch = Batch::begin(kernel, None);
        plan::renew(&mut batch, injection, gate_ms);
        batch.commit(kernel)
    })
}

/// Replaces the injection's peers and exceptions by those of `spec`, in one transaction. Nothing else of `spec` is looked at.
pub(crate) fn replace_peers(injection: &InjectionId, spec: &TrafficSpec) -> Result<(), OpsError> {
    let action = format!("replace the peers of {injection}");
    plan::check(spec).map_err(|why| OpsError::new(action.clone(), io::Error::new(io::ErrorKind::InvalidInput, why)))?;
    transact(&action, |kernel| {
        let mut batch = Batch::begin(kernel, None);
        plan::replace(&mut batch, injection, spec);
        batch.commit(kernel)
    })
}

/// Leaves the controller alone at these addresses from now on, in one transaction.
pub(crate) fn replace_controllers(injection: &InjectionId, controllers: &[SocketAddr]) -> Result<(), OpsError> {
    transact(&format!("replace the controller's addresses of {injection}"), |kernel| {
        let mut batch = Batch::begin(kernel, None);
        plan::replace_controllers(&mut batch, injection, controllers);
        batch.commit(kernel)
    })
}

/// Whether the kernel tracks connections of this namespace. A rule that asks for them where it does not would make it begin.
fn tracks_connections() -> bool {
    let count = std::fs::read_to_string(TRACKED_CONNECTIONS);
    count.is_ok_and(|count| count.trim().parse().is_ok_and(|count: u64| count > 0))
}

/// Removes everything that carries the injection's id, in one transaction; `false` when there was nothing. Our table goes with the
/// last of its injections where that costs nobody a packet.
pub(crate) fn remove_traffic(injection: &InjectionId) -> Result<bool, OpsError> {
    let action = format!("remove the network rules of {injection}");
    unless_changed(&action, |kernel| {
        let generation = kernel.generation()?;
        let listing = Listing::read(kernel)?;
        if !listing.injections().contains(injection) {
            return Ok(false);
        }
        let users = listing::table_users(kernel)?.unwrap_or(u32::MAX);
        let mut batch = Batch::begin(kernel, Some(generation));
        if is_idle_but_for(Some(injection), &listing, users) && !has_queue_listeners()? {
            batch.remove_table();
        } else {
            plan::remove(&mut batch, injection, &listing);
        }
        batch.commit(kernel)?;
        Ok(true)
    })
    .map(|removed| removed.unwrap_or(false))
}

/// Removes our table when it holds nothing but our own empty chains and nobody listens on an NFQUEUE: removing a base chain
/// drops every packet that any queue of the namespace holds. Returns whether there is no table now.
pub(crate) fn remove_idle_table() -> Result<bool, OpsError> {
    unless_changed("remove our idle packet table", |kernel| {
        let generation = kernel.generation()?;
        let Some(users) = listing::table_users(kernel)? else {
            return Ok(true);
        };
        if !is_idle_but_for(None, &Listing::read(kernel)?, users) || has_queue_listeners()? {
            return Ok(false);
        }
        let mut batch = Batch::begin(kernel, Some(generation));
        batch.remove_table();
        batch.commit(kernel)?;
        Ok(true)
    })
    .map(|gone| gone.unwrap_or(true))
}

/// Only our lasting chains and what is of this injection, and no object of any sort besides.
fn is_idle_but_for(injection: Option<&InjectionId>, listing: &Listing, users: u32) -> bool {
    let lasting = |name: &String| names::Base::ALL.iter().any(|base| base.name() == name);
    let of_it = |name: &String| injection.is_some() && names::injection_of(name).as_ref() == injection;
    listing
        .rules
        .iter()
        .all(|rule| injection.is_some() && rule.injection().as_ref() == injection)
        && listing.chains.iter().all(|name| lasting(name) || of_it(name))
        && listing.sets.iter().all(of_it)
        && usize::try_from(users) == Ok(listing.chains.len() + listing.sets.len())
}

fn has_queue_listeners() -> Result<bool, BatchError> {
    match std::fs::read_to_string(QUEUE_LISTENERS) {
        Ok(listeners) => Ok(!listeners.trim().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BatchError::io(format!("read {QUEUE_LISTENERS}"), error)),
    }
}

fn transact<T>(action: &str, act: impl FnOnce(&mut Netfilter) -> Result<T, BatchError>) -> Result<T, OpsError> {
    with_netfilter(act).map_err(|error| OpsError::new(action, error.into()))
}

/// Looks and acts again while others change rules in between; `None` when the kernel has no nf_tables, so nothing of ours either.
fn unless_changed<T>(action: &str, act: impl Fn(&mut Netfilter) -> Result<T, BatchError>) -> Result<Option<T>, OpsError> {
    let mut last = None;
    for _ in 0..TRIES {
        match with_netfilter(&act) {
            Ok(done) => return Ok(Some(done)),
            Err(BatchError {
                why: NetfilterError::Absent,
                ..
            }) => return Ok(None),
            Err(error) if error.was_overtaken() => last = Some(error),
            Err(error) => return Err(OpsError::new(action, error.into())),
        }
    }
    let error = last.unwrap_or_else(|| BatchError::from(NetfilterError::Restless));
    Err(OpsError::new(action, error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_idle_only_when_nothing_but_our_empty_chains_is_in_it() {
        let lasting: Vec<String> = names::Base::ALL.iter().map(|base| base.name().to_owned()).collect();
        let mut listing = Listing {
            chains: lasting,
            ..Listing::default()
        };
        assert!(is_idle_but_for(None, &listing, 5));
        assert!(!is_idle_but_for(None, &listing, 6), "an object of somebody else");
        listing.chains.push("mine".into());
        assert!(!is_idle_but_for(None, &listing, 6), "a chain of somebody else");
        listing.chains.pop();
        let (last, other) = (InjectionId::generate(), InjectionId::generate());
        listing.sets.push(names::SetRole::Gate.set_of(&last));
        listing.chains.push(names::Base::ALL[0].chain_of(&last));
        assert!(is_idle_but_for(Some(&last), &listing, 7));
        assert!(!is_idle_but_for(Some(&other), &listing, 7) && !is_idle_but_for(None, &listing, 7));
        listing.sets.push(names::SetRole::Gate.set_of(&other));
        assert!(!is_idle_but_for(Some(&last), &listing, 8), "another injection's set");
    }
}
