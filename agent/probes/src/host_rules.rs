//! What a host's own policy says of the probes that it runs: which programs, and which addresses.

use proto_model::peer::Network;
use proto_probes::AddressRule;

use crate::commands::Commands;

/// The rules of every probe on this host.
#[derive(Clone)]
pub struct HostRules {
    pub commands: Commands,
    pub addresses: AddressRule,
}

impl HostRules {
    /// With the networks that may be asked, all ordinary ones when there are none, and those that may not.
    pub fn of(commands: Commands, allowed: Vec<Network>, denied: Vec<Network>) -> Self {
        Self {
            commands,
            addresses: AddressRule::for_host(allowed, denied),
        }
    }
}
