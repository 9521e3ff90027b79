//! What no fault may touch on this host, with the reason: the host's policy and what is always protected; it changes nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent_faults::Protection;
use agent_levers::Exemptions;
use agent_view::{GroupId, HostView, Process, Volume};
use proto_model::id::InjectionId;
use proto_model::peer::Network;
use proto_model::quantity::Amount;

use crate::policy::{Glob, Policy};

/// Names that keep a host reachable and its logs alive; the kernel cuts names at 15 bytes.
const ALWAYS: [&str; 12] = [
    "sshd",
    "sshd-session",
    "dbus-daemon",
    "dbus-broker",
    "dbus-broker-lau",
    "systemd-journal",
    "systemd-journald",
    "fracas-agent",
    "fracas-session",
    "fracas-worker",
    "fracas-controller",
    "fracas",
];
/// What stays free on the volumes of our own journals even where the policy keeps nothing.
const JOURNALS_KEEP: u64 = 64 << 20;
/// An agent's ancestors are followed at most so far.
const DEEPEST: usize = 64;

/// Protection as it is at this moment.
pub struct ProtectedResources<'a> {
    policy: &'a Policy,
    /// The agent and its ancestors, with words for each.
    kin: BTreeMap<u32, &'static str>,
    networks: Vec<Network>,
    /// Protected paths, each with the volume it lies on.
    paths: Vec<(PathBuf, Option<u64>)>,
    /// The volumes of our own journals.
    journals: Vec<u64>,
}

impl<'a> ProtectedResources<'a> {
    pub fn of(policy: &'a Policy, view: &dyn HostView) -> Self {
        let mounts = view.network_mount_addresses().unwrap_or_else(|error| {
            tracing::warn!(%error, "network mounts cannot be read");
            Vec::new()
        });
        let mounts = mounts.into_iter().map(Network::host);
        Self {
            policy,
            kin: kin(view),
            networks: policy.protect.networks.iter().copied().chain(mounts).collect(),
            paths: policy.protect.paths.iter().map(|path| settled(path, view)).collect(),
            journals: Vec::new(),
        }
    }

    /// The volumes of these folders always keep some room, whatever the policy says.
    pub fn with_journals(mut self, folders: &[PathBuf], view: &dyn HostView) -> Self {
        self.journals = folders.iter().filter_map(|folder| settled(folder, view).1).collect();
        self
    }

    /// The same for the levers: what the kernel's rules must leave alone.
    pub fn exemptions(&self, controllers: &[SocketAddr]) -> Exemptions {
        Exemptions {
            controllers: controllers.to_vec(),
            networks: self.networks.clone(),
            ports: self.policy.protect.ports.clone(),
        }
    }
}

/// A path with its links followed, and its volume; one that cannot be found is kept as it is written.
fn settled(path: &Path, view: &dyn HostView) -> (PathBuf, Option<u64>) {
    match view.volume(path) {
        Ok(Some(volume)) => (volume.path, Some(volume.device)),
        _ => (path.to_owned(), None),
    }
}

fn kin(view: &dyn HostView) -> BTreeMap<u32, &'static str> {
    let own = view.own_pid();
    let mut kin = BTreeMap::from([(own, "it is the agent")]);
    let mut pid = own;
    for _ in 0..DEEPEST {
        let Ok(Some(process)) = view.process(pid) else { break };
        if process.parent == 0 || kin.contains_key(&process.parent) {
            break;
        }
        pid = process.parent;
        kin.insert(pid, "the agent descends from it");
    }
    kin
}

impl Protection for ProtectedResources<'_> {
    fn process(&self, process: &Process) -> Option<String> {
        let in_part = |fits: &dyn Fn(&str) -> bool| process.groups.iter().any(|path| path.split('/').any(fits));
        if process.pid == 1 {
            return Some("it is the init process".to_owned());
        }
        if process.kernel_thread {
            return Some("it is a kernel thread".to_owned());
        }
        if let Some(reason) = self.kin.get(&process.pid) {
            return Some((*reason).to_owned());
        }
        if ALWAYS.contains(&process.name.as_str()) {
            return Some("the host needs it".to_owned());
        }
        if in_part(&is_ours) {
            return Some("it is a worker of another fault".to_owned());
        }
        let Policy { protect, .. } = self.policy;
        if let Some(glob) = protect.processes.iter().find(|glob| glob.matches(&process.name)) {
            return Some(format!("protect.processes in agent.toml has {:?}", glob.0));
        }
        let unit = protect.units.iter().find(|glob| in_part(&|part| unit_matches(glob, part)));
        unit.map(|glob| format!("protect.units in agent.toml has {:?}", glob.0))
    }

    fn networks(&self) -> Vec<Network> {
        self.networks.clone()
    }

    fn interface(&self, name: &str) -> Option<String> {
        if name == "lo" {
            return Some("it is the loopback".to_owned());
        }
        let glob = self.policy.protect.interfaces.iter().find(|glob| glob.matches(name));
        glob.map(|glob| format!("protect.interfaces in agent.toml has {:?}", glob.0))
    }

    fn port(&self, port: u16) -> Option<String> {
        if port == 22 {
            return Some("ssh listens there".to_owned());
        }
        let range = self.policy.protect.ports.iter().find(|range| range.contains(port));
        range.map(|range| format!("protect.ports in agent.toml has {range}"))
    }

    fn path(&self, path: &Path, volume: &Volume) -> Option<String> {
        let hit = |(ward, device): &&(PathBuf, Option<u64>)| path.starts_with(ward) || *device == Some(volume.device);
        let (ward, _) = self.paths.iter().find(hit)?;
        Some(format!("protect.paths in agent.toml has {}, which is there", ward.display()))
    }

    fn memory_reserve(&self) -> u64 {
        self.policy.reserve.memory.0
    }

    fn disk_reserve(&self, volume: &Volume) -> u64 {
        let reserve = &self.policy.reserve;
        let own = if self.journals.contains(&volume.device) { JOURNALS_KEEP } else { 0 };
        let share = Amount::Share(reserve.disk_percent).of(volume.total());
        reserve.disk.0.max(share).max(own)
    }
}

/// True for the name of an injection's group.
fn is_ours(part: &str) -> bool {
    part.strip_prefix(GroupId::PREFIX).is_some_and(|id| InjectionId::parse(id).is_ok())
}

fn unit_matches(glob: &Glob, part: &str) -> bool {
    glob.matches(part) || part.strip_suffix(".service").is_some_and(|bare| glob.matches(bare))
}
