//! What the rest of the agent may ask of the warden, and how long it waits; nothing here touches the host.

use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use proto_model::doctor::HostDoctor;
use proto_model::id::{InjectionId, PlanDigest, RunId};
use proto_model::injection::{
    AgentReport, CleanProof, Cleanliness, EndedBy, InjectionState, PreflightAnswer, UndoAnswer, UndoFailed, Wish,
};
use serde::{Deserialize, Serialize};

/// Commands that may wait for the warden; one more is answered `Busy`.
pub const QUEUE: usize = 256;
/// How long the blocking calls wait for an answer: longer than any undo may take before it counts as failed.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// An order to hold one fault; the warden decides.
#[derive(Debug, Clone, PartialEq)]
pub struct StartOrder {
    pub injection: InjectionId,
    pub run: RunId,
    pub lease_ms: u64,
    pub plan_digest: PlanDigest,
    /// What is to be held, as preflight asks for it.
    pub wish: Wish,
}

/// An injection that the agent still owes something for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryItem {
    pub injection: InjectionId,
    pub run: String,
    pub state: InjectionState,
    /// Ended, and its end is not yet settled.
    pub finished: bool,
}

/// Injections undone because of a halt, and those that could not be (yet).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltAnswer {
    pub undone: u32,
    pub failed: u32,
}

/// Why nothing may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halted {
    /// `host`: released there by `fracas-agent release`; `controller`: released by `fracas release`.
    pub latch: HaltLatch,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HaltLatch {
    Host,
    Controller,
}

/// One injection as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActiveInjection {
    pub injection: InjectionId,
    pub run: String,
    pub fault: String,
    pub state: InjectionState,
    /// Milliseconds until its duration is over.
    pub left_ms: u64,
    /// Milliseconds until its lease is over.
    pub lease_left_ms: u64,
}

/// The agent at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    pub cleanliness: Cleanliness,
    /// In words: what is left behind when dirty, what could not be looked at when unproven.
    pub residue: Vec<String>,
    pub halted: Option<Halted>,
    /// The newest epoch of a controller's halt seen by this agent.
    pub halt_epoch: u64,
    pub active: Vec<ActiveInjection>,
    /// Ended injections whose end the controller has not settled.
    pub unsettled: u32,
    pub guarded: bool,
    pub boot_id: String,
    pub boot_ms: u64,
}

/// Why an answer did not come.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WardenError {
    #[error("the warden has {QUEUE} commands waiting")]
    Busy,
    #[error("the warden has ended")]
    Gone,
    #[error("the warden did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Timeout,
    #[error("the undo failed at attempt {}: {}: {}", .0.attempt, .0.undo, .0.error)]
    UndoFailed(UndoFailed),
    #[error("{0}")]
    Refused(String),
}

/// Where an answer goes; called on the warden's thread, so it must not block.
pub type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// Everything that may be asked. What becomes of a start arrives as reports.
pub enum Command {
    Start(StartOrder, Reply<()>),
    /// Answered only after the effect is gone, or after the undo counts as failed.
    Stop(InjectionId, EndedBy, Reply<Result<UndoAnswer, WardenError>>),
    Renew(Vec<InjectionId>, u64),
    Preflight(Vec<Wish>, Reply<Vec<PreflightAnswer>>),
    Verify(Vec<InjectionId>, Reply<CleanProof>),
    Halt {
        epoch: u64,
        reason: String,
        reply: Reply<HaltAnswer>,
    },
    Release {
        epoch: u64,
    },
    LocalHalt {
        reason: String,
        reply: Reply<HaltAnswer>,
    },
    LocalRelease(Reply<Result<(), WardenError>>),
    Settle(Vec<InjectionId>),
    Inventory(Reply<Vec<InventoryItem>>),
    Unsettled(Reply<Vec<AgentReport>>),
    Status(Reply<AgentStatus>),
    /// What this host can do.
    Doctor(Reply<HostDoctor>),
    Controllers(Vec<SocketAddr>),
    /// A person answers for this dirty host in their name.
    Accept {
        by: String,
        reason: String,
    },
    /// Undoes everything with this cause, then ends the warden.
    Shutdown(EndedBy, Reply<HaltAnswer>),
}

/// A clonable way to the warden. `send` never blocks; the other methods wait at most `ANSWER_WITHIN`.
#[derive(Clone)]
pub struct WardenHandle {
    commands: SyncSender<Command>,
}

impl WardenHandle {
    /// A way to whoever serves the other end: the warden's thread, or a test's own.
    pub fn new(commands: SyncSender<Command>) -> Self {
        Self { commands }
    }

    /// Queues a command; an asynchronous caller puts a oneshot sender into its reply.
    pub fn send(&self, command: Command) -> Result<(), WardenError> {
        self.commands.try_send(command).map_err(|e| match e {
            TrySendError::Full(_) => WardenError::Busy,
            TrySendError::Disconnected(_) => WardenError::Gone,
        })
    }

    /// Queues a command, and waits for room; for a thread that has nothing else to do.
    pub fn send_waiting(&self, command: Command) -> Result<(), WardenError> {
        self.commands.send(command).map_err(|_| WardenError::Gone)
    }

    /// Returns when the order has been decided; the result is in the reports.
    pub fn start(&self, order: StartOrder) -> Result<(), WardenError> {
        self.ask(|reply| Command::Start(order, reply))
    }

    pub fn stop(&self, injection: InjectionId, cause: EndedBy) -> Result<UndoAnswer, WardenError> {
        self.ask(|reply| Command::Stop(injection, cause, reply))?
    }

    /// The right to hold these for `lease_ms` from now.
    pub fn renew(&self, injections: &[InjectionId], lease_ms: u64) -> Result<(), WardenError> {
        self.send(Command::Renew(injections.to_vec(), lease_ms))
    }

    pub fn preflight(&self, wishes: Vec<Wish>) -> Result<Vec<PreflightAnswer>, WardenError> {
        self.ask(|reply| Command::Preflight(wishes, reply))
    }

    pub fn verify(&self, injections: Vec<InjectionId>) -> Result<CleanProof, WardenError> {
        self.ask(|reply| Command::Verify(injections, reply))
    }

    pub fn halt(&self, epoch: u64, reason: &str) -> Result<HaltAnswer, WardenError> {
        let reason = reason.to_owned();
        self.ask(|reply| Command::Halt { epoch, reason, reply })
    }

    pub fn release(&self, epoch: u64) -> Result<(), WardenError> {
        self.send(Command::Release { epoch })
    }

    pub fn local_halt(&self, reason: &str) -> Result<HaltAnswer, WardenError> {
        let reason = reason.to_owned();
        self.ask(|reply| Command::LocalHalt { reason, reply })
    }

    pub fn local_release(&self) -> Result<(), WardenError> {
        self.ask(Command::LocalRelease)?
    }

    /// The controller has these ends durably; they may be forgotten here.
    pub fn settle(&self, injections: &[InjectionId]) -> Result<(), WardenError> {
        self.send(Command::Settle(injections.to_vec()))
    }

    pub fn inventory(&self) -> Result<Vec<InventoryItem>, WardenError> {
        self.ask(Command::Inventory)
    }

    /// Every recorded report of an injection not yet settled, in order; to be sent again after a reconnection.
    pub fn unsettled_reports(&self) -> Result<Vec<AgentReport>, WardenError> {
        self.ask(Command::Unsettled)
    }

    pub fn status(&self) -> Result<AgentStatus, WardenError> {
        self.ask(Command::Status)
    }

    /// Addresses that no network fault may cut from now on.
    pub fn set_controllers(&self, controllers: Vec<SocketAddr>) -> Result<(), WardenError> {
        self.send(Command::Controllers(controllers))
    }

    pub fn accept(&self, by: &str, reason: &str) -> Result<(), WardenError> {
        self.send(Command::Accept {
            by: by.to_owned(),
            reason: reason.to_owned(),
        })
    }

    pub fn shutdown(&self, cause: EndedBy) -> Result<HaltAnswer, WardenError> {
        self.ask(|reply| Command::Shutdown(cause, reply))
    }

    fn ask<T: Send + 'static>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, WardenError> {
        let (sender, receiver) = sync_channel(1);
        let reply: Reply<T> = Box::new(move |answer| drop(sender.try_send(answer)));
        self.send(command(reply))?;
        receiver.recv_timeout(ANSWER_WITHIN).map_err(|e| match e {
            std::sync::mpsc::RecvTimeoutError::Timeout => WardenError::Timeout,
            std::sync::mpsc::RecvTimeoutError::Disconnected => WardenError::Gone,
        })
    }
}
