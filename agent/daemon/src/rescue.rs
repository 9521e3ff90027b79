//! `rescue`, `halt` and `release` on the host itself, with or without an agent; they never start anything.

use std::process::ExitCode;
use std::time::Duration;

use agent_warden::{Rescued, Rescuer, engage_host_file, host_latch, release_host_file, rescue};
use anyhow::Context;
use proto_model::injection::EndedBy;
use proto_program::stderr;

use crate::accounts;
use crate::host_context::{HostContext, need_root, own_program};
use crate::instance_lock;
use crate::local_client::{self, Answer};
use crate::local_server::Ask;
use crate::options::RESCUE_PATIENCE_SECONDS;
use crate::paths::Paths;

/// How long a halt waits, in all, for journals that an agent or a guardian holds, and for undos that fail.
const PATIENCE: Duration = Duration::from_secs(RESCUE_PATIENCE_SECONDS);

/// Undoes every open journal; success only when nothing is left. `patience` is for all of them together.
pub fn rescue_all(paths: &Paths, ended_by: EndedBy, patience: Duration) -> anyhow::Result<ExitCode> {
    need_root()?;
    let rescued = undo_under_lock(paths, ended_by, patience)?;
    print(&rescued);
    Ok(code(rescued.is_clean()))
}

/// The same before the program changes or goes. An agent that runs is an error, since it could start another fault: from a program that
/// is no longer installed, and after a removal with nothing left to undo it.
pub fn rescue_for_package(paths: &Paths, patience: Duration) -> anyhow::Result<ExitCode> {
    need_root()?;
    let lock = paths.instance_lock();
    instance_lock::wait_until_released(&lock, patience)?;
    let code = rescue_all(paths, EndedBy::Package, patience)?;
    // Nothing keeps a supervisor from starting one meanwhile.
    instance_lock::wait_until_released(&lock, Duration::ZERO)?;
    Ok(code)
}

/// Undoes every open journal under its lock. `patience` is how long to wait, over all journals, for those that another process holds, and to go
/// on with undos that fail.
pub(crate) fn undo_under_lock(paths: &Paths, ended_by: EndedBy, patience: Duration) -> anyhow::Result<Rescued> {
    let mut host = HostContext::open(paths, own_program(), None, accounts::workers_if_known(paths))?;
    let rescuer = Rescuer {
        ended_by,
        name: "rescue",
        patience,
    };
    rescue(&host.journal_store, host.hands.as_mut(), host.view.as_ref(), rescuer).context("list the journals")
}

fn print(rescued: &Rescued) {
    for id in &rescued.undone {
        println!("undone   {id}");
    }
    for id in &rescued.spent {
        println!("spent    {id}: what it did cannot be undone");
    }
    for (id, why) in &rescued.left {
        println!("left     {id}: {why}");
    }
    for id in &rescued.held {
        println!("left     {id}: another process holds its journal");
    }
    for what in &rescued.swept.removed {
        println!("removed  {what}: it belonged to no injection");
    }
    for why in &rescued.swept.failed {
        println!("left     {why}");
    }
    if rescued.is_clean() && rescued.undone.is_empty() && rescued.spent.is_empty() && rescued.swept.removed.is_empty() {
        println!("nothing to undo");
    }
}

/// The latch first, so that nothing starts whatever comes next; then the agent undoes, or we do, also when the disk takes no latch.
pub fn halt(paths: &Paths, reason: &str) -> anyhow::Result<ExitCode> {
    need_root()?;
    let latched = latch(paths, reason);
    if let Err(error) = &latched {
        stderr::print(&format!(
            "the halt is not on disk, and holds no longer than the agent runs: {error:#}"
        ));
    }
    let ask = Ask::Halt { reason: reason.to_owned() };
    match local_client::ask(paths, &ask) {
        Ok(Answer::Halted(answer)) => {
            println!("halted   undone {}, failed {}", answer.undone, answer.failed);
            Ok(code(answer.failed == 0 && latched.is_ok()))
        }
        Ok(other) => anyhow::bail!("the agent answered a halt with {other:?}"),
        Err(error) => {
            stderr::print(&format!("no agent answers ({error:#}); undoing here"));
            let rescued = undo_under_lock(paths, EndedBy::LocalHalt, PATIENCE)?;
            print(&rescued);
            if latched.is_ok() {
                println!("halted   nothing starts until `fracas-agent release`");
            }
            Ok(code(rescued.is_clean() && latched.is_ok()))
        }
    }
}

fn latch(paths: &Paths, reason: &str) -> anyhow::Result<()> {
    paths.make()?;
    let file = host_latch(&paths.state_dir);
    engage_host_file(&file, reason).with_context(|| format!("write {}", file.display()))
}

fn code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn release(paths: &Paths) -> anyhow::Result<ExitCode> {
    need_root()?;
    if let Ok(Answer::Refused(message)) = local_client::ask(paths, &Ask::Release) {
        anyhow::bail!("{message}");
    }
    let file = host_latch(&paths.state_dir);
    release_host_file(&file).with_context(|| format!("remove {}", file.display()))?;
    println!("released");
    Ok(ExitCode::SUCCESS)
}
