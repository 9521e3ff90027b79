//! Harm to the packets of chosen peers; it never touches ARP, neighbour discovery, DHCP, loopback or the controller's own connection.

mod cgroup_scope;
mod delay;
mod engine;
mod forwarding;
mod loss;
mod matching;
mod multicast;
mod netem;
mod observe_delay;
mod observe_loss;
mod observe_partition;
mod packets;
mod partition;
mod peers;
mod resolved;
mod shaping;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[
    &Kind::<partition::Partition>::new(),
    &Kind::<delay::Delay>::new(),
    &Kind::<loss::Loss>::new(),
];
