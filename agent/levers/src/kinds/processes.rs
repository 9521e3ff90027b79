//! Processes of others: stopped and let go on, or sent a signal for good.

use std::fmt;
use std::time::{Duration, Instant};

use agent_journal::UndoOutcome;
#[cfg(any(test, feature = "fake"))]
use agent_view::Process;
use agent_view::ProcessState;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::{Lever, UndoContext, UndoError};
use crate::clean_check::{CleanCheck, Recorded, TouchedResource};
use crate::error::OpsError;
#[cfg(any(test, feature = "fake"))]
use crate::fake::{FakeHost, State as FakeState};
use crate::levers::{LeverError, Levers};
use crate::linux::LinuxOps;
use crate::signal::{self, KillSignal, Victim, same_process};

/// A stopped process is looked at for so long; one that sleeps in the kernel stops later.
const STOP_LOOKED_AT: Duration = Duration::from_millis(200);
const LOOK_PAUSE: Duration = Duration::from_millis(2);
/// How often a continued process is looked at, and how long apart, before it counts as still stopped.
const RESUME_LOOKS: u32 = 20;
const RESUME_PAUSE: Duration = Duration::from_millis(5);

/// Let these go on, each only if it is still the same process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeProcesses {
    pub victims: Vec<Victim>,
}

/// Signals to processes of others.
pub trait ProcessOps {
    /// SIGSTOP through a pidfd, only if it is still that process. Returns false when it is not.
    fn stop_process(&mut self, victim: &Victim) -> Result<bool, OpsError>;
    /// SIGCONT likewise.
    fn continue_process(&mut self, victim: &Victim) -> Result<bool, OpsError>;
    /// Any signal likewise. Nothing takes it back.
    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, OpsError>;
}

impl Levers<'_> {
    /// Stops these processes; returns those that were still the same and are stopped now.
    ///
    /// One that is stopped already is left out: it would be let go on at the end although we did not stop it.
    pub fn stop_processes(&mut self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let victims = self.running(victims)?;
        if victims.is_empty() {
            return Ok(victims);
        }
        self.intend(ResumeProcesses { victims: victims.clone() })?;
        let mut stopped = Vec::with_capacity(victims.len());
        for victim in victims {
            if self.ops().stop_process(&victim)? {
                stopped.push(victim);
            }
        }
        Ok(stopped)
    }

    /// Sends each of these a signal for good, declared first; returns those that were still the same and got it.
    ///
    /// One that is refused by the system stops no other; the first such answer is returned when nobody got the signal.
    pub fn kill_processes(&mut self, victims: Vec<Victim>, signal: KillSignal) -> Result<Vec<Victim>, LeverError> {
        let victims = self.living(victims)?;
        if victims.is_empty() {
            return Ok(victims);
        }
        let action = |v: &Victim| format!("{signal} was sent to {} (pid {}, start time {})", v.name, v.pid, v.start_time);
        self.declare(victims.iter().map(action).collect())?;
        let (mut got, mut failure) = (Vec::with_capacity(victims.len()), None);
        for victim in victims {
            match self.ops().signal_process(&victim, signal) {
                Ok(true) => got.push(victim),
                Ok(false) => {}
                Err(error) => drop(failure.get_or_insert(error)),
            }
        }
        match failure {
            Some(error) if got.is_empty() => Err(error.into()),
            _ => Ok(got),
        }
    }

    fn living(&self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let mut living = Vec::with_capacity(victims.len());
        for victim in victims {
            let process = same_process(self.view(), &victim)?;
            if process.is_some_and(|p| !matches!(p.state, ProcessState::Zombie | ProcessState::Dead)) {
                living.push(victim);
            }
        }
        Ok(living)
    }

    fn running(&self, victims: Vec<Victim>) -> Result<Vec<Victim>, LeverError> {
        let mut running = Vec::with_capacity(victims.len());
        for victim in victims {
            let process = same_process(self.view(), &victim)?;
            if process.is_some_and(|p| !matches!(p.state, ProcessState::Stopped | ProcessState::Zombie | ProcessState::Dead)) {
                running.push(victim);
            }
        }
        Ok(running)
    }
}

impl fmt::Display for ResumeProcesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.victims.iter().map(|v| format!("{} (pid {})", v.name, v.pid)).collect();
        write!(f, "resume {}", names.join(", "))
    }
}

impl Lever for ResumeProcesses {
    type Aim = ();

    /// Each is tried whatever becomes of the others.
    fn undo(&self, context: &mut UndoContext<'_>) -> Result<UndoOutcome, UndoError> {
        if !context.same_boot {
            return Ok(UndoOutcome::AlreadyGone);
        }
        let (mut resumed, mut by_others, mut failure) = (0, Vec::new(), None);
        for victim in &self.victims {
            match resume(victim, context) {
                Ok(Found::Resumed) => resumed += 1,
                Ok(Found::Gone) => {}
                Ok(Found::Running) if context.detect_drift => {
                    by_others.push(format!("{} (pid {}) was let go on by somebody else", victim.name, victim.pid));
                }
                Ok(Found::Running) => {}
                Ok(Found::Traced) => {
                    resumed += 1;
                    if context.detect_drift {
                        by_others.push(format!(
                            "{} (pid {}) was let go on, and a tracer of others holds it",
                            victim.name, victim.pid
                        ));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) => Err(error),
            None if !by_others.is_empty() => Ok(UndoOutcome::Drift { what: by_others }),
            None if resumed > 0 => Ok(UndoOutcome::Restored),
            None => Ok(UndoOutcome::AlreadyGone),
        }
    }

    fn touched(&self) -> Vec<TouchedResource> {
        self.victims.iter().map(touched).collect()
    }

    fn verify(&self, check: &mut CleanCheck<'_>, recorded: Recorded) {
        for victim in self.victims.iter().filter(|_| recorded.same_boot) {
            if check.is_busy(&touched(victim)) {
                continue;
            }
            let process = check.seen(same_process(check.view(), victim)).flatten();
            match process.map(|p| p.state) {
                Some(ProcessState::Stopped) => check.not_restored(format!("{} (pid {}) is still stopped", victim.name, victim.pid)),
                // Behind a tracer a stop is not seen. One that was undone is gone: the kernel ends it as SIGCONT is sent.
                Some(ProcessState::Traced) if !recorded.undone => check.unknown(format!(
                    "whether {} (pid {}) is still stopped is not known: a tracer holds it",
                    victim.name, victim.pid
                )),
                _ => {}
            }
        }
    }

    #[cfg(test)]
    fn pull_example(levers: &mut Levers<'_>) -> Result<(), LeverError> {
        let victim = |pid: u32| {
            let process = levers.view().process(pid)?.expect("it lives on an ordinary fake host");
            Ok(Victim {
                pid,
                start_time: process.start_time,
                name: process.name,
            })
        };
        let victims: Result<Vec<Victim>, LeverError> = [1_001, 1_200].into_iter().map(victim).collect();
        levers.stop_processes(victims?).map(|_| ())
    }
}

fn touched(victim: &Victim) -> TouchedResource {
    TouchedResource::Process(victim.pid, victim.start_time)
}

/// How a victim was found.
enum Found {
    Resumed,
    Gone,
    Running,
    /// By others: whether it was stopped behind that is not seen.
    Traced,
}

/// Lets it go on however it is found: a stop may still be on its way to one that runs inside the kernel, and behind a tracer it is not
/// seen. The kernel ends both as SIGCONT is sent, for every thread, whether or not the tracer passes the signal on.
fn resume(victim: &Victim, context: &mut UndoContext<'_>) -> Result<Found, UndoError> {
    let Some(process) = same_process(context.view, victim)? else {
        return Ok(Found::Gone);
    };
    if matches!(process.state, ProcessState::Zombie | ProcessState::Dead) || !context.ops.continue_process(victim)? {
        return Ok(Found::Gone);
    }
    match process.state {
        ProcessState::Stopped => wait_until_it_goes_on(victim, context),
        ProcessState::Traced => Ok(Found::Traced),
        _ => Ok(Found::Running),
    }
}

fn wait_until_it_goes_on(victim: &Victim, context: &UndoContext<'_>) -> Result<Found, UndoError> {
    for look in 0..RESUME_LOOKS {
        if look > 0 {
            std::thread::sleep(RESUME_PAUSE);
        }
        let process = same_process(context.view, victim)?;
        if process.is_none_or(|p| p.state != ProcessState::Stopped) {
            return Ok(Found::Resumed);
        }
    }
    Err(UndoError::NoEffect(format!(
        "{} (pid {}) is still stopped",
        victim.name, victim.pid
    )))
}

impl ProcessOps for LinuxOps {
    fn stop_process(&mut self, victim: &Victim) -> Result<bool, OpsError> {
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

    fn continue_process(&mut self, victim: &Victim) -> Result<bool, OpsError> {
        signal::send_to(victim, Signal::CONT, "continue", &self.view)
    }

    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, OpsError> {
        signal::send_to(victim, signal.number(), &format!("send {signal} to"), &self.view)
    }
}

/// The process, if it is still the one that is meant.
#[cfg(any(test, feature = "fake"))]
fn same<'a>(state: &'a mut FakeState, victim: &Victim) -> Option<&'a mut Process> {
    state.processes.get_mut(&victim.pid).filter(|p| p.start_time == victim.start_time)
}

#[cfg(any(test, feature = "fake"))]
impl ProcessOps for FakeHost {
    fn stop_process(&mut self, victim: &Victim) -> Result<bool, OpsError> {
        self.call(&format!("stop {} (pid {})", victim.name, victim.pid), |state| {
            let child = state.forks.remove(&victim.pid);
            let Some(process) = same(state, victim) else { return Ok(false) };
            process.state = ProcessState::Stopped;
            state.processes.extend(child.map(|child| (child.pid, child)));
            Ok(true)
        })
    }

    fn continue_process(&mut self, victim: &Victim) -> Result<bool, OpsError> {
        self.undo(&format!("continue {} (pid {})", victim.name, victim.pid), |state| {
            let Some(process) = same(state, victim) else { return Ok(false) };
            if process.state == ProcessState::Stopped {
                process.state = ProcessState::Sleeping;
            }
            Ok(true)
        })
    }

    fn signal_process(&mut self, victim: &Victim, signal: KillSignal) -> Result<bool, OpsError> {
        self.call(&format!("send {signal} to {} (pid {})", victim.name, victim.pid), |state| {
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
}
