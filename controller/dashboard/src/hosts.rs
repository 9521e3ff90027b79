//! Hosts in the order of who needs a person first; a long fleet is counted, not listed.

use std::sync::Arc;

use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::injection::Cleanliness;

/// Hosts that are listed one by one; the rest is counted.
const LISTED: usize = 200;

/// Hosts that are named one by one where it is not known that nothing acts.
const DOUBTS: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostLine {
    pub name: String,
    pub environment: String,
    pub connection: &'static str,
    pub cleanliness: &'static str,
    pub usable: String,
    pub faults: u32,
    pub note: String,
    pub tone: &'static str,
}

/// The fleet at a glance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostTable {
    pub(crate) connected: usize,
    pub(crate) lost: usize,
    pub(crate) dirty: usize,
    pub(crate) unproven: usize,
    pub(crate) lines: Vec<HostLine>,
    /// Hosts that are not listed.
    pub(crate) more: usize,
    /// Why it is not known that nothing acts although no run says that something does; at most `DOUBTS`, the rest counted.
    pub(crate) doubts: Vec<String>,
}

impl HostTable {
    pub fn of(hosts: &[Arc<Host>]) -> Self {
        let count = |wanted: fn(&Host) -> bool| hosts.iter().filter(|host| wanted(host)).count();
        let mut ordered: Vec<&Host> = hosts.iter().map(Arc::as_ref).collect();
        ordered.sort_by(|one, other| urgency(one).cmp(&urgency(other)).then_with(|| one.name.cmp(&other.name)));
        Self {
            connected: count(|h| h.connection == Connection::Connected),
            lost: count(|h| h.connection == Connection::Lost),
            dirty: count(|h| h.cleanliness == Cleanliness::Dirty),
            unproven: count(|h| h.cleanliness == Cleanliness::Unproven),
            lines: ordered.iter().take(LISTED).map(|host| line(host)).collect(),
            more: hosts.len().saturating_sub(LISTED),
            doubts: doubts(&ordered),
        }
    }
}

/// What hosts say, or leave unsaid, against "nothing acts".
fn doubts(ordered: &[&Host]) -> Vec<String> {
    let mut doubts: Vec<String> = ordered.iter().filter_map(|host| doubt(host)).collect();
    let more = doubts.len().saturating_sub(DOUBTS);
    doubts.truncate(DOUBTS);
    if more > 0 {
        doubts.push(format!("and {more} more hosts of which it is not known"));
    }
    doubts
}

fn doubt(host: &Host) -> Option<String> {
    let name = &host.name;
    let counted = match host.active_injections {
        0 => None,
        1 => Some("counts 1 active injection that no unfinished run tells of".to_owned()),
        several => Some(format!("counts {several} active injections that no unfinished run tells of")),
    };
    match (counted, host.connection, host.cleanliness) {
        (Some(counted), Connection::Lost, _) => Some(format!("{name} is lost; at the last sign of it, it {counted}")),
        (Some(counted), Connection::Connected, _) => Some(format!("{name} {counted}")),
        (None, _, Cleanliness::Clean) => None,
        (None, _, Cleanliness::Unproven) => Some(format!("{name} is unproven: it has not shown that nothing is left")),
        (None, _, Cleanliness::Dirty) => Some(format!("{name} is dirty: something is left there")),
        (None, Connection::Lost, Cleanliness::Faulted) => Some(format!("{name} is lost, and something acted there at the last sign of it")),
        (None, Connection::Connected, Cleanliness::Faulted) => Some(format!("{name} says that something acts there, and counts nothing")),
    }
}

/// Lower is more urgent.
fn urgency(host: &Host) -> u8 {
    match (host.cleanliness, host.connection) {
        (Cleanliness::Dirty, _) => 0,
        (Cleanliness::Unproven, _) => 1,
        (Cleanliness::Faulted, _) => 2,
        (Cleanliness::Clean, Connection::Lost) => 3,
        (Cleanliness::Clean, Connection::Connected) => 4 + u8::from(host.is_healthy()),
    }
}

fn line(host: &Host) -> HostLine {
    let usable = match (host.membership, host.availability) {
        (Membership::Locked, _) => "locked",
        (Membership::Removed, _) => "removed",
        (Membership::Enrolled, Availability::Open) => "open",
        (Membership::Enrolled, Availability::Cordoned) => "cordoned",
        (Membership::Enrolled, Availability::Halted) => "halted",
    };
    HostLine {
        name: host.name.to_string(),
        environment: host.environment().to_owned(),
        connection: match host.connection {
            Connection::Connected => "connected",
            Connection::Lost => "lost",
        },
        cleanliness: host.cleanliness.as_str(),
        usable: usable.to_owned(),
        faults: host.active_injections,
        note: host.note.clone().unwrap_or_default(),
        tone: match urgency(host) {
            0 | 1 => "bad",
            2 => "acting",
            3 => "dull",
            _ => "good",
        },
    }
}
