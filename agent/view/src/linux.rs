//! A Linux host, seen through /proc, /sys and netlink; nothing here writes.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use crate::ability::{Feature, Features, Presence};
use crate::addresses::Resolver;
use crate::clock::boot_ms;
use crate::cpu::CpuTicks;
use crate::error::ViewError;
use crate::handles::FileFound;
use crate::hierarchy::{GroupId, Hierarchies, UnifiedGroup};
use crate::host_view::HostView;
use crate::listeners::Listener;
use crate::memory::{Memory, ProcessMemory};
use crate::net::TrafficCounters;
use crate::process::{Process, ProcessStat};
use crate::queues::PacketQueue;
use crate::tc::{PathCounters, PathInterface, PathThing};
use crate::threads::ThreadTime;
use crate::volumes::{FileSeen, Volume};
use crate::{
    ability, addresses, bounded, cpu, facts, handles, host_mounts, listeners, memory, mounts, net, notes, process, processes, queues, tc,
    text, threads, units, volumes,
};

/// This host.
#[derive(Clone)]
pub struct LinuxView {
    below: PathBuf,
    hierarchies: Hierarchies,
    boot_id: String,
    resolver: Option<Arc<dyn Resolver>>,
    worker_uid: Option<u32>,
}

impl LinuxView {
    /// Groups of ours lie at the root of each hierarchy.
    pub fn new() -> Self {
        Self::with_group_root(Path::new(""))
    }

    /// Groups of ours lie in this folder of each hierarchy, so that several hosts can share one kernel.
    pub fn with_group_root(below: &Path) -> Self {
        let below = below.strip_prefix("/").unwrap_or(below);
        ability::clock::watch();
        let boot_id = text::read_if_there("/proc/sys/kernel/random/boot_id")
            .ok()
            .flatten()
            .unwrap_or_default();
        Self {
            below: below.to_owned(),
            hierarchies: Hierarchies::detect(below).unwrap_or_default(),
            boot_id: boot_id.trim().to_owned(),
            resolver: None,
            worker_uid: None,
        }
    }

    /// The same view, where workers of ours run as this user.
    #[must_use]
    pub fn with_worker_uid(self, uid: u32) -> Self {
        Self {
            worker_uid: Some(uid),
            ..self
        }
    }

    /// The same view, with names that are resolved by another process: what name servers send is not read with root's rights.
    #[must_use]
    pub fn with_resolver(self, resolver: Arc<dyn Resolver>) -> Self {
        Self {
            resolver: Some(resolver),
            ..self
        }
    }

    /// The same view, with threads for looks that may hang: when the first of them is due, the host may have no process id left for one.
    /// A process that gives up rights does so before, since rights are kept for each thread.
    #[must_use]
    pub fn with_helper(self) -> Self {
        bounded::prepare();
        self
    }

    pub fn hierarchies(&self) -> &Hierarchies {
        &self.hierarchies
    }

    /// Those of the host's facts, which change more often than the others and are read for less.
    pub fn addresses(&self) -> Vec<IpAddr> {
        facts::addresses()
    }
}

impl Default for LinuxView {
    fn default() -> Self {
        Self::new()
    }
}

impl Features for LinuxView {
    fn presence(&self, feature: Feature) -> Presence {
        ability::presence(feature, &self.hierarchies)
    }
}

impl HostView for LinuxView {
    fn boot_ms(&self) -> u64 {
        boot_ms()
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }

    fn facts(&self) -> HostFacts {
        facts::facts(&self.hierarchies, &self.boot_id)
    }

    fn processes(&self) -> Result<Vec<Process>, ViewError> {
        processes::processes()
    }

    fn process(&self, pid: u32) -> Result<Option<Process>, ViewError> {
        processes::process_in_time(pid)
    }

    fn process_stat(&self, pid: u32) -> Result<Option<ProcessStat>, ViewError> {
        process::stat(pid)
    }

    fn listeners(&self) -> Result<Vec<Listener>, ViewError> {
        listeners::listeners()
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn worker_uid(&self) -> Option<u32> {
        self.worker_uid
    }

    fn cpu_ticks(&self) -> Result<Vec<CpuTicks>, ViewError> {
        cpu::ticks()
    }

    fn usable_cpus(&self) -> Result<Vec<u32>, ViewError> {
        cpu::usable()
    }

    fn cpu_quota(&self) -> Option<f64> {
        self.hierarchies.cpu_quota()
    }

    fn our_groups(&self) -> Result<Vec<GroupId>, ViewError> {
        if self.hierarchies.used().is_empty() {
            // Not to know where groups are is not to have none.
            return Hierarchies::detect(&self.below)?.our_groups();
        }
        self.hierarchies.our_groups()
    }

    fn group_root(&self) -> String {
        let below = self.below.display().to_string();
        if below.is_empty() { below } else { format!("/{below}") }
    }

    fn group_members(&self, group: &GroupId) -> Result<Vec<u32>, ViewError> {
        self.hierarchies.members(group)
    }

    fn unified_group(&self, path: &str) -> Result<Option<UnifiedGroup>, ViewError> {
        self.hierarchies.unified_group(path)
    }

    fn thread_times(&self, pid: u32) -> Result<Vec<ThreadTime>, ViewError> {
        threads::thread_times(pid)
    }

    fn unit_alias(&self, unit: &str) -> Option<String> {
        units::alias_of(unit)
    }

    fn group_cpu_usec(&self, group: &GroupId) -> Result<Option<u64>, ViewError> {
        self.hierarchies.cpu_usec(group)
    }

    fn knob(&self, path: &str) -> Result<Option<String>, ViewError> {
        let read = text::read_if_there(path)?;
        Ok(read.map(|text| text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)))
    }

    fn memory(&self) -> Result<Memory, ViewError> {
        memory::memory(&self.hierarchies)
    }

    fn process_memory(&self, pid: u32) -> Result<Option<ProcessMemory>, ViewError> {
        memory::of_process(pid)
    }

    fn oom_kills(&self, group: &GroupId) -> Result<u64, ViewError> {
        memory::oom_kills(&self.hierarchies, group)
    }

    fn volume(&self, path: &Path) -> Result<Option<Volume>, ViewError> {
        volumes::volume(path)
    }

    fn host_may_write(&self, path: &Path) -> bool {
        host_mounts::may_write(path)
    }

    fn settle(&self, path: &Path) -> bool {
        volumes::settle(path)
    }

    fn file(&self, path: &Path) -> Result<Option<FileSeen>, ViewError> {
        volumes::file(path)
    }

    fn file_by_handle(&self, volume: &Path, near: &Path, kind: i32, bytes: &[u8]) -> Result<Option<FileFound>, ViewError> {
        handles::file_by_handle(volume, near, kind, bytes)
    }

    fn traffic(&self, injection: &InjectionId) -> Result<Option<TrafficCounters>, ViewError> {
        net::traffic(injection)
    }

    fn our_traffic(&self) -> Result<Vec<InjectionId>, ViewError> {
        net::our_traffic()
    }

    fn our_table(&self) -> Result<bool, ViewError> {
        net::our_table()
    }

    fn packet_queues(&self) -> Result<Vec<PacketQueue>, ViewError> {
        queues::queues()
    }

    fn worker_note(&self, pid: u32) -> Result<Option<String>, ViewError> {
        notes::note(pid)
    }

    fn path_interfaces(&self, peers: &[Network], named: Option<&str>) -> Result<Vec<PathInterface>, ViewError> {
        tc::interfaces_to(peers, named)
    }

    fn path(&self, injection: &InjectionId) -> Result<Option<PathCounters>, ViewError> {
        tc::counters(injection)
    }

    fn our_paths(&self) -> Result<Vec<PathThing>, ViewError> {
        tc::our_paths()
    }

    fn interfaces(&self) -> Result<Vec<String>, ViewError> {
        addresses::interfaces()
    }

    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ViewError> {
        addresses::resolve_by(self.resolver.as_deref(), name)
    }

    fn network_mount_addresses(&self) -> Result<Vec<IpAddr>, ViewError> {
        Ok(mounts::network_addresses(&mounts::mounts()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_states_its_facts() {
        let view = LinuxView::new();
        let facts = view.facts();
        assert!(
            !facts.hostname.is_empty() && !facts.kernel.is_empty() && !facts.os.is_empty(),
            "{facts:?}"
        );
        assert!(facts.cpus > 0 && facts.memory_bytes > 1024 * 1024, "{facts:?}");
        assert_eq!(facts.boot_id.len(), 36);
        assert_eq!(facts.boot_id, view.boot_id());
    }

    #[test]
    fn the_clock_runs_and_knobs_read_without_their_newline() {
        let view = LinuxView::new();
        assert!(view.boot_ms() > 0 && view.boot_ms() <= boot_ms());
        assert_eq!(view.knob("/proc/sys/kernel/ostype").unwrap().as_deref(), Some("Linux"));
        assert_eq!(view.knob("/proc/sys/no/such/knob").unwrap(), None);
        assert!(view.network_mount_addresses().is_ok());
    }

    #[test]
    fn a_group_that_is_not_there_is_empty_and_unaccounted() {
        let view = LinuxView::new();
        let group = GroupId::of(&InjectionId::generate());
        assert!(view.group_members(&group).unwrap().is_empty());
        assert_eq!(view.group_cpu_usec(&group).unwrap(), None);
        assert!(!view.our_groups().unwrap().contains(&group));
    }
}
