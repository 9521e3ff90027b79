//! Ctrl-C and termination, from the moment a run may exist; an interrupt that came early is not lost.

use std::io::IsTerminal;

use proto_model::exit;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// What asked this program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    Keyboard,
    Termination,
}

impl Interrupt {
    /// What a shell expects of a program ended by this signal.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Keyboard => 130,
            Self::Termination => 143,
        }
    }
}

/// What an interrupt means for the run that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// Stop the run and wait for the proof.
    Stop,
    /// Leave; the run goes on.
    Leave,
}

impl OnInterrupt {
    /// At a terminal a person means the run; a pipeline must say so.
    pub fn of_a_start(asked: bool) -> Self {
        if asked || std::io::stdin().is_terminal() {
            Self::Stop
        } else {
            Self::Leave
        }
    }
}

pub struct Interrupts {
    keyboard: Signal,
    termination: Signal,
}

impl Interrupts {
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(exit::ERROR, "local", format!("cannot listen for signals: {error}")));
        Ok(Self {
            keyboard: listen(SignalKind::interrupt())?,
            termination: listen(SignalKind::terminate())?,
        })
    }

    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            _ = self.keyboard.recv() => Interrupt::Keyboard,
            _ = self.termination.recv() => Interrupt::Termination,
        }
    }
}
