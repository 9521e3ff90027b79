//! A fake host with a protected interface and a network mount, and the policy that protects them; what lies on the host is the fixture's.

use std::net::IpAddr;
use std::path::Path;

use agent_faults::Protection;
use agent_levers::fake::FakeHost;
use agent_view::{Feature, Presence, Process, Volume};
use proto_model::peer::Network;

/// No feature of it is known, so nothing is refused for the want of one and no better engine is chosen.
pub fn host() -> FakeHost {
    let host = FakeHost::new();
    for feature in Feature::ALL {
        let (why, fix) = ("the test does not say".to_owned(), "ask".to_owned());
        host.set_presence(feature, Presence::Unknown { why, fix });
    }
    host.set_addresses(vec![address("192.0.2.200")]);
    host.set_network_mounts(vec![address("198.51.100.9")]);
    host.set_name("db.example", vec![address("2001:db8::50"), address("192.0.2.50")]);
    host.set_name("nowhere.example", Vec::new());
    host.add_interface("mgmt0", Network::parse("10.99.0.0/16").expect("a network"));
    host
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub struct Protected;

impl Protection for Protected {
    fn process(&self, _: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Result<Vec<Network>, String> {
        Ok(Network::parse("203.0.113.0/24").into_iter().collect())
    }
    fn interface(&self, name: &str) -> Option<String> {
        (name == "mgmt0").then(|| "it is for management".to_owned())
    }
    fn port(&self, port: u16) -> Option<String> {
        (port == 22).then(|| "ssh listens there".to_owned())
    }
    fn path(&self, _path: &Path, _volume: &Volume) -> Option<String> {
        None
    }
    fn memory_reserve(&self) -> u64 {
        0
    }
    fn disk_reserve(&self, _volume: &Volume) -> u64 {
        0
    }
}
