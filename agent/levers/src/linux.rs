//! Hands on a Linux host: groups, workers, signals, knobs, packet rules. It records nothing: that was done before it is called.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_journal::{Ballast, ScaffoldPlace, Victim};
use agent_view::{GroupId, LinuxView, ProcessState};
use proto_model::id::InjectionId;
use rustix::process::Signal;

use crate::hands::{Hands, HandsError, Made, PathOpening, ScaffoldLeft, WorkerSpec};
use crate::path::{Packets, PathSpec, Shape};
use crate::signal::KillSignal;
use crate::spawn::Worker;
use crate::traffic::{Spared, TrafficSpec};
use crate::{ballast, groups, net, signal, tc};

/// A stopped process is looked at for so long; one that sleeps in the kernel stops later.
const STOP_LOOKED_AT: Duration = Duration::from_millis(200);
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// This host's hands, and the parent of its workers. Dropped, its workers end by themselves.
pub struct LinuxHands {
    agent: PathBuf,
    view: LinuxView,
    workers: Vec<Worker>,
    queue_by: net::QueueBy,
}

impl LinuxHands {
    /// `agent` is the program that is started as `agent worker`.
    pub fn new(agent: PathBuf) -> Self {
        Self::with_group_root(agent, Path::new(""))
    }

    /// Groups are made in this folder of each hierarchy; `LinuxView` must be told the same.
    pub fn with_group_root(agent: PathBuf, below: &Path) -> Self {
        Self {
            agent,
            view: LinuxView::with_group_root(below),
            workers: Vec::new(),
            queue_by: net::QueueBy::default(),
        }
    }

    fn let_go(&mut self, group: &GroupId) {
        self.workers
            .iter_mut()
            .filter(|worker| worker.group == *group)
            .for_each(Worker::let_go);
    }
}

impl Hands for LinuxHands {
    fn reap(&mut self) {
        self.workers.retain_mut(|worker| !worker.has_ended());
    }

    fn make_group(&mut self, group: &GroupId) -> Result<(), HandsError> {
        groups::make(self.view.hierarchies(), group)
    }

    fn start_worker(&mut self, group: &GroupId, spec: &WorkerSpec) -> Result<u32, HandsError> {
        self.reap();
        let doors = groups::doors(self.view.hierarchies(), group)?;
        let worker = Worker::start(&self.agent, group, doors, spec)?;
        let pid = worker.pid();
        self.workers.push(worker);
        Ok(pid)
    }

    fn drain_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<usize, HandsError> {
        self.let_go(group);
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        loop {
            self.reap();
            let left = self.view.hierarchies().members(group);
            let left = left.map_err(|e| HandsError::new(format!("look at group {}", group.0), std::io::Error::other(e)))?;
            if left.is_empty() || Instant::now() >= deadline {
                return Ok(left.len());
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    fn end_group(&mut self, group: &GroupId, wait_ms: u64) -> Result<bool, HandsError> {
        self.let_go(group);
        let hierarchies = self.view.hierarchies().clone();
        let ended = groups::end(&hierarchies, group, Duration::from_millis(wait_ms), || self.reap());
        self.reap();
        ended
    }

    fn remove_group(&mut self, group: &GroupId) -> Result<(), HandsError> {
        groups::remove(self.view.hierarchies(), group)
    }

    fn stop_process(&mut self, victim: &Victim) -> Result<bool, HandsError> {
        if !signal::send_to(victim, Signal::STOP, "stop", &self.view)? {
            return Ok(false);
        }
        let deadline = Instant::now() + STOP_LOOKED_AT;
        while Instant::now() < deadline {
            match signal::look(victim, &self.view) {
                Ok(None) => return Ok(false),
                Ok(Some(process)) if process.state == ProcessState::Stopped => return Ok(true),
                _ => std::thread::sleep(LOOK_PAUSE),
            }
        }
        Ok(true)
    }

    fn continue_process(&mut self, victim: &Victim) -> Result<bool, HandsError> {
        signal::send_to(victim, Signal::CONT, "continue", &self.view)
    }

    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, HandsError> {
        signal::send_to(victim, signal.number(), &format!("send {signal} to"), &self.view)
    }

    fn write_knob(&mut self, path: &str, value: &str) -> Result<(), HandsError> {
        groups::write_group_value(Path::new(path), value).map_err(|e| HandsError::new(format!("write {value:?} to {path}"), e))
    }

    fn make_ballast(&mut self, ballast: &Ballast) -> Result<Made, HandsError> {
        ballast::make(&ballast.path, ballast.device).map_err(|e| HandsError::new(format!("make {}", ballast.path.display()), e))
    }

    fn grow_ballast(&mut self, ballast: &Ballast, bytes: u64) -> Result<bool, HandsError> {
        ballast::grow(ballast, bytes).map_err(|e| HandsError::new(format!("give {} {bytes} bytes", ballast.path.display()), e))
    }

    fn remove_ballast(&mut self, ballast: &Ballast) -> Result<bool, HandsError> {
        ballast::remove(ballast).map_err(|e| HandsError::new(format!("remove {}", ballast.path.display()), e))
    }

    fn remove_moved_ballast(&mut self, ballast: &Ballast, volume: &Path, name: Option<&Path>) -> Result<bool, HandsError> {
        let deed = || format!("remove {}, which was moved", ballast.path.display());
        ballast::remove_moved(ballast, volume, name).map_err(|e| HandsError::new(deed(), e))
    }

    fn add_traffic(&mut self, injection: &InjectionId, spec: &TrafficSpec, spared: &Spared) -> Result<(), HandsError> {
        net::add_traffic(injection, spec, spared, &mut self.queue_by)
    }

    fn renew_traffic(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        net::renew_traffic(injection, gate_ms)
    }

    fn replace_peers(&mut self, injection: &InjectionId, spec: &TrafficSpec) -> Result<(), HandsError> {
        net::replace_peers(injection, spec)
    }

    fn remove_traffic(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        net::remove_traffic(injection)
    }

    fn remove_idle_table(&mut self) -> Result<bool, HandsError> {
        net::remove_idle_table()
    }

    fn make_scaffold(&mut self, place: &ScaffoldPlace) -> Result<(), HandsError> {
        tc::make_scaffold(place)
    }

    fn remove_scaffold(&mut self, place: &ScaffoldPlace) -> Result<ScaffoldLeft, HandsError> {
        tc::remove_scaffold(place)
    }

    fn make_path(&mut self, injection: &InjectionId, shape: &Shape) -> Result<(), HandsError> {
        tc::make_path(injection, shape)
    }

    fn open_path(&mut self, injection: &InjectionId, spec: &PathSpec, opening: &PathOpening) -> Result<(), HandsError> {
        tc::open_path(injection, spec, opening)
    }

    fn renew_path(&mut self, injection: &InjectionId, gate_ms: u64) -> Result<(), HandsError> {
        tc::renew_path(injection, gate_ms)
    }

    fn replace_path_peers(&mut self, injection: &InjectionId, packets: &Packets, spared: &Spared) -> Result<(), HandsError> {
        tc::replace_path_peers(injection, packets, &spared.networks)
    }

    fn close_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        tc::close_path(injection)
    }

    fn drain_path(&mut self, injection: &InjectionId, wait_ms: u64) -> Result<u64, HandsError> {
        tc::drain_path(injection, wait_ms)
    }

    fn remove_path(&mut self, injection: &InjectionId) -> Result<bool, HandsError> {
        tc::remove_path(injection)
    }
}
