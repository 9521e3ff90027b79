//! What faults, levers and the warden may ask of a host; implemented by Linux and by the fake host of the suites.

use std::net::IpAddr;
use std::path::Path;

use proto_model::host::HostFacts;
use proto_model::id::InjectionId;
use proto_model::peer::Network;

use crate::ability::Features;
use crate::cpu::CpuTicks;
use crate::error::ViewError;
use crate::handles::FileFound;
use crate::hierarchy::{GroupId, UnifiedGroup};
use crate::listeners::Listener;
use crate::memory::{Memory, ProcessMemory};
use crate::net::TrafficCounters;
use crate::process::{Process, ProcessStat};
use crate::queues::PacketQueue;
use crate::tc::{PathCounters, PathInterface, PathThing};
use crate::threads::ThreadTime;
use crate::volumes::{FileSeen, Volume};

/// Everything that can be seen of a host. Looking never changes it.
pub trait HostView: Features + Send + Sync {
    /// CLOCK_BOOTTIME in milliseconds.
    fn boot_ms(&self) -> u64;
    fn boot_id(&self) -> String;
    fn facts(&self) -> HostFacts;

    /// One that cannot be read in time is listed as such. Fails where that is so of too many, or the look at all takes too long.
    fn processes(&self) -> Result<Vec<Process>, ViewError>;
    /// The same of one; `None` when there is no such process.
    fn process(&self, pid: u32) -> Result<Option<Process>, ViewError>;
    /// What the kernel itself keeps of it, which never hangs; `None` when there is no such process.
    fn process_stat(&self, pid: u32) -> Result<Option<ProcessStat>, ViewError>;
    fn listeners(&self) -> Result<Vec<Listener>, ViewError>;
    /// Our own pid, as this host sees it.
    fn own_pid(&self) -> u32;
    /// The user that workers of ours become; `None` where they stay what starts them.
    fn worker_uid(&self) -> Option<u32> {
        None
    }

    /// Per online processor.
    fn cpu_ticks(&self) -> Result<Vec<CpuTicks>, ViewError>;
    /// Processors that a new process of ours may run on.
    fn usable_cpus(&self) -> Result<Vec<u32>, ViewError>;

    /// How many processors' time a new process of ours may use in all, by the quotas of groups above it; `None` without one.
    fn cpu_quota(&self) -> Option<f64> {
        None
    }

    /// Names of every group of ours that exists, whatever hierarchy it is in.
    fn our_groups(&self) -> Result<Vec<GroupId>, ViewError>;
    /// What paths of our groups begin with, as in /proc/PID/cgroup; empty where they lie at the root.
    fn group_root(&self) -> String;
    fn group_members(&self, group: &GroupId) -> Result<Vec<u32>, ViewError>;
    /// The group, anybody's, at this path of the unified hierarchy (cgroup v2); `None` when there is none.
    fn unified_group(&self, _path: &str) -> Result<Option<UnifiedGroup>, ViewError> {
        Ok(None)
    }
    /// The unit that this name of a unit is an alias of; `None` when it is none.
    fn unit_alias(&self, _unit: &str) -> Option<String> {
        None
    }
    /// Processor time used by the group, in microseconds; `None` when it does not exist or is not accounted.
    fn group_cpu_usec(&self, group: &GroupId) -> Result<Option<u64>, ViewError>;

    /// Processor time of each thread of a process; empty where nothing is told of threads.
    fn thread_times(&self, _pid: u32) -> Result<Vec<ThreadTime>, ViewError> {
        Ok(Vec::new())
    }

    /// A kernel knob or any small text file, without its last newline; `None` when it does not exist.
    fn knob(&self, path: &str) -> Result<Option<String>, ViewError>;

    /// What a new process of ours could use.
    fn memory(&self) -> Result<Memory, ViewError>;
    /// `None` when there is no such process, or it has ended.
    fn process_memory(&self, pid: u32) -> Result<Option<ProcessMemory>, ViewError>;
    /// How often the kernel has killed for want of memory: in the group where that is counted, else on the host.
    fn oom_kills(&self, group: &GroupId) -> Result<u64, ViewError>;

    /// The volume on which a path lies; `None` when there is no such path.
    fn volume(&self, path: &Path) -> Result<Option<Volume>, ViewError>;
    /// Whether the host itself may write where a path lies, although it is mounted read-only for this process.
    fn host_may_write(&self, _path: &Path) -> bool {
        false
    }
    /// Lets the volume of a path count what was written already, where its file system does so late. False when that takes too long.
    fn settle(&self, _path: &Path) -> bool {
        true
    }
    /// What lies at exactly this path, links not followed; `None` when there is nothing.
    fn file(&self, path: &Path) -> Result<Option<FileSeen>, ViewError>;
    /// The file of this handle on the volume of a folder, wherever it was moved; `None` when it is really gone. Its name is
    /// looked for in the folder `near` first, and unknown where that takes too long.
    fn file_by_handle(&self, volume: &Path, near: &Path, kind: i32, bytes: &[u8]) -> Result<Option<FileFound>, ViewError>;

    /// `None` when no rule of ours carries this id.
    fn traffic(&self, injection: &InjectionId) -> Result<Option<TrafficCounters>, ViewError>;
    /// Ids of every injection that has a rule, set or element in our table.
    fn our_traffic(&self) -> Result<Vec<InjectionId>, ViewError>;
    /// Whether our lasting table exists.
    fn our_table(&self) -> Result<bool, ViewError>;
    /// NFQUEUEs that somebody reads, anybody.
    fn packet_queues(&self) -> Result<Vec<PacketQueue>, ViewError> {
        Ok(Vec::new())
    }
    /// What a worker of ours tells of itself, for all to read; `None` when it is gone or tells nothing.
    fn worker_note(&self, _pid: u32) -> Result<Option<String>, ViewError> {
        Ok(None)
    }

    /// The interfaces that packets of these networks pass, or the named one; never loopback.
    fn path_interfaces(&self, peers: &[Network], named: Option<&str>) -> Result<Vec<PathInterface>, ViewError>;
    /// `None` when nothing of this injection's path is there.
    fn path(&self, injection: &InjectionId) -> Result<Option<PathCounters>, ViewError>;
    /// Every link, filter and scaffold of ours.
    fn our_paths(&self) -> Result<Vec<PathThing>, ViewError>;

    /// Names of the interfaces.
    fn interfaces(&self) -> Result<Vec<String>, ViewError>;
    /// Addresses a name resolves to on this host.
    fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ViewError>;
    /// Addresses that back network mounts of this host: a cut there hangs it.
    fn network_mount_addresses(&self) -> Result<Vec<IpAddr>, ViewError>;
}
