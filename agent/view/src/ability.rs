//! Whether this host has what kinds stand on: powers, groups, parts of the kernel, a clock. It changes nothing; no module is loaded to find out.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::hierarchy::Hierarchies;
use crate::tc::bpf::Program;
use crate::text;

/// More of the kernel's list of symbols is not read.
const SYMBOLS_LIMIT: u64 = 64 * 1024 * 1024;
/// Bits of the capability sets, from include/uapi/linux/capability.h.
const CAP_KILL: u32 = 5;
const CAP_NET_ADMIN: u32 = 12;

/// A symbol of kernels whose rules count a group's level from the root of the asker's own namespace, and not from the host's.
const COUNTS_WITHIN: &str = "nft_socket_cgroup_subtree_level";
/// The inode of the namespace of groups that a host starts with: PROC_CGROUP_INIT_INO of include/linux/proc_ns.h.
const FIRST_NAMESPACE: u64 = 0xeffffffb;
const SOCKETS: &[Part] = &[part("nft_socket", "nft_socket_eval")];

/// Something that a host has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    Root,
    /// The power to signal any process.
    Kill,
    /// The power to change the network.
    NetAdmin,
    /// Control groups that we may make groups in.
    Groups,
    /// nf_tables, with comparing, counting and sets.
    PacketRules,
    /// Choosing packets by chance, in the rules.
    RandomRules,
    /// Handing packets to a process: NFQUEUE.
    PacketQueues,
    /// Choosing packets by the group (cgroup v2) of whose socket they are.
    SocketGroups,
    Netem,
    Tbf,
    Ifb,
    Clsact,
    ClsBpf,
    /// Loading programs for filters, one that asks for the boot time, and finding them again.
    BpfPrograms,
    Mirred,
    /// A clock that somebody keeps right.
    Clock,
}

/// A part of the kernel: its module, and the beginning of a symbol that only it has.
struct Part {
    module: &'static str,
    symbol: &'static str,
}

const fn part(module: &'static str, symbol: &'static str) -> Part {
    Part { module, symbol }
}

impl Feature {
    pub const ALL: [Self; 16] = [
        Self::Root,
        Self::Kill,
        Self::NetAdmin,
        Self::Groups,
        Self::PacketRules,
        Self::RandomRules,
        Self::PacketQueues,
        Self::SocketGroups,
        Self::Netem,
        Self::Tbf,
        Self::Ifb,
        Self::Clsact,
        Self::ClsBpf,
        Self::BpfPrograms,
        Self::Mirred,
        Self::Clock,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Kill => "cap_kill",
            Self::NetAdmin => "cap_net_admin",
            Self::Groups => "cgroups",
            Self::PacketRules => "nf_tables",
            Self::RandomRules => "nft_numgen",
            Self::PacketQueues => "nfqueue",
            Self::SocketGroups => "nft_socket",
            Self::Netem => "sch_netem",
            Self::Tbf => "sch_tbf",
            Self::Ifb => "ifb",
            Self::Clsact => "clsact",
            Self::ClsBpf => "cls_bpf",
            Self::BpfPrograms => "bpf",
            Self::Mirred => "act_mirred",
            Self::Clock => "clock",
        }
    }

    /// What it is for, in words.
    pub fn says(self) -> &'static str {
        match self {
            Self::Root => "acting on the whole host",
            Self::Kill => "signals to processes of others",
            Self::NetAdmin => "rules for packets",
            Self::Groups => "workers in groups of their own",
            Self::PacketRules => "choosing packets, and dropping or rejecting them",
            Self::RandomRules => "choosing packets by chance",
            Self::PacketQueues => "holding packets in a worker (the engine without netem)",
            Self::SocketGroups => "choosing the packets of one unit or group",
            Self::Netem => "shaping packets in the kernel",
            Self::Tbf => "limiting bandwidth in the kernel",
            Self::Ifb => "a place for shaped packets beside their interface",
            Self::Clsact => "filters that send packets there",
            Self::ClsBpf => "filters that are programs",
            Self::BpfPrograms => "filters that end by themselves",
            Self::Mirred => "sending packets from one interface to another",
            Self::Clock => "times in reports, and certificates",
        }
    }

    /// The ways in which a kernel can have it, and the parts of each; none for what is no part of the kernel.
    fn ways(self) -> &'static [&'static [Part]] {
        const RULES: &[Part] = &[part("nf_tables", "nf_tables_newtable")];
        const RANDOM: &[Part] = &[part("nft_numgen", "nft_ng_random_")];
        const QUEUES: &[Part] = &[part("nfnetlink_queue", "nfqnl_"), part("nft_queue", "nft_queue_eval")];
        const OLD_QUEUES: &[Part] = &[
            part("nfnetlink_queue", "nfqnl_"),
            part("xt_NFQUEUE", "nfqueue_tg"),
            part("nft_compat", "nft_target_"),
        ];
        const SOCKETS_WITHIN: &[Part] = &[part("nft_socket", COUNTS_WITHIN)];
        const NETEM: &[Part] = &[part("sch_netem", "netem_")];
        const TBF: &[Part] = &[part("sch_tbf", "tbf_")];
        const IFB: &[Part] = &[part("ifb", "ifb_xmit")];
        const CLSACT: &[Part] = &[part("sch_ingress", "clsact_")];
        const BPF: &[Part] = &[part("cls_bpf", "cls_bpf_")];
        const MIRRED: &[Part] = &[part("act_mirred", "tcf_mirred_")];
        match self {
            Self::Root | Self::Kill | Self::NetAdmin | Self::Groups | Self::BpfPrograms | Self::Clock => &[],
            Self::PacketRules => &[RULES],
            Self::RandomRules => &[RANDOM],
            Self::PacketQueues => &[QUEUES, OLD_QUEUES],
            Self::SocketGroups => &[SOCKETS, SOCKETS_WITHIN],
            Self::Netem => &[NETEM],
            Self::Tbf => &[TBF],
            Self::Ifb => &[IFB],
            Self::Clsact => &[CLSACT],
            Self::ClsBpf => &[BPF],
            Self::Mirred => &[MIRRED],
        }
    }
}

/// Whether it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "presence", rename_all = "snake_case")]
pub enum Presence {
    Present,
    /// Not in the running kernel; loaded by it when it is first used.
    Loadable,
    Absent {
        why: String,
        /// The command that mends it.
        mend: Option<String>,
    },
    /// It could not be looked at, or the look says nothing.
    Unknown {
        why: String,
    },
}

impl Presence {
    fn absent(why: impl Into<String>, mend: impl Into<Option<String>>) -> Self {
        Self::Absent {
            why: why.into(),
            mend: mend.into(),
        }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    /// Of several that are needed together, the one that says most against it.
    fn worst(all: impl Iterator<Item = Self>) -> Self {
        all.max_by_key(Self::rank).unwrap_or(Self::Present)
    }

    /// Of several of which one is enough, the first that says least against it.
    fn best(all: impl Iterator<Item = Self>) -> Self {
        all.min_by_key(Self::rank).unwrap_or(Self::Present)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Present => 0,
            Self::Loadable => 1,
            Self::Unknown { .. } => 2,
            Self::Absent { .. } => 3,
        }
    }
}

pub(crate) fn presence(feature: Feature, hierarchies: &Hierarchies) -> Presence {
    match feature {
        Feature::Root => root(),
        Feature::Kill => power(CAP_KILL, "CAP_KILL"),
        Feature::NetAdmin => power(CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        Feature::Groups => groups(hierarchies),
        Feature::BpfPrograms => programs(),
        Feature::SocketGroups => socket_groups(hierarchies),
        Feature::Clock => clock(),
        _ => {
            let kernel = Kernel::here();
            let way = |parts: &&'static [Part]| Presence::worst(parts.iter().map(|part| of_kernel(part, &kernel)));
            Presence::best(feature.ways().iter().map(way))
        }
    }
}

fn root() -> Presence {
    if rustix::process::geteuid().is_root() {
        return Presence::Present;
    }
    Presence::absent("this process is not root", "sudo fracas-agent doctor".to_owned())
}

fn power(bit: u32, name: &str) -> Presence {
    let status = text::read_if_there("/proc/self/status").ok().flatten().unwrap_or_default();
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()) {
        None => Presence::unknown("this process's powers cannot be read from /proc/self/status"),
        Some(set) if set >> bit & 1 == 1 => Presence::Present,
        Some(_) => Presence::absent(
            format!("this process lacks {name}"),
            format!("systemctl edit fracas-agent, and let CapabilityBoundingSet= have {name}"),
        ),
    }
}

fn groups(hierarchies: &Hierarchies) -> Presence {
    let Some(first) = hierarchies.used().first() else {
        let mend = "mount -t cgroup2 none /sys/fs/cgroup".to_owned();
        return Presence::absent("no control groups are mounted", mend);
    };
    let read_only = |root: &Path| rustix::fs::access(root, rustix::fs::Access::WRITE_OK).is_err();
    match hierarchies.used().iter().find(|h| h.root.exists() && read_only(&h.root)) {
        Some(closed) => Presence::absent(
            format!("groups cannot be made in {}", closed.root.display()),
            format!("mount -o remount,rw {}", closed.root.display()),
        ),
        None if first.root.exists() => Presence::Present,
        None => Presence::absent(format!("{} does not exist", first.root.display()), None),
    }
}

/// The hierarchy whose groups sockets remember, and the rules that ask them.
fn socket_groups(hierarchies: &Hierarchies) -> Presence {
    if hierarchies.unified().is_none() {
        let mend = "boot with systemd.unified_cgroup_hierarchy=1".to_owned();
        return Presence::absent("the unified hierarchy of groups (cgroup v2) is not mounted", mend);
    }
    let kernel = Kernel::here();
    let rules = Presence::worst(SOCKETS.iter().map(|part| of_kernel(part, &kernel)));
    match std::fs::metadata("/proc/thread-self/ns/cgroup").map(|namespace| namespace.ino()) {
        Ok(FIRST_NAMESPACE) => rules,
        _ if rules != Presence::Present => rules,
        _ => match kernel.symbols {
            Some(symbols) if symbols.contains(COUNTS_WITHIN) => rules,
            Some(_) => {
                let why = "this agent lives in a namespace of groups of its own, and this kernel counts levels from the host's root";
                Presence::absent(why, "run fracas-agent in the host's own cgroup namespace".to_owned())
            }
            None => Presence::unknown("from where this kernel counts the levels of groups cannot be read from /proc/kallsyms"),
        },
    }
}

/// Loads one that no packet ever meets: it is gone with its descriptor.
fn programs() -> Presence {
    match Program::try_out() {
        Ok(()) => Presence::Present,
        Err(error) => {
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let mend =
                denied.then(|| "systemctl edit fracas-agent, and let CapabilityBoundingSet= have CAP_SYS_ADMIN and CAP_BPF".to_owned());
            Presence::absent(
                format!("the kernel takes no program of ours for filters, or does not find it again: {error}"),
                mend,
            )
        }
    }
}

/// What the kernel's own discipline says; nothing is set.
fn clock() -> Presence {
    // SAFETY: timex is plain data for which zero is a valid value; with `modes` zero adjtimex only fills it in.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&mut timex)
    };
    match state {
        libc::TIME_ERROR => {
            let mend = Distribution::here().installs("chrony");
            Presence::absent("the kernel says that nobody keeps the clock right", mend)
        }
        -1 => Presence::unknown(format!("the clock's state cannot be read: {}", std::io::Error::last_os_error())),
        _ => Presence::Present,
    }
}

/// What is known of the running kernel's parts.
struct Kernel {
    release: String,
    /// Beginnings of symbols that were found; `None` when the list cannot be read.
    symbols: Option<&'static BTreeSet<&'static str>>,
    /// The modules that are installed for it; `None` when their folder cannot be read.
    modules: Option<String>,
    /// That folder is there, and closed to everybody, as systemd's ProtectKernelModules= makes it.
    hidden: bool,
    may_load: bool,
}

impl Kernel {
    fn here() -> Self {
        let read = |path: &str| text::read_if_there(path).ok().flatten();
        let release = read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let listed = |file: &str| read(&format!("/lib/modules/{release}/{file}"));
        let modules = match (listed("modules.dep"), listed("modules.builtin")) {
            (None, None) => None,
            (loadable, builtin) => Some(loadable.unwrap_or_default() + &builtin.unwrap_or_default()),
        };
        Self {
            symbols: symbols(),
            modules,
            hidden: std::fs::metadata("/lib/modules").is_ok_and(|found| found.mode() & 0o777 == 0),
            may_load: read("/proc/sys/kernel/modules_disabled").is_none_or(|text| text.trim() != "1"),
            release,
        }
    }
}

/// Built-in parts never change while this process lives, and loaded ones are seen in /sys/module.
fn symbols() -> Option<&'static BTreeSet<&'static str>> {
    static FOUND: OnceLock<Option<BTreeSet<&'static str>>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let list = File::open("/proc/kallsyms").ok()?;
            symbols_in(BufReader::new(list.take(SYMBOLS_LIMIT)))
        })
        .as_ref()
}

fn symbols_in(list: impl BufRead) -> Option<BTreeSet<&'static str>> {
    let wanted: Vec<&str> = Feature::ALL
        .iter()
        .flat_map(|f| f.ways())
        .copied()
        .flatten()
        .map(|part| part.symbol)
        .collect();
    let (mut found, mut any) = (BTreeSet::new(), false);
    for line in list.split(b'\n') {
        let line = line.ok()?;
        let Some(name) = line.split(|byte| *byte == b' ').nth(2) else {
            continue;
        };
        any = true;
        found.extend(wanted.iter().filter(|symbol| name.starts_with(symbol.as_bytes())));
    }
    any.then_some(found)
}

fn of_kernel(part: &Part, kernel: &Kernel) -> Presence {
    let loaded = Path::new("/sys/module").join(part.module).exists();
    if loaded || kernel.symbols.is_some_and(|symbols| symbols.contains(part.symbol)) {
        return Presence::Present;
    }
    let (module, release) = (part.module, &kernel.release);
    match &kernel.modules {
        Some(listed) if lists(listed, module) && kernel.may_load => Presence::Loadable,
        Some(listed) if lists(listed, module) => {
            let why = format!("{module} is not loaded, and this kernel loads no more modules (kernel.modules_disabled)");
            Presence::absent(why, "reboot".to_owned())
        }
        Some(_) => Presence::absent(
            format!("kernel {release} has no {module}, and no such module is installed"),
            Distribution::here().kernel_modules(release),
        ),
        None if kernel.hidden => Presence::unknown(format!(
            "the modules of kernel {release} are hidden from this agent: systemctl edit fracas-agent, and set ProtectKernelModules=no"
        )),
        None if kernel.symbols.is_some() => Presence::absent(
            format!("{module} is not in the running kernel {release}, and no modules are installed for it (/lib/modules/{release})"),
            Distribution::here().kernel_modules(release),
        ),
        None => Presence::unknown(format!(
            "neither the symbols of kernel {release} (/proc/kallsyms) nor its modules (/lib/modules/{release}) can be read"
        )),
    }
}

/// Whether a list of module files names this one; files may be compressed, and `-` and `_` are the same.
fn lists(files: &str, module: &str) -> bool {
    let same = |name: &str| name.replace('-', "_") == module.replace('-', "_");
    let paths = files.lines().filter_map(|line| line.split(':').next());
    paths
        .filter_map(|path| path.rsplit('/').next()?.split_once(".ko"))
        .any(|(name, _)| same(name))
}

#[cfg(test)]
mod tests;
