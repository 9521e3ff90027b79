//! Waits for the signals that ask a program to end; what ending means is the program's business.

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Which signal asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Terminate,
    Interrupt,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        })
    }
}

/// Catches SIGTERM and SIGINT from the moment it is made.
#[derive(Debug)]
pub struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
}

impl Shutdown {
    /// Call it early, inside the runtime: a signal before it ends the program the plain way.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next request to end; call it again to notice an impatient second one. It is safe to drop half-way.
    pub async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.interrupt.recv() => Asked::Interrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn both_signals_are_heard_and_a_second_one_too() {
        let mut shutdown = Shutdown::listen().unwrap();
        for (name, asked) in [("TERM", Asked::Terminate), ("INT", Asked::Interrupt)] {
            let kill = std::process::Command::new("sh")
                .args(["-c", &format!("kill -{name} {}", std::process::id())])
                .status()
                .unwrap();
            assert!(kill.success());
            let heard = tokio::time::timeout(Duration::from_secs(10), shutdown.asked()).await.unwrap();
            assert_eq!(heard, asked);
        }
    }
}
