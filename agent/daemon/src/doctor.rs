//! `fracas-agent doctor`: what this host can and cannot do, why not, and what mends it; it works without the agent and changes nothing.

use agent_levers::JournalStore;
use agent_view::LinuxView;
use agent_warden::{Kinds, Policy, examine};
use proto_model::doctor::{Ability, Can, HostDoctor};
use std::process::ExitCode;

use crate::options::Output;
use crate::paths::Paths;

/// Said when something that the host allows cannot be done on it.
const NOT_ALL: u8 = 1;
/// The exit code of an invalid file.
const INVALID_FILE: u8 = 3;

pub fn doctor(paths: &Paths, output: Output) -> anyhow::Result<ExitCode> {
    let policy = match Policy::load(&paths.config, &agent_faults::catalogue()) {
        Ok(policy) => policy,
        Err(error) => return Ok(proto_program::exit::failed("fracas-agent", &error, INVALID_FILE)),
    };
    let kinds = Kinds {
        find: agent_faults::find,
        catalogue: agent_faults::catalogue,
    };
    let view = LinuxView::with_group_root(&paths.group_root);
    let journal_store = open(paths);
    let told = examine(&view, &policy, kinds, journal_store.as_ref().map_err(Clone::clone));
    match output {
        Output::Json => println!(
            "{}",
            serde_json::to_string_pretty(&proto_model::document::Document::new("HostDoctor", &told))?
        ),
        Output::Table => lines(&told).iter().for_each(|line| println!("{}", line.trim_end())),
    }
    Ok(if told.can == Can::Yes {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_ALL)
    })
}

/// Folders that no agent has made yet are not made here.
fn open(paths: &Paths) -> Result<JournalStore, String> {
    if !paths.journal().is_dir() || !paths.journal_mirror().is_dir() {
        return Err(format!("no agent has run here yet: {} is not there", paths.journal().display()));
    }
    JournalStore::open(&paths.journal(), &paths.journal_mirror()).map_err(|error| error.to_string())
}

fn lines(told: &HostDoctor) -> Vec<String> {
    let mut lines = vec![format!("host      {} ({}, kernel {})", told.host, told.os, told.kernel)];
    for check in &told.checks {
        lines.extend(row(&check.name, check.ability.can.as_str(), &check.ability));
    }
    for kind in &told.kinds {
        let can = if kind.allowed { kind.ability.can.as_str() } else { "not allowed" };
        lines.extend(row(kind.fault.as_str(), can, &kind.ability));
    }
    lines.push(format!("all       {}", told.can.as_str()));
    lines
}

fn row(name: &str, can: &str, ability: &Ability) -> Vec<String> {
    let engine = ability.engine.as_ref().map(|engine| format!("by {engine}"));
    let words: Vec<String> = engine.into_iter().chain(ability.why.clone()).collect();
    let mut lines = vec![format!("{name:<20}{can:<15}{}", words.join(": "))];
    lines.extend(ability.mend.iter().map(|mend| format!("{:<20}{:<15}mended by: {mend}", "", "")));
    lines
}
