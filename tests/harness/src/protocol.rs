//! What the runner says to a host's first process and what it hears back; one message of JSON per packet.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::groups::Group;

/// All that makes one host differ from another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HostSpec {
    pub name: String,
    pub machine_id: String,
    pub boot_id: String,
    pub neighbours: Vec<Neighbour>,
    /// This host's group in each hierarchy of the machine.
    pub groups: Vec<Group>,
    /// Folders of the machine that stay writable inside; everything else of it is read-only.
    pub writable: Vec<PathBuf>,
}

/// A host of the fleet as all of them know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Neighbour {
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// A program to run, with nothing inherited but what is named.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Program {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Run `ip -batch` with these lines in the network namespace.
    Ip {
        batch: String,
    },
    /// Run once. Carries standard input, output, error, and the pipe that gets an [`Ended`].
    Exec {
        program: Program,
    },
    /// Keep running. Carries the log.
    Start {
        service: String,
        program: Program,
    },
    /// End it kindly and do not start it again.
    Stop {
        service: String,
    },
    /// Kill its first process; `again` says whether the supervisor may start it anew.
    Kill {
        service: String,
        again: bool,
    },
    Signal {
        pid: i32,
        signal: i32,
    },
    Services,
    Processes,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Pid(i32),
    Services(Vec<ServiceState>),
    Processes(Vec<ProcessState>),
}

pub type Reply = Result<Answer, String>;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    Code(i32),
    Signal(i32),
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceState {
    pub name: String,
    /// The first process; none while it is down.
    pub pid: Option<i32>,
    /// All processes of its group, as the host numbers them.
    pub pids: Vec<i32>,
    pub starts: u32,
    pub last_end: Option<Ended>,
    /// Whether the supervisor would start it again.
    pub kept: bool,
}

/// One process as the host's own /proc shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessState {
    pub pid: i32,
    pub parent: i32,
    pub name: String,
    /// The kernel's letter: R S D T t Z I.
    pub state: char,
    pub command: Vec<String>,
}
