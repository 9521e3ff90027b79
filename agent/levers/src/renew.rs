//! Moves the deadlines that the kernel keeps by itself, as a lease is renewed; it ends nothing and revives nothing.

use agent_journal::{History, Undo};

use crate::hands::{Hands, HandsError};

/// Lets the kernel hold what this injection pulled for `gate_ms` from now. Each lever is renewed whatever becomes of the others.
pub fn renew(history: &History, hands: &mut dyn Hands, gate_ms: u64) -> Vec<HandsError> {
    let mut failures = Vec::new();
    for (_, undo) in &history.intents {
        let renewed = match undo {
            Undo::RemoveTraffic { injection } => hands.renew_traffic(injection, gate_ms),
            Undo::RemovePath { injection, .. } => hands.renew_path(injection, gate_ms),
            _ => Ok(()),
        };
        failures.extend(renewed.err());
    }
    failures
}
