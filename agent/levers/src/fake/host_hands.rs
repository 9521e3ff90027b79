//! Changing a fake host: every deed is a step before and a step after, so that a suite can end the process at either.

use std::io;
use std::path::Path;

use agent_journal::{Ballast, ScaffoldPlace, Victim};
use agent_view::{FileFound, GroupId, Process, ProcessState, TrafficCounters};
use proto_model::id::InjectionId;

use super::{AGENT_PID, FakeHost, State, Traffic};
use crate::hands::{Hands, HandsError, Made, PathOpening, ScaffoldLeft, WorkerSpec};
use crate::path::{Packets, PathSpec, Shape};
use crate::signal::KillSignal;
use crate::traffic::{Spared, TrafficSpec};

impl FakeHost {
    fn deed<T>(&self, deed: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T, HandsError> {
        let crashed = |e| HandsError::new(deed, io::Error::other(e));
        self.plan.pass(&format!("before: {deed}")).map_err(crashed)?;
        let done = {
            let mut state = self.state();
            let done = act(&mut state).map_err(|e| HandsError::new(deed, e))?;
            state.deeds.push(deed.to_owned());
            done
        };
        self.plan.pass(&format!("after: {deed}")).map_err(crashed)?;
        Ok(done)
    }

    /// A deed that takes something back: the one that is to fail does nothing.
    fn undo<T>(&self, deed: &str, act: impl FnOnce(&mut State) -> io::Result<T>) -> Result<T, HandsError> {
        self.deed(deed, |state| {
            state.undo_calls += 1;
            if state.failing_undo == Some(state.undo_calls) {
                state.failing_undo = None;
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            act(state)
        })
    }
}

fn absent(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {what}"))
}

/// The process, if it is still the one that is meant.
fn same<'a>(state: &'a mut State, victim: &Victim) -> Option<&'a mut Process> {
    state.processes.get_mut(&victim.pid).filter(|p| p.start_time == victim.start_time)
}

impl Hands for FakeHost {
    fn make_group(&mut self, group: &GroupId) -> Result<(), HandsError> {
        self.deed(&format!("make group {}", group.0), |state| {
            state.groups.entry(group.clone()).or_default();
            Ok(())
        })
    }

    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, HandsError> {
        self.deed(&format!("start a worker in {}", group.0), |state| {
            let pid = state.next_pid;
            let members = &mut state.groups.get_mut(group).ok_or_else(|| absent("such group"))?.members;
            members.insert(pid);
            state.next_pid += 1;
            state.workers.insert(pid, spec.clone());
            state.processes.insert(pid, worker(pid, state.boot_ms, group));
            Ok(pid)
        })
    }

    fn drain_group(&mut self, group: &GroupId, _wait_ms: u64) -> Result<usize, HandsError> {
        self.undo(&format!("drain group {}", group.0), |state| {
            for pid in state.groups.get(group).map(|g| g.members.clone()).unwrap_or_default() {
                state.end(pid);
            }
            Ok(0)
        })
    }

    fn end_group(&mut self, group: &GroupId, _wait_ms: u64) -> Result<bool, HandsError> {
        self.undo(&format!("end group {}", group.0), |state| {
            let Some(found) = state.groups.get(group) else { return Ok(false) };
            for pid in found.members.clone() {
                state.end(pid);
            }
            Ok(true)
        })
    }

    fn remove_group(&mut self, group: &GroupId) -> Result<(), HandsError> {
        self.undo(&format!("remove group {}", group.0), |state| {
            if state.groups.get(group).is_some_and(|g| !g.members.is_empty()) {
                return Err(io::ErrorKind::ResourceBusy.into());
            }
            state.groups.remove(group);
            Ok(())
        })
    }

    fn stop_process(&mut self, victim: &Victim) -> Result<bool, HandsError> {
        self.deed(&format!("stop {} (pid {})", victim.name, victim.pid), |state| {
            let child = state.forks.remove(&victim.pid);
            let Some(process) = same(state, victim) else { return Ok(false) };
            process.state = ProcessState::Stopped;
            state.processes.extend(child.map(|child| (child.pid, child)));
            Ok(true)
        })
    }

    fn continue_process(&mut self, victim: &Victim) -> Result<bool, HandsError> {
        self.undo(&format!("continue {} (pid {})", victim.name, victim.pid), |state| {
            let Some(process) = same(state, victim) else { return Ok(false) };
            if process.state == ProcessState::Stopped {
                process.state = ProcessState::Sleeping;
            }
            Ok(true)
        })
    }

    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, HandsError> {
        self.deed(&format!("send {signal} to {} (pid {})", victim.name, victim.pid), |state| {
            if same(state, victim).is_none() {
                return Ok(false);
            }
            let ignored = signal != KillSignal::Kill && state.stubborn.contains(&victim.pid);
            if !ignored {
                state.end(victim.pid);
            }
            Ok(true)
        })
    }

    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), HandsError> {
        self.undo(&format!("write {value:?} to {path}"), |state| {
            let knob = state.knobs.get_mut(path).ok_or_else(|| absent("such knob"))?;
            value.clone_into(knob);
            Ok(())
        })
    }

    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, HandsError> {
        self.deed(&format!("make {}", ballast.path.display()), |state| {
            state.goods.make_file(&ballast.path)
        })
    }

    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, HandsError> {
        self.deed(&format!("grow {}", ballast.path.display()), |state| {
            state.goods.grow_file(&ballast.path, ballast.inode, bytes)
        })
    }

    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, HandsError> {
        self.undo(&format!("remove {}", ballast.path.display()), |state| {
            Ok(state.goods.remove_file(&ballast.path, ballast.inode))
        })
    }

    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, HandsError> {
        self.undo(&format!("remove {}, which was moved", ballast.path.display()), |state| {
            let handle = ballast.handle.as_ref();
            let found = handle.and_then(|handle| state.goods.by_handle(volume, &handle.bytes));
            let is_it = |found: &&FileFound| Some(found.seen.inode) == ballast.inode && found.path.as_deref() == name;
            Ok(match (found.as_ref().filter(is_it), name) {
                (Some(_), Some(name)) => state.goods.remove_file(name, ballast.inode),
                _ => false,
            })
        })
    }

    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, spared: &Spared) -> Result<(), HandsError> {
        self.deed(&format!("add the network rules of {injection}"), |state| {
            if state.traffic.contains_key(injection) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let traffic = Traffic {
                spec: spec.clone(),
                spared: spared.clone(),
                gate_until_ms: state.boot_ms + spec.gate_ms,
                counters: TrafficCounters::default(),
            };
            state.traffic.insert(injection.clone(), traffic);
            state.table = true;
            Ok(())
        })
    }

    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        self.deed(&format!("keep the network rules of {injection}"), |state| {
            let now = state.boot_ms;
            let traffic = state.traffic.get_mut(injection).filter(|t| t.gate_until_ms > now);
            traffic.ok_or_else(|| absent("open gate"))?.gate_until_ms = now + gate_ms;
            Ok(())
        })
    }

    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), HandsError> {
        self.deed(&format!("replace the peers of {injection}"), |state| {
            let traffic = state.traffic.get_mut(injection).ok_or_else(|| absent("such rules"))?;
            traffic.spec.peers.clone_from(&spec.peers);
            traffic.spec.except.clone_from(&spec.except);
            traffic.spec.groups.clone_from(&spec.groups);
            Ok(())
        })
    }

    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        self.undo(&format!("remove the network rules of {injection}"), |state| {
            Ok(state.traffic.remove(injection).is_some())
        })
    }

    fn remove_idle_table(&mut self) -> Result<bool, HandsError> {
        self.deed("remove our idle packet table", |state| {
            state.table &= !state.traffic.is_empty();
            Ok(!state.table)
        })
    }

    fn make_scaffold(&mut self, place: &ScaffoldPlace) -> Result<(), HandsError> {
        self.deed(&format!("add a clsact to {}", place.interface), |state| state.make_scaffold(place))
    }

    fn remove_scaffold(&mut self, place: &ScaffoldPlace) -> Result<ScaffoldLeft, HandsError> {
        let deed = format!("remove the clsact of {}", place.interface);
        self.undo(&deed, |state| Ok(state.remove_scaffold(place)))
    }

    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), HandsError> {
        self.deed(&format!("make the path of {injection}"), |state| state.make_path(injection, shape))
    }

    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), HandsError> {
        let deed = format!("lead packets into the path of {injection}");
        self.deed(&deed, |state| state.open_path(injection, spec, opening))
    }

    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        self.deed(&format!("keep the path of {injection}"), |state| {
            state.renew_path(injection, gate_ms)
        })
    }

    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, spared: &Spared) -> Result<(), HandsError> {
        let deed = format!("replace the peers of the path of {injection}");
        self.deed(&deed, |state| state.replace_path_peers(injection, packets, spared))
    }

    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        self.undo(&format!("close the path of {injection}"), |state| Ok(state.close_path(injection)))
    }

    fn drain_path(&mut self, injection: &InjectionId, _wait_ms: u64) -> Result<u64, HandsError> {
        self.undo(&format!("empty the path of {injection}"), |state| {
            Ok(state.paths.get(injection).map_or(0, |path| path.counters.waiting_packets))
        })
    }

    fn remove_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        self.undo(&format!("remove the path of {injection}"), |state| {
            Ok(state.paths.remove(injection).is_some())
        })
    }
}

fn worker(pid: u32, boot_ms: u64, group: &GroupId) -> Process {
    Process {
        pid,
        start_time: boot_ms / 10,
        parent: AGENT_PID,
        name: "fracas-agent".to_owned(),
        exe: Some("/usr/bin/fracas-agent".to_owned()),
        command_line: vec![group.0.clone(), "worker".to_owned()],
        uid: 0,
        real_uid: 0,
        user: Some("root".to_owned()),
        state: ProcessState::Running,
        our_program: true,
        kernel_thread: false,
        groups: vec![format!("/{}", group.0)],
        unified: Some(format!("/{}", group.0)),
    }
}
