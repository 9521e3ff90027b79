//! The agent's eyes: what the host is and does, read from /proc, /sys and netlink; it writes nothing.

mod host_view;

pub use host_view::{CpuTicks, GroupId, HostView, Listener, PassedTraffic, Process, ProcessState, TrafficCounters, ViewError};
