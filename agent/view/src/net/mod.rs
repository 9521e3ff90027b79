//! What the kernel says of our packet rules, in the calling thread's network namespace; nothing here changes them.

mod kept;
pub mod listing;
pub mod names;
pub(crate) mod socket;

use std::collections::BTreeSet;

use proto_model::id::InjectionId;
use serde::{Deserialize, Serialize};

use crate::error::ViewError;
pub use kept::with_netfilter;
use listing::Listing;
pub use socket::{Message, Netfilter, NetfilterError, framed, messages, refusal};

/// What the kernel counted of one injection's traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficCounters {
    /// Packets on which a fault that takes only a share may act, taken or not; 0 for the others.
    #[serde(default)]
    pub met_packets: u64,
    /// Packets and bytes that met the fault's rule.
    pub hit_packets: u64,
    pub hit_bytes: u64,
    /// Packets that matched the same peers and ports and came through all the same, counted by a rule of its own.
    pub passed: PassedTraffic,
    /// Whether the gate that the kernel closes by itself is still open.
    pub gate_open: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedTraffic {
    pub packets: u64,
    pub bytes: u64,
}

/// What the kernel counted of one injection; `None` when no chain or set of ours carries its id.
pub fn traffic(injection: &InjectionId) -> Result<Option<TrafficCounters>, ViewError> {
    look(&format!("the packet counters of {injection}"), |kernel| {
        if !listing::table_exists(kernel)? {
            return Ok(None);
        }
        let listing = Listing::read(kernel)?;
        if !listing.injections().contains(injection) {
            return Ok(None);
        }
        let gate_open = listing::gate_is_open(kernel, injection)?;
        Ok(Some(counters(&listing, injection, gate_open)))
    })
    .map(Option::flatten)
}

fn counters(listing: &Listing, injection: &InjectionId, gate_open: bool) -> TrafficCounters {
    let mut counters = TrafficCounters {
        gate_open,
        ..TrafficCounters::default()
    };
    for base in names::Base::ALL {
        let chains = [base.chain_of(injection), base.translated_chain_of(injection)];
        for rule in listing.rules.iter().filter(|rule| chains.contains(&rule.chain)) {
            if base.counts_what_passed() {
                let PassedTraffic { packets, bytes } = &mut counters.passed;
                *packets = packets.saturating_add(rule.packets);
                *bytes = bytes.saturating_add(rule.bytes);
            } else if rule.comment.as_deref().is_some_and(|comment| comment.ends_with(names::MET)) {
                counters.met_packets = counters.met_packets.saturating_add(rule.packets);
            } else {
                counters.hit_packets = counters.hit_packets.saturating_add(rule.packets);
                counters.hit_bytes = counters.hit_bytes.saturating_add(rule.bytes);
            }
        }
    }
    counters
}

/// Ids of every injection that has a chain, a set or a rule in our table, sorted.
pub fn our_traffic() -> Result<Vec<InjectionId>, ViewError> {
    let ids = look("the injections in our packet table", |kernel| {
        if !listing::table_exists(kernel)? {
            return Ok(BTreeSet::new());
        }
        Ok(Listing::read(kernel)?.injections())
    })?;
    Ok(ids.unwrap_or_default().into_iter().collect())
}

/// `None` when the kernel cannot be asked at all.
#[cfg(test)]
pub(crate) fn kernel_has_tables() -> Option<bool> {
    match with_netfilter(listing::table_exists) {
        Ok(_) => Some(true),
        Err(NetfilterError::Absent) => Some(false),
        Err(_) => None,
    }
}

/// Whether our table exists. A kernel without nf_tables cannot have it.
pub fn our_table() -> Result<bool, ViewError> {
    Ok(look("whether our packet table exists", listing::table_exists)?.unwrap_or(false))
}

/// `None` when the kernel has no nf_tables: then there is nothing of ours to see.
fn look<T>(what: &str, at: impl FnOnce(&mut Netfilter) -> Result<T, NetfilterError>) -> Result<Option<T>, ViewError> {
    match with_netfilter(at) {
        Ok(seen) => Ok(Some(seen)),
        Err(NetfilterError::Absent) => Ok(None),
        Err(error) => Err(ViewError::new(what, error.into())),
    }
}
