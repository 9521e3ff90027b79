//! The agent's eyes: what the host is and does, read from /proc, /sys and netlink; it writes nothing.

mod ability;
mod addresses;
mod cpu;
mod distribution;
mod facts;
mod handles;
pub mod hierarchy;
mod host_view;
mod linux;
mod listeners;
mod memory;
mod mounts;
pub mod net;
mod notes;
mod process;
mod queues;
pub mod tc;
mod text;
mod volumes;

pub use ability::{Feature, Presence};
pub use handles::{FileFound, anchor, handle_of, open_by_handle};
pub use hierarchy::UnifiedGroup;
pub use host_view::{CpuTicks, GroupId, HostView, Listener, PacketQueue, PassedTraffic, Process, ProcessState, TrafficCounters, ViewError};
pub use linux::{LinuxView, boot_ms};
pub use memory::{Memory, ProcessMemory};
pub use notes::PAGE as NOTE_PAGE;
pub use tc::{Clsact, PathCounters, PathInterface, PathThing};
pub use volumes::{FileSeen, Volume};
