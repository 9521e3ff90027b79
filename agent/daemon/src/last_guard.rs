//! `rescue --watch`: the last guard, which the service manager keeps while there are journals; it undoes them when no agent runs.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use proto_model::injection::EndedBy;

use crate::host_context::need_root;
use crate::instance_lock;
use crate::paths::Paths;
use crate::rescue::undo_under_lock;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// An agent that is started again is back sooner, and undoes what its predecessor left.
const WITHOUT_AGENT: Duration = Duration::from_secs(3);
/// Between two tries of what cannot be undone yet; the pause doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Ends when there is no journal.
pub fn watch(paths: &Paths) -> anyhow::Result<ExitCode> {
    need_root()?;
    let mut alone_since = None;
    let mut pause = LOOK_EVERY;
    while has_journals(&paths.journal())? {
        if instance_lock::is_held(&paths.instance_lock()) {
            alone_since = None;
            pause = LOOK_EVERY;
        } else if alone_since.get_or_insert_with(Instant::now).elapsed() >= WITHOUT_AGENT {
            pause = (pause * 2).min(LONGEST_PAUSE);
            undo(paths);
        }
        std::thread::sleep(pause);
    }
    Ok(ExitCode::SUCCESS)
}

/// Journals that are closed wait for an agent, which reports their end. One that another process holds waits for the next try: the process
/// may be an agent that has just begun.
fn undo(paths: &Paths) {
    match undo_under_lock(paths, EndedBy::Rescue, Duration::ZERO) {
        Ok(rescued) => {
            if !rescued.undone.is_empty() {
                tracing::warn!(undone = rescued.undone.len(), "no agent runs: what it held is undone");
            }
            for (id, why) in &rescued.left {
                tracing::error!(injection = %id, why, "no agent runs, and this cannot be undone yet");
            }
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "no agent runs, and nothing can be undone yet"),
    }
}

fn has_journals(folder: &Path) -> anyhow::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("read {}", folder.display())),
    }
}
