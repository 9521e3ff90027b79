//! Harm to the packets of chosen peers; it never touches ARP, neighbour discovery, DHCP, loopback or the controller's own connection.

mod matching;
mod observe;
mod partition;
mod peers;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[&Kind::<partition::Partition>::new()];
