//! What no fault may touch on this host, with the reason: the host's policy and what is always protected; it changes nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use agent_faults::Protection;
use agent_levers::Exemptions;
use agent_view::{GroupId, HostView, Process, ViewError, Volume};
use proto_model::id::InjectionId;
use proto_model::peer::Network;
use proto_model::quantity::Amount;

use crate::policy::{Glob, Policy};

/// Names that keep a host reachable and its logs alive; the kernel cuts names at 15 bytes. A user may give any process such a name.
const ALWAYS: [&str; 7] = [
    "sshd",
    "sshd-session",
    "dbus-daemon",
    "dbus-broker",
    "dbus-broker-lau",
    "systemd-journal",
    "systemd-journald",
];
/// Those of sshd, of which each session has processes that run as its user.
const SSHD: [&str; 2] = ["sshd", "sshd-session"];
/// The first uid of people's accounts (UID_MIN of login.defs); services have those below.
const FIRST_USER: u32 = 1_000;
/// A uid that could not be read.
const UNREAD: u32 = u32::MAX;
/// Program files of ours, as root installs them.
const PROGRAMS: [&str; 3] = ["fracas-agent", "fracas-controller", "fracas"];
/// Names that processes of the agent's program give themselves; they count where the program cannot be read.
const TAKEN_NAMES: [&str; 2] = ["fracas-session", "fracas-worker"];
/// What stays free on the volumes of our own journals even where the policy keeps nothing.
const JOURNALS_KEEP: u64 = 64 << 20;
/// Ancestors are followed at most so far.
const DEEPEST: usize = 64;

/// Protection as it is at this moment. What cannot be read protects everything that it might have protected.
pub struct ProtectedResources<'a> {
    policy: &'a Policy,
    view: &'a dyn HostView,
    /// Below it lie the groups of our workers.
    group_root: String,
    worker_uid: Option<u32>,
    /// The agent and its ancestors, with words for each.
    kin: Result<BTreeMap<u32, &'static str>, String>,
    networks: Result<Vec<Network>, String>,
    /// Protected paths, each with its volume.
    paths: Vec<(PathBuf, Location)>,
    /// The volumes of our own journals.
    journals: Vec<Location>,
}

/// On which volume a path is.
enum Location {
    On(u64),
    /// There is no such path.
    Absent,
    /// It may be on any volume, since the look failed.
    Unknown(String),
}

impl Location {
    fn may_be_on(&self, volume: &Volume) -> bool {
        match self {
            Self::On(device) => *device == volume.device,
            Self::Absent => false,
            Self::Unknown(_) => true,
        }
    }
}

impl<'a> ProtectedResources<'a> {
    pub fn of(policy: &'a Policy, view: &'a dyn HostView) -> Self {
        let networks = |mounts: Vec<IpAddr>| -> Vec<Network> {
            let mounts = mounts.into_iter().map(Network::host);
            policy.protect.networks.iter().copied().chain(mounts).collect()
        };
        Self {
            policy,
            view,
            group_root: view.group_root(),
            worker_uid: view.worker_uid(),
            kin: kin(view).map_err(|error| in_words(&error)),
            networks: view.network_mount_addresses().map(networks).map_err(|error| in_words(&error)),
            paths: policy.protect.paths.iter().map(|path| settled(path, view)).collect(),
            journals: Vec::new(),
        }
    }

    /// The volumes of these folders always keep some room, whatever the policy says.
    pub fn with_journals(mut self, folders: &[PathBuf], view: &dyn HostView) -> Self {
        self.journals = folders.iter().map(|folder| settled(folder, view).1).collect();
        self
    }

    /// The same for the levers: what the kernel's rules must leave alone. Where the mounts are unreadable no network fault begins, and
    /// what is known is left alone all the same.
    pub fn exemptions(&self, controllers: &[SocketAddr]) -> Exemptions {
        Exemptions {
            controllers: controllers.to_vec(),
            networks: self.networks.clone().unwrap_or_else(|_| self.policy.protect.networks.clone()),
            ports: self.policy.protect.ports.clone(),
        }
    }

    /// Whether a process of such a name may be the host's own, and not one that a user has named so. In doubt it is the host's.
    fn may_be_of_host(&self, process: &Process) -> bool {
        if process.groups.iter().any(|path| is_of_users_manager(path)) {
            return false;
        }
        let uids = [process.real_uid, process.uid, process.saved_uid];
        let is_users = process.real_uid >= FIRST_USER && !uids.contains(&0) && !uids.contains(&UNREAD);
        !is_users || SSHD.contains(&process.name.as_str()) && self.is_of_roots_sshd(process)
    }

    /// A session of sshd's: root's sshd has started it, itself or by another process of the session.
    fn is_of_roots_sshd(&self, process: &Process) -> bool {
        let mut parent = process.parent;
        for _ in 0..DEEPEST {
            match self.view.process(parent) {
                Ok(Some(above)) if !SSHD.contains(&above.name.as_str()) => return false,
                Ok(Some(above)) if above.real_uid == 0 => return true,
                Ok(Some(above)) => parent = above.parent,
                Ok(None) | Err(_) => return true,
            }
        }
        true
    }
}

/// A path with its links followed, and its volume; one that cannot be found is kept as it is written.
fn settled(path: &Path, view: &dyn HostView) -> (PathBuf, Location) {
    match view.volume(path) {
        Ok(Some(volume)) => (volume.path, Location::On(volume.device)),
        Ok(None) => (path.to_owned(), Location::Absent),
        Err(error) => (path.to_owned(), Location::Unknown(in_words(&error))),
    }
}

fn in_words(error: &ViewError) -> String {
    format!("{error}: {}", error.source)
}

fn kin(view: &dyn HostView) -> Result<BTreeMap<u32, &'static str>, ViewError> {
    let own = view.own_pid();
    let mut kin = BTreeMap::from([(own, "it is the agent")]);
    let mut pid = own;
    for _ in 0..DEEPEST {
        let Some(process) = view.process_stat(pid)? else { break };
        if process.parent == 0 || kin.contains_key(&process.parent) {
            break;
        }
        pid = process.parent;
        kin.insert(pid, "the agent descends from it");
    }
    Ok(kin)
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
        match &self.kin {
            Ok(kin) => {
                if let Some(reason) = kin.get(&process.pid) {
                    return Some((*reason).to_owned());
                }
            }
            Err(why) => return Some(format!("the agent may descend from it: its ancestors cannot be read ({why})")),
        }
        if ALWAYS.contains(&process.name.as_str()) && self.may_be_of_host(process) {
            return Some("the host needs it".to_owned());
        }
        if process.groups.iter().any(|path| is_ours(path, &self.group_root)) {
            return Some("it is a worker of another fault".to_owned());
        }
        let names = || PROGRAMS.iter().chain(&TAKEN_NAMES);
        if process.our_program || names().any(|name| process.runs_installed(name)) {
            return Some("it is one of Fracas's own programs".to_owned());
        }
        let may_be_ours = process.has_user_of_workers(self.worker_uid) || names().any(|name| process.may_run_installed(name));
        if let Some(why) = process.unread.as_ref().filter(|_| may_be_ours) {
            return Some(format!("it may be one of Fracas's own programs: {why}"));
        }
        let Policy { protect, .. } = self.policy;
        if let Some(glob) = protect.processes.iter().find(|glob| glob.matches(&process.name)) {
            return Some(format!("protect.processes in agent.toml has {:?}", glob.0));
        }
        let unit = protect.units.iter().find(|glob| in_part(&|part| unit_matches(glob, part)));
        unit.map(|glob| format!("protect.units in agent.toml has {:?}", glob.0))
    }

    fn networks(&self) -> Result<Vec<Network>, String> {
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
        let hit = |(protected, location): &&(PathBuf, Location)| path.starts_with(protected) || location.may_be_on(volume);
        let (protected, location) = self.paths.iter().find(hit)?;
        let entry = format!("protect.paths in agent.toml has {}", protected.display());
        Some(match location {
            Location::Unknown(why) => format!("{entry}, whose volume cannot be read ({why})"),
            Location::On(_) | Location::Absent => format!("{entry}, which is there"),
        })
    }

    fn memory_reserve(&self) -> u64 {
        self.policy.reserve.memory.0
    }

    fn disk_reserve(&self, volume: &Volume) -> u64 {
        let reserve = &self.policy.reserve;
        let holds_journals = self.journals.iter().any(|location| location.may_be_on(volume));
        let own = if holds_journals { JOURNALS_KEEP } else { 0 };
        let share = Amount::Share(reserve.disk_percent).of(volume.total());
        reserve.disk.0.max(share).max(own)
    }
}

/// True for an injection's group and the groups below it. Only directly below the group root is the name reserved for the agent.
fn is_ours(path: &str, group_root: &str) -> bool {
    let below = path.strip_prefix(group_root).and_then(|rest| rest.strip_prefix('/'));
    let group = below.and_then(|below| below.split('/').next());
    group
        .and_then(|group| group.strip_prefix(GroupId::PREFIX))
        .is_some_and(|id| InjectionId::parse(id).is_ok())
}

/// Below a user's own service manager, where that user says what runs. Root's own is the host's.
fn is_of_users_manager(path: &str) -> bool {
    let uid = |part: &str| part.strip_prefix("user@")?.strip_suffix(".service")?.parse::<u32>().ok();
    path.split('/').any(|part| uid(part).is_some_and(|uid| uid != 0))
}

fn unit_matches(glob: &Glob, part: &str) -> bool {
    glob.matches(part) || part.strip_suffix(".service").is_some_and(|bare| glob.matches(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_injections_are_ours_directly_below_the_root_of_our_groups() {
        let ours = [
            "/fracas.slice/fracas-0123456789abcdef",
            "/fracas.slice/fracas-0123456789abcdef/below",
        ];
        assert!(ours.iter().all(|path| is_ours(path, "/fracas.slice")));
        for path in [
            "/fracas-0123456789abcdef",
            "/fracas.slice",
            "/fracas.slice/demo",
            "/fracas.slice/demo/fracas-0123456789abcdef",
            "/fracas.slicer/fracas-0123456789abcdef",
            "/user.slice/fracas.slice/fracas-0123456789abcdef",
        ] {
            assert!(!is_ours(path, "/fracas.slice"), "{path}");
        }
        assert!(is_ours("/fracas-0123456789abcdef", "") && !is_ours("/user.slice/fracas-0123456789abcdef", ""));
    }
}
