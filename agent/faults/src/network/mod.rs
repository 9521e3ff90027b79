//! Harm to the packets of chosen peers; it never touches ARP, neighbour discovery, DHCP, loopback or the controller's own connection.

mod delay;
mod engine;
mod loss;
mod matching;
mod netem;
mod observe;
mod packets;
mod partition;
mod peers;
mod share;
mod timing;
mod whose;

use crate::fault::{AnyFault, Kind};

pub(crate) const KINDS: &[&dyn AnyFault] = &[
    &Kind::<partition::Partition>::new(),
    &Kind::<delay::Delay>::new(),
    &Kind::<loss::Loss>::new(),
];
