//! Ctrl-C as a flag that every wait looks at, so that whoever waits unwinds and cleans up; it ends nothing by itself at first.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// From here on the first SIGINT or SIGTERM sets the flag, and the second ends the process.
pub fn install() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let listening = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(listening);
    let listen = async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nending; again to leave at once");
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(listen))?;
    Ok(())
}

pub fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}

/// An error once somebody asked to end.
pub fn check() -> Result<()> {
    if asked() {
        bail!("interrupted");
    }
    Ok(())
}

/// Asks a child to end as we were asked: at a terminal it heard the Ctrl-C itself, elsewhere it did not.
pub fn pass_on(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        kill(Pid::from_raw(pid), Signal::SIGINT).ok();
    }
}
