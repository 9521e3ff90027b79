//! The one thread on which the warden lives; it sleeps until a command comes or something is due.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use agent_journal::JournalError;

use crate::handle::{Command, QUEUE, WardenHandle};
use crate::warden::{Parts, Warden};

const STACK_BYTES: usize = 512 * 1024;

/// Why there is no warden.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("read the journals of earlier injections")]
    Journals(#[from] JournalError),
    #[error("start the warden's thread")]
    Thread(#[source] std::io::Error),
}

/// Undoes what an earlier process left, then serves commands on a thread of its own.
///
/// The thread ends after `Command::Shutdown`, or when every handle is gone: then everything is undone first.
pub fn spawn(parts: Parts) -> Result<(WardenHandle, JoinHandle<()>), SpawnError> {
    let (sender, receiver) = sync_channel(QUEUE);
    let warden = Warden::new(parts)?;
    let thread = std::thread::Builder::new()
        .name("warden".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || serve(warden, &receiver))
        .map_err(SpawnError::Thread)?;
    Ok((WardenHandle::new(sender), thread))
}

fn serve(mut warden: Warden, commands: &Receiver<Command>) {
    let mut abandoned = false;
    while !warden.has_left() {
        warden.tick();
        match commands.recv_timeout(Duration::from_millis(warden.idle_ms())) {
            Ok(command) => warden.command(command),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if abandoned => std::thread::sleep(Duration::from_millis(warden.idle_ms())),
            Err(RecvTimeoutError::Disconnected) => {
                abandoned = true;
                warden.command(Command::Shutdown(proto_model::injection::EndedBy::Rescue, Box::new(drop)));
            }
        }
    }
    warden.leave();
}
