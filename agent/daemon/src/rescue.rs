//! `rescue`, `halt` and `release` on the host itself, with or without an agent; they never start anything.

use std::process::ExitCode;
use std::time::Duration;

use agent_warden::{Rescued, Rescuer, engage_host_file, host_latch, release_host_file, rescue};
use anyhow::Context;
use proto_model::injection::EndedBy;

use crate::here::{Here, need_root, own_program};
use crate::local::Ask;
use crate::places::Places;
use crate::talk::{self, Answer};

/// How long to wait for a journal that an agent or a guardian holds, and for an undo that fails.
const PATIENCE: Duration = Duration::from_secs(15);

/// Undoes every open journal; success only when nothing is left.
pub fn rescue_all(places: &Places, ended_by: EndedBy) -> anyhow::Result<ExitCode> {
    need_root()?;
    let rescued = undo_under_lock(places, ended_by)?;
    print(&rescued);
    Ok(code(rescued.is_clean()))
}

fn undo_under_lock(places: &Places, ended_by: EndedBy) -> anyhow::Result<Rescued> {
    let mut here = Here::open(places, own_program())?;
    let rescuer = Rescuer {
        ended_by,
        name: "rescue",
        patience: PATIENCE,
    };
    rescue(&here.journal_store, here.hands.as_mut(), here.view.as_ref(), rescuer).context("list the journals")
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
    if rescued.undone.is_empty() && rescued.spent.is_empty() && rescued.left.is_empty() {
        println!("nothing to undo");
    }
}

/// The latch first, so that nothing starts whatever comes next; then the agent undoes, or we do, also when the disk takes no latch.
pub fn halt(places: &Places, reason: &str) -> anyhow::Result<ExitCode> {
    need_root()?;
    let latched = latch(places, reason);
    if let Err(error) = &latched {
        eprintln!("the halt is not on disk, and holds no longer than the agent runs: {error:#}");
    }
    let ask = Ask::Halt { reason: reason.to_owned() };
    match talk::ask(places, &ask) {
        Ok(Answer::Halted(answer)) => {
            println!("halted   undone {}, failed {}", answer.undone, answer.failed);
            Ok(code(answer.failed == 0 && latched.is_ok()))
        }
        Ok(other) => anyhow::bail!("the agent answered a halt with {other:?}"),
        Err(error) => {
            eprintln!("no agent answers ({error:#}); undoing here");
            let rescued = undo_under_lock(places, EndedBy::LocalHalt)?;
            print(&rescued);
            if latched.is_ok() {
                println!("halted   nothing starts until `fracas-agent release`");
            }
            Ok(code(rescued.is_clean() && latched.is_ok()))
        }
    }
}

fn latch(places: &Places, reason: &str) -> anyhow::Result<()> {
    places.make()?;
    let file = host_latch(&places.state_dir);
    engage_host_file(&file, reason).with_context(|| format!("write {}", file.display()))
}

fn code(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub fn release(places: &Places) -> anyhow::Result<ExitCode> {
    need_root()?;
    if let Ok(Answer::Refused(message)) = talk::ask(places, &Ask::Release) {
        anyhow::bail!("{message}");
    }
    let file = host_latch(&places.state_dir);
    release_host_file(&file).with_context(|| format!("remove {}", file.display()))?;
    println!("released");
    Ok(ExitCode::SUCCESS)
}
