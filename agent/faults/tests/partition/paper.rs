//! A host made of paper: interfaces, names, a network mount and things to protect; nothing can be done to it.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use agent_faults::Protection;
use agent_view::{
    Clsact, CpuTicks, Feature, Features, FileFound, FileSeen, GroupId, HostView, Listener, Memory, PathCounters, PathInterface, PathThing,
    Presence, Process, ProcessMemory, TrafficCounters, ViewError, Volume,
};
use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

pub struct Paper;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

impl Features for Paper {
    fn presence(&self, _feature: Feature) -> Presence {
        Presence::Unknown {
            why: "paper has no features".to_owned(),
        }
    }
}

impl HostView for Paper {
    fn boot_ms(&self) -> u64 {
        0
    }
    fn boot_id(&self) -> String {
        String::new()
    }
    fn facts(&self) -> HostFacts {
        HostFacts {
            addresses: vec![address("192.0.2.200")],
            ..HostFacts::default()
        }
    }
    fn processes(&self) -> Result<Vec<Process>, ViewError> {
        Ok(Vec::new())
    }
    fn process(&self, _: u32) -> Result<Option<Process>, ViewError> {
        Ok(None)
    }
    fn listeners(&self) -> Result<Vec<Listener>, ViewError> {
        Ok(Vec::new())
    }
    fn own_pid(&self) -> u32 {
        2
    }
    fn cpu_ticks(&self) -> Result<Vec<CpuTicks>, ViewError> {
        Ok(Vec::new())
    }
    fn usable_cpus(&self) -> Result<Vec<u32>, ViewError> {
        Ok(Vec::new())
    }
    fn our_groups(&self) -> Result<Vec<GroupId>, ViewError> {
        Ok(Vec::new())
    }
    fn group_members(&self, _: &GroupId) -> Result<Vec<u32>, ViewError> {
        Ok(Vec::new())
    }
    fn group_cpu_usec(&self, _: &GroupId) -> Result<Option<u64>, ViewError> {
        Ok(None)
    }
    fn knob(&self, path: &str) -> Result<Option<String>, ViewError> {
        // It sends nothing to groups.
        let netstat = || "IpExt: OutMcastPkts OutBcastPkts\nIpExt: 0 0".to_owned();
        Ok((path == "/proc/net/netstat").then(netstat))
    }
    fn memory(&self) -> Result<Memory, ViewError> {
        Ok(Memory::default())
    }
    fn process_memory(&self, _pid: u32) -> Result<Option<ProcessMemory>, ViewError> {
        Ok(None)
    }
    fn oom_kills(&self, _group: &GroupId) -> Result<u64, ViewError> {
        Ok(0)
    }
    fn volume(&self, _path: &Path) -> Result<Option<Volume>, ViewError> {
        Ok(None)
    }
    fn file(&self, _path: &Path) -> Result<Option<FileSeen>, ViewError> {
        Ok(None)
    }
    fn file_by_handle(&self, _volume: &Path, _near: &Path, _kind: i32, _bytes: &[u8]) -> Result<Option<FileFound>, ViewError> {
        Ok(None)
    }
    fn traffic(&self, _: &InjectionId) -> Result<Option<TrafficCounters>, ViewError> {
        Ok(None)
    }
    fn our_traffic(&self) -> Result<Vec<InjectionId>, ViewError> {
        Ok(Vec::new())
    }
    fn our_table(&self) -> Result<bool, ViewError> {
        Ok(false)
    }
    /// One network lies behind the protected interface.
    fn path_interfaces(&self, peers: &[Network], _named: Option<&str>) -> Result<Vec<PathInterface>, ViewError> {
        let network = Network::parse("10.99.0.0/16").unwrap();
        let far = peers.iter().any(|peer| network.contains(peer.address));
        let way = |index, name: &str| PathInterface {
            index,
            name: name.to_owned(),
            clsact: Clsact::Absent,
            foreign_filters: Vec::new(),
            taken: Vec::new(),
        };
        Ok([way(2, "eth0")].into_iter().chain(far.then(|| way(3, "mgmt0"))).collect())
    }
    fn path(&self, _injection: &InjectionId) -> Result<Option<PathCounters>, ViewError> {
        Ok(None)
    }
    fn our_paths(&self) -> Result<Vec<PathThing>, ViewError> {
        Ok(Vec::new())
    }
    fn interfaces(&self) -> Result<Vec<String>, ViewError> {
        Ok(["lo", "eth0", "mgmt0"].map(str::to_owned).into())
    }
    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ViewError> {
        match name {
            "db.example" => Ok(vec![address("2001:db8::50"), address("192.0.2.50")]),
            "broken.example" => Err(ViewError::new("the name broken.example", io::ErrorKind::TimedOut.into())),
            _ => Ok(Vec::new()),
        }
    }
    fn network_mount_addresses(&self) -> Result<Vec<IpAddr>, ViewError> {
        Ok(vec![address("198.51.100.9")])
    }
}

impl Protection for Paper {
    fn process(&self, _: &Process) -> Option<String> {
        None
    }
    fn networks(&self) -> Vec<Network> {
        Network::parse("203.0.113.0/24").into_iter().collect()
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
