//! The list of what faults need of a host, each with its name, its use and, for parts of the kernel, the modules that provide it.

use serde::{Deserialize, Serialize};

use super::capability::Capability;

/// A symbol of kernels whose rules count a group's level from the root of the asker's own namespace, and not from the host's.
pub(super) const COUNTS_WITHIN: &str = "nft_socket_cgroup_subtree_level";
pub(super) const SOCKETS: &[Part] = &[part("nft_socket", "nft_socket_eval")];

/// Something that a host has or has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    Root,
    /// CAP_KILL.
    Kill,
    /// CAP_NET_ADMIN.
    NetAdmin,
    /// CAP_NET_RAW.
    NetRaw,
    /// CAP_SYS_PTRACE.
    Ptrace,
    /// CAP_DAC_OVERRIDE.
    DacOverride,
    /// CAP_DAC_READ_SEARCH.
    DacReadSearch,
    /// CAP_SYS_RESOURCE.
    SysResource,
    /// CAP_IPC_LOCK.
    IpcLock,
    /// CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
    ChangeUser,
    /// Control groups that we may make groups in.
    Groups,
    /// The controllers cpu and memory in those groups.
    Controllers,
    /// nf_tables, with comparing, counting and sets.
    PacketRules,
    /// Choosing packets by chance, in the rules.
    RandomRules,
    /// Handing packets to a process: NFQUEUE.
    PacketQueues,
    /// Choosing packets by the group (cgroup v2) of their socket.
    SocketGroups,
    Netem,
    Tbf,
    Ifb,
    Clsact,
    ClsBpf,
    /// Loading programs for filters, one that asks for the boot time, and finding them again.
    BpfPrograms,
    Mirred,
    /// No SELinux domain that confines this agent.
    SeLinux,
    /// No AppArmor profile that confines this agent.
    AppArmor,
    /// What the kernel's lockdown leaves.
    Lockdown,
    /// A clock that a time service keeps synchronised.
    Clock,
    /// A wall clock that is not stepped.
    ClockSteps,
    /// A guardian that can hold on to its agent: no fault is admitted without one.
    Guardian,
    /// The unit that undoes what neither agent nor guardian can.
    LastGuard,
}

/// A part of the kernel: its module, and the beginning of a symbol that only it has.
pub(super) struct Part {
    pub module: &'static str,
    pub symbol: &'static str,
}

pub(super) const fn part(module: &'static str, symbol: &'static str) -> Part {
    Part { module, symbol }
}

impl Feature {
    pub const ALL: [Self; 30] = [
        Self::Root,
        Self::Kill,
        Self::NetAdmin,
        Self::NetRaw,
        Self::Ptrace,
        Self::DacOverride,
        Self::DacReadSearch,
        Self::SysResource,
        Self::IpcLock,
        Self::ChangeUser,
        Self::Groups,
        Self::Controllers,
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
        Self::SeLinux,
        Self::AppArmor,
        Self::Lockdown,
        Self::Clock,
        Self::ClockSteps,
        Self::Guardian,
        Self::LastGuard,
    ];
    /// What may deny any action of the agent, whatever else the host has.
    pub const CONFINEMENT: [Self; 2] = [Self::SeLinux, Self::AppArmor];

    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Kill => "cap_kill",
            Self::NetAdmin => "cap_net_admin",
            Self::NetRaw => "cap_net_raw",
            Self::Ptrace => "cap_sys_ptrace",
            Self::DacOverride => "cap_dac_override",
            Self::DacReadSearch => "cap_dac_read_search",
            Self::SysResource => "cap_sys_resource",
            Self::IpcLock => "cap_ipc_lock",
            Self::ChangeUser => "cap_setuid",
            Self::Groups => "cgroups",
            Self::Controllers => "cgroup_controllers",
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
            Self::SeLinux => "selinux",
            Self::AppArmor => "apparmor",
            Self::Lockdown => "lockdown",
            Self::Clock => "clock",
            Self::ClockSteps => "clock_steps",
            Self::Guardian => "guardian",
            Self::LastGuard => "last_guard",
        }
    }

    /// What it is for, in words.
    pub fn says(self) -> &'static str {
        match self {
            Self::Root => "acting on the whole host",
            Self::Kill => "signals to processes of other users",
            Self::NetAdmin => "rules for packets",
            Self::NetRaw => "timing packets, and sending held ones on",
            Self::Ptrace => "recognising processes of other users, and reading what workers hold",
            Self::DacOverride => "files in folders of other users",
            Self::DacReadSearch => "finding a moved file again by its handle",
            Self::SysResource => "the blocks that a file system keeps for root",
            Self::IpcLock => "locked memory (memory.hog lock=true)",
            Self::ChangeUser => "workers that give up root",
            Self::Groups => "workers in groups of their own",
            Self::Controllers => "a worker's share of the processors, and kills for want of memory counted by group",
            Self::PacketRules => "choosing packets, and dropping or rejecting them",
            Self::RandomRules => "choosing packets by chance",
            Self::PacketQueues => "holding packets in a worker (where netem is missing or cannot do it)",
            Self::SocketGroups => "choosing the packets of one unit or group",
            Self::Netem => "shaping packets in the kernel",
            Self::Tbf => "limiting bandwidth in the kernel",
            Self::Ifb => "a place for shaped packets beside their interface",
            Self::Clsact => "filters that send packets there",
            Self::ClsBpf => "filters that are programs",
            Self::BpfPrograms => "filters that end by themselves",
            Self::Mirred => "sending packets from one interface to another",
            Self::SeLinux => "acting without denials by SELinux",
            Self::AppArmor => "acting without denials by AppArmor",
            Self::Lockdown => "loading modules and filter programs",
            Self::Clock => "times in reports, and the validity of certificates",
            Self::ClockSteps => "times in reports; deadlines run by the boot clock",
            Self::Guardian => "undoing what a killed or hanging agent leaves",
            Self::LastGuard => "undoing what is left when agent and guardian are killed together",
        }
    }

    /// The capabilities that it stands for; none for anything else.
    pub(super) fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Kill => &[Capability::KILL],
            Self::NetAdmin => &[Capability::NET_ADMIN],
            Self::NetRaw => &[Capability::NET_RAW],
            Self::Ptrace => &[Capability::SYS_PTRACE],
            Self::DacOverride => &[Capability::DAC_OVERRIDE],
            Self::DacReadSearch => &[Capability::DAC_READ_SEARCH],
            Self::SysResource => &[Capability::SYS_RESOURCE],
            Self::IpcLock => &[Capability::IPC_LOCK],
            Self::ChangeUser => &[Capability::SETUID, Capability::SETGID, Capability::SETPCAP],
            _ => &[],
        }
    }

    /// The alternatives by which a kernel can have it, and the parts of each; none for what is no part of the kernel.
    pub(super) fn ways(self) -> &'static [&'static [Part]] {
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
            _ => &[],
        }
    }
}
